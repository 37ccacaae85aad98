"""The .deb on a Debian 12 machine with systemd and cgroup v2: installed, restarted, upgraded, rebooted, cut off from
power at bad moments, purged. One story: each test goes on where the one before ended."""

import json
import pathlib
import re

import pytest

from tests.support.machine import run
from tests.support.waiting import settled

HIGHER = "99.0"
PODS = """
apiVersion: v1
kind: Pod
metadata: {{name: limited}}
spec:
  containers:
    - name: c
      image: {registry}/busybox:test
      command: [sh, -c, "echo up; trap exit TERM; while :; do sleep 1000 & wait $!; done"]
      resources: {{limits: {{cpu: 500m, memory: 64Mi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: counting}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: {registry}/busybox:test
      command: [sh, -c, "n=0; while :; do echo $n; n=$((n+1)); sleep 0.2; done"]
---
apiVersion: v1
kind: Pod
metadata: {{name: mapped}}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: {registry}/busybox:test
      command: [sleep, "1000000"]
      ports: [{{containerPort: 80, hostPort: 8088}}]
---
"""
NAMES = {"limited", "counting", "mapped"}
LATE = """
apiVersion: v1
kind: Pod
metadata: {{name: late-{n}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {{name: c, image: "{registry}/{image}:test"}}
---
"""
# What the node holds for each pod and container, as a shell word that lists it.
HELD = {
    "sandboxes": "ls /run/skiff/runtime/sandboxes",
    "containers": "ls /run/skiff/runtime/containers",
    "leases": "find /run/skiff/network/leases -name '*.json'",
    "network namespaces": "ls /run/skiff/netns",
    "supervisors": "pgrep -x skiff-shim",
    "links": "ls /sys/class/net | grep ^veth",
    "cgroups": "find /sys/fs/cgroup/kubepods -type d -name 'pod*'",
    "snapshots": "ls /var/lib/skiff/images/snapshots",
}


@pytest.fixture(scope="module")
def before(machine):
    return _what_is_there(machine)


@pytest.fixture(scope="module")
def installed(before, node):
    return node


def _pods(node):
    """The pods and what their one container is, by name."""
    items = json.loads(node.kubectl("get pods -o json").stdout)["items"]
    return {item["metadata"]["name"]: item["status"]["containerStatuses"][0] for item in items}


def _held(node):
    """How many of each."""
    script = "\n".join(f"echo $({command} 2>/dev/null | wc -l)" for command in HELD.values())
    return dict(zip(HELD, map(int, node.ssh(script).stdout.split())))


def _wait_api(node):
    script = "until kubectl --kubeconfig /etc/skiff/admin.kubeconfig get --raw /readyz; do sleep 1; done"
    node.ssh(f"timeout 180 sh -c '{script}'")


def _wait_back(node, boots, others=()):
    """After a boot, of so many: every pod runs again, in the container after the last one, and so do others, which
    were under way; the images are as they were."""
    _wait_api(node)
    restarted = f"jsonpath={{.status.containerStatuses[0].restartCount}}={boots}"
    node.kubectl(f"wait --for={restarted} --timeout=240s {' '.join(f'pod/{name}' for name in sorted(NAMES))}")
    node.kubectl(f"wait --for=condition=Ready --timeout=240s {' '.join(f'pod/{name}' for name in [*NAMES, *others])}")
    # The agent may have been up before the network.
    node.kubectl(f"wait --for=jsonpath={{.status.addresses[0].address}}={node.address} node/node1 --timeout=120s")
    assert node.ssh("systemctl is-system-running", check=False).stdout.strip() == "running"
    _images_are_whole(node)


def _images_are_whole(node):
    script = "cd /var/lib/skiff/images/blobs/sha256 && for blob in *; do echo $blob $(sha256sum <$blob); done"
    blobs = [line.split()[:2] for line in node.ssh(script).stdout.splitlines()]
    assert blobs and all(name == digest for name, digest in blobs), blobs


def _holds_only(node, pods):
    """Nothing is left of pods and containers that are gone: one of each kind for each pod."""
    expected = {kind: pods for kind in HELD}
    seen = settled(lambda: _held(node), lambda held: held == expected, 60)
    assert seen == expected


def test_pods_run_within_their_limits(installed, registry):
    installed.kubectl("apply -f - <<'PODS'\n" + PODS.format(registry=registry) + "PODS")
    installed.kubectl("wait --for=condition=Ready pod --all --timeout=240s")
    pid = installed.ssh("pgrep -f '[s]h -c echo up'").stdout.split()[0]
    group = installed.ssh(f"cat /proc/{pid}/cgroup").stdout.strip()
    assert group.startswith("0::/")
    folder = pathlib.PurePosixPath("/sys/fs/cgroup" + group[3:])
    assert installed.ssh(f"cat {folder}/memory.max").stdout.strip() == str(64 << 20)
    assert installed.ssh(f"cat {folder}/cpu.max").stdout.split() == ["50000", "100000"]
    _holds_only(installed, len(NAMES))
    # The files that every pod has are its root's, also where that is another one's outside.
    script = "stat -c %u /etc/hosts /etc/hostname /etc/resolv.conf && echo more >>/etc/hostname"
    assert installed.kubectl(f"exec mapped -- sh -c '{script}'").stdout.split() == ["0"] * 3


