"""The .deb on a Debian 12 machine: systemd as PID 1, cgroup v2, restart, power cut, purge."""

import json
import pathlib
import re

from tests.vm.conftest import KUBECTL

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: limited}}
spec:
  containers:
    - name: c
      image: {registry}/busybox:test
      command: [sh, -c, "echo up; trap exit TERM; while :; do sleep 1000 & wait $!; done"]
      resources: {{limits: {{cpu: 500m, memory: 64Mi}}}}
"""


def _container(machine):
    return json.loads(machine.kubectl("get pod limited -o json").stdout)["status"]["containerStatuses"][0]


def test_the_life_of_an_installation(machine, registry, package):
    before = _what_is_there(machine)
    machine.install(package, KUBECTL)
    machine.ssh("systemctl enable --now skiff-control-plane")
    machine.join(machine, registry)
    machine.kubectl("wait --for=condition=Ready node/node1 --timeout=120s")

    machine.kubectl("apply -f - <<'POD'\n" + POD.format(registry=registry) + "POD")
    machine.kubectl("wait --for=condition=Ready pod/limited --timeout=240s")
    _limits_are_in_cgroup_v2(machine)
    started = _container(machine)

    machine.ssh("systemctl restart skiff-agent")
    machine.ssh("systemctl is-active skiff-agent skiff-control-plane")
    machine.kubectl("wait --for=condition=Ready node/node1 --timeout=120s")
    assert _container(machine)["containerID"] == started["containerID"]
    assert machine.kubectl("exec limited -- echo inside").stdout == "inside\n"

    machine.power_off_and_on()
    script = "until kubectl --kubeconfig /etc/skiff/admin.kubeconfig get --raw /readyz; do sleep 1; done"
    machine.ssh(f"timeout 120 sh -c '{script}'")
    machine.kubectl(f"wait --for=jsonpath={{.status.containerStatuses[0].restartCount}}=1 pod/limited --timeout=240s")
    machine.kubectl("wait --for=condition=Ready pod/limited --timeout=240s")
    # The agent may have been up before the network.
    machine.kubectl(f"wait --for=jsonpath={{.status.addresses[0].address}}={machine.address} node/node1 --timeout=120s")

    machine.ssh("dpkg --purge skiff", timeout=600)
    assert _what_is_there(machine) == before


def _limits_are_in_cgroup_v2(machine):
    pid = machine.ssh("pgrep -f 'sh -c echo up'").stdout.split()[0]
    group = machine.ssh(f"cat /proc/{pid}/cgroup").stdout.strip()
    assert group.startswith("0::/")
    folder = pathlib.PurePosixPath("/sys/fs/cgroup" + group[3:])
    assert machine.ssh(f"cat {folder}/memory.max").stdout.strip() == str(64 << 20)
    assert machine.ssh(f"cat {folder}/cpu.max").stdout.split() == ["50000", "100000"]


def _what_is_there(machine):
    """All that a purge must take away again, by name."""
    script = r"""
        ls -d /etc/skiff /var/lib/skiff /run/skiff /var/log/pods /var/log/containers /usr/libexec/skiff 2>/dev/null
        ls /sys/fs/cgroup | grep -E 'skiff|kubepods'
        ip -o link | cut -d: -f2
        ip netns
        { iptables-save; ip6tables-save; } | grep -vE '^(\*|COMMIT|:[A-Z]+ ACCEPT)'
        pgrep -l skiff
        grep -c . /proc/self/mountinfo
        systemctl list-unit-files --no-legend 'skiff*'
    """
    out = machine.ssh(script, check=False).stdout
    return [re.sub(r"\[\d+:\d+\]", "", line) for line in out.splitlines() if not line.startswith("#")]