def _stays_the_same(node, change):
    """Pods live through the change of their node: the same containers and processes, not a line of the log lost."""
    # The oldest of each: a shell that is about to start a program is two for a moment.
    processes = ("for line in '[s]h -c echo up' '[s]h -c n=0' '[s]leep 1000000'; do "
                 "ps -o pid=,args= -p $(pgrep -of \"$line\"); done")
    before, running = _pods(node), node.ssh(processes).stdout
    agent = node.ssh("systemctl show -P MainPID skiff-agent").stdout
    change()
    node.ssh("systemctl is-active skiff-agent skiff-control-plane")
    assert node.ssh("systemctl show -P MainPID skiff-agent").stdout != agent
    _wait_api(node)
    node.kubectl("wait --for=condition=Ready node/node1 --timeout=120s")
    assert node.ssh(processes).stdout == running
    after = _pods(node)
    assert {name: pod["containerID"] for name, pod in after.items()} == {
        name: pod["containerID"] for name, pod in before.items()}
    assert settled(lambda: node.kubectl("exec limited -- echo inside", check=False).stdout, bool, 60) == "inside\n"
    said = node.kubectl("logs counting").stdout.split()
    assert said == [str(n) for n in range(len(said))]
    _holds_only(node, len(NAMES))


def test_a_restart_of_the_agent(installed):
    _stays_the_same(installed, lambda: installed.ssh("systemctl restart skiff-agent"))


def test_an_upgrade(installed, package, tmp_path):
    """The agent and the control plane are the new package's, with the old one's configuration; pods do not notice."""
    run("dpkg-deb", "-R", package, tmp_path / "new")
    control = tmp_path / "new" / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {HIGHER}", control.read_text()))
    run("dpkg-deb", "-Zgzip", "-z1", "-b", tmp_path / "new", tmp_path / "new.deb", timeout=300)
    installed.put(tmp_path / "new.deb", "/root/new.deb")
    configuration = "sha256sum /etc/skiff/*"
    kept = installed.ssh(configuration).stdout
    planes = installed.ssh("systemctl show -P MainPID skiff-control-plane").stdout
    _stays_the_same(installed, lambda: installed.ssh("dpkg -i /root/new.deb", timeout=600))
    assert installed.ssh("systemctl show -P MainPID skiff-control-plane").stdout != planes
    assert installed.ssh("dpkg-query -W -f '${Version} ${Status}' skiff").stdout == f"{HIGHER} install ok installed"
    assert installed.ssh(configuration).stdout == kept
    assert installed.ssh("systemctl is-enabled skiff-agent skiff-control-plane").stdout.split() == ["enabled"] * 2


def test_a_reboot(installed):
    """In order: the pods are told to stop, and come back from what is on the disk; no image is pulled again."""
    def pulls():
        told = json.loads(installed.kubectl("get events -o json").stdout)["items"]
        return sorted((event["involvedObject"]["name"], event["count"]) for event in told if event["reason"] == "Pulling")

    before = pulls()
    installed.reboot()
    _wait_back(installed, 1)
    _holds_only(installed, len(NAMES))
    assert before and pulls() == before


def test_a_power_cut(installed):
    installed.power_off_and_on()
    _wait_back(installed, 2)
    _holds_only(installed, len(NAMES))


def test_a_power_cut_in_the_midst_of_a_pull(installed, registry):
    """What was half there is gone; the pull is made again."""
    installed.kubectl("apply -f - <<'END'\n" + LATE.format(n=0, image="nginx", registry=registry) + "END")
    installed.ssh("timeout 60 sh -c 'until [ -n \"$(ls /var/lib/skiff/images/staging)\" ]; do :; done'")
    installed.power_off_and_on()
    _wait_back(installed, 3, ["late-0"])
    assert installed.ssh("ls /var/lib/skiff/images/staging").stdout == ""
    _holds_only(installed, len(NAMES) + 1)


def test_a_power_cut_while_pods_come_and_go(installed, registry):
    late = "".join(LATE.format(n=n, image="nginx", registry=registry) for n in range(1, 4))
    installed.kubectl("apply -f - <<'END'\n" + late + "END")
    installed.kubectl("delete pod late-0 --wait=false")
    sandboxes = "ls /run/skiff/runtime/sandboxes | wc -l"
    installed.ssh(f"timeout 60 sh -c 'until [ $({sandboxes}) -gt {len(NAMES) + 1} ]; do :; done'")
    installed.power_off_and_on()
    others = {"late-1", "late-2", "late-3"}
    _wait_back(installed, 4, others)
    assert settled(lambda: set(_pods(installed)), lambda names: "late-0" not in names, 60) == NAMES | others
    _holds_only(installed, len(NAMES | others))


def test_a_purge(installed, before):
    installed.ssh("dpkg --purge skiff", timeout=600)
    assert _what_is_there(installed) == before


def _what_is_there(machine):
    """All that a purge must take away again, by name."""
    script = r"""
        ls -d /etc/skiff /var/lib/skiff /run/skiff /var/log/pods /var/log/containers /usr/libexec/skiff 2>/dev/null
        ls /sys/fs/cgroup | grep -E 'skiff|kubepods'
        ip -o link | cut -d: -f2
        ip netns
        { iptables-save; ip6tables-save; nft list tables; } | grep -vE '^(\*|COMMIT|:[A-Z]+ ACCEPT)'
        pgrep -l skiff
        grep -c . /proc/self/mountinfo
        systemctl list-unit-files --no-legend 'skiff*'
    """
    out = machine.ssh(script, check=False).stdout
    return [re.sub(r"\[\d+:\d+\]", "", line) for line in out.splitlines() if not line.startswith("#")]
