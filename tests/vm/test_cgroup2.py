"""The runtime where systemd is PID 1 and cgroups are v2: its integration tests, what limits become, and critest, with
containers made the built-in way, by runc, and by crun, which refuses machines that have cgroups of both versions."""

import json
import sys

import pytest

from tests.conformance.cri import critest, images
from tests.support.cluster import TOP
from tests.support.machine import run
from tests.vm.vm import NETNS

PROGRAMS = ["skiff-shim", "skiff-init", "skiff-pause", "skiff-cri-under-test", "runtime_test_payload"]
HANDLERS = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}
ROOT = "/var/lib/cri-test"  # on the disk: tmpfs takes no mapped ids before Linux 6.3
ENDPOINT = f"unix://{ROOT}/skiff.sock"
BUSYBOX = "registry.k8s.io/e2e-test-images/busybox:1.29-2"
# As the agent runs as a service: systemd has delegated its cgroup.
UNIT = "-p Delegate=yes -p KillMode=process"


@pytest.fixture(scope="module")
def programs(machine, build):
    """Where the build's programs are in the machine: where they are here, which the tests have compiled in."""
    folder = build / "bin"
    machine.ssh(f"mkdir -p {folder}")
    for name in PROGRAMS:
        machine.put(folder / name, folder / name)
    machine.put(build / "tests" / "runtime_kernel_test", folder / "runtime_kernel_test")
    machine.put("/bin/busybox", "/bin/busybox")
    machine.ssh(f"chmod +x {folder}/* /bin/busybox")
    return folder


@pytest.fixture(scope="module")
def server(machine, registry, programs):
    """The CRI server as a service, with critest's images to pull and crictl and critest beside it."""
    images.build_all()
    digest = images.digest_of("k8s-staging-cri-tools/test-image-digest:latest")
    run(TOP / "tests" / "tools" / "build-critest", critest.BINARIES, digest, timeout=900)
    run("ip", "netns", "exec", NETNS, sys.executable, "-m", "tests.conformance.cri.images", registry, cwd=TOP)
    for name in ["critest", "ginkgo", "crictl"]:
        machine.put(critest.BINARIES / name, f"/usr/local/bin/{name}")
    mirrors = " ".join(f"--mirror {host}=http://{registry}" for host in critest.UPSTREAM)
    handlers = " ".join(f"--runtime-handler {name}={path}" for name, path in HANDLERS.items())
    machine.ssh(f"chmod +x /usr/local/bin/*; systemd-run --quiet --unit cri-test {UNIT} "
                f"{programs}/skiff-cri-under-test --root {ROOT} --binaries {programs} {mirrors} {handlers}; "
                f"timeout 60 sh -c 'until [ -S {ROOT}/skiff.sock ]; do sleep 0.2; done'")
    yield machine
    machine.ssh("systemctl stop cri-test")


class Crictl:
    """crictl in the machine; what it makes is removed at the end."""

    def __init__(self, machine):
        self.machine = machine

    def __call__(self, words, **options):
        return self.machine.ssh(f"crictl -r {ENDPOINT} -i {ENDPOINT} {words}", **options).stdout.strip()

    def _file(self, name, content):
        self.machine.ssh(f"mkdir -p /root/crictl; cat >/root/crictl/{name}.json <<'END'\n{json.dumps(content)}\nEND")
        return f"/root/crictl/{name}.json"

    def run(self, name, linux, handler="", pod_linux=None):
        """A container that sleeps, in a pod of its own; its id."""
        pod = self._file(f"pod-{name}", {"metadata": {"name": name, "namespace": "default", "uid": name},
                                         "log_directory": "/root/crictl/logs", "linux": pod_linux or {}})
        container = self._file(name, {"metadata": {"name": name}, "image": {"image": BUSYBOX}, "log_path": f"{name}.log",
                                      "command": ["sleep", "1000000"], "linux": linux})
        return self(f"run --runtime {handler or 'skiff'} {container} {pod}").splitlines()[-1]

    def cgroup(self, container):
        """Reads a file of the container's cgroup."""
        pid = json.loads(self(f"inspect {container}"))["info"]["pid"]
        group = self.machine.ssh(f"cat /proc/{pid}/cgroup").stdout.strip()
        assert group.startswith("0::/"), group
        return lambda name: self.machine.ssh(f"cat /sys/fs/cgroup{group[3:]}/{name}").stdout.strip()


@pytest.fixture
def crictl(server):
    crictl = Crictl(server)
    crictl(f"pull {BUSYBOX}")
    yield crictl
    crictl("rmp -fa")


def test_it_is_cgroup_v2(machine):
    assert machine.ssh("stat -fc %T /sys/fs/cgroup; ps -o comm= 1").stdout.split() == ["cgroup2fs", "systemd"]


@pytest.mark.parametrize("handler", ["", *HANDLERS])
def test_the_runtime(machine, programs, handler):
    result = machine.ssh(f"systemd-run --quiet --wait --pipe {UNIT} -E SKIFF_TEST_HANDLER={handler} "
                         f"{programs}/runtime_kernel_test --gtest_color=no", check=False, timeout=1500)
    assert result.returncode == 0, "\n".join(line for line in result.stdout.splitlines() if "OK ]" not in line)[-6000:]
    assert "[  PASSED  ]" in result.stdout
    if not handler:
        assert "[  SKIPPED ]" not in result.stdout, "such a machine has all that the tests need"


@pytest.mark.parametrize("handler", ["", *HANDLERS])
def test_limits_become_files_of_v2(crictl, handler):
    """Of every kind, when the container is made and in an update; what the update does not name stays."""
    name = f"limits-{handler}"
    container = crictl.run(name, {"resources": {
        "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 1024, "cpuset_cpus": "0", "oom_score_adj": 500,
        "memory_limit_in_bytes": 64 << 20, "memory_swap_limit_in_bytes": 96 << 20,
        "hugepage_limits": [{"page_size": "2MB", "limit": 4 << 20}],
        "unified": {"memory.high": str(48 << 20), "pids.max": "77"}}}, handler)
    file = crictl.cgroup(container)
    expected = {"cpu.max": "50000 100000", "cpu.weight": "100", "cpuset.cpus": "0", "memory.max": str(64 << 20),
                "memory.swap.max": str(32 << 20), "memory.high": str(48 << 20), "pids.max": "77",
                "hugetlb.2MB.max": str(4 << 20)}
    assert {name: file(name) for name in expected} == expected
    crictl(f"update --cpu-share 2 --cpu-quota 20000 --cpu-period 100000 --memory {80 << 20} {container}")
    expected |= {"cpu.weight": "1", "cpu.max": "20000 100000", "memory.max": str(80 << 20)}
    assert {name: file(name) for name in expected} == expected


@pytest.mark.parametrize("shares, weight", [(2, 1), (100, 17), (512, 59), (1024, 100), (2048, 174), (262144, 10000)])
def test_cpu_shares_become_weights(crictl, shares, weight):
    """By the formula that makes one processor's share the weight that a cgroup has by itself."""
    container = crictl.run(f"shares-{shares}", {"resources": {"cpu_shares": shares}})
    assert crictl.cgroup(container)("cpu.weight") == str(weight)


def test_a_pod_with_users_of_its_own(crictl):
    """Its ids are others outside, and a host folder with mapped ids belongs to its root."""
    ids = [{"host_id": 300000, "container_id": 0, "length": 65536}]
    crictl.machine.ssh("mkdir -p /root/shared && touch /root/shared/of-root")
    users = {"security_context": {"namespace_options": {"userns_options": {"mode": 0, "uids": ids, "gids": ids}}}}
    pod = crictl._file("pod-mapped", {"metadata": {"name": "mapped", "namespace": "default", "uid": "mapped"},
                                      "linux": users})
    container = crictl._file("mapped", {
        "metadata": {"name": "mapped"}, "image": {"image": BUSYBOX}, "linux": users, "command": ["sleep", "1000000"],
        "mounts": [{"container_path": "/shared", "host_path": "/root/shared", "uidMappings": ids, "gidMappings": ids}]})
    made = crictl(f"run {container} {pod}").splitlines()[-1]
    assert crictl(f"exec {made} sh -c 'touch /shared/mine; stat -c %u /shared/of-root /shared/mine /bin/sh; id -u'"
                  ).split() == ["0", "0", "0", "0"]
    assert crictl.machine.ssh("stat -c %u /root/shared/mine").stdout == "0\n", "the mount's ids are mapped back"
    pid = json.loads(crictl(f"inspect {made}"))["info"]["pid"]
    assert crictl.machine.ssh(f"stat -c %u /proc/{pid}").stdout == "300000\n"


@pytest.mark.parametrize("part", ["default-1", "default-4", "runc-4", "crun-1", "crun-4"])
def test_critest(server, part):
    mode, processes = part.rsplit("-", 1)
    flags = " ".join([*critest.MODES[mode], *([] if processes == "1" else [f"--parallel={processes}"])])
    result = server.ssh(f"mkdir -p /root/{part} && cd /root/{part} && critest --ginkgo.no-color "
                        f"--ginkgo.json-report=report.json --runtime-endpoint {ENDPOINT} --image-endpoint {ENDPOINT} "
                        f"{flags}", check=False, timeout=1700)
    outcome = critest.outcome_of(part, json.loads(server.ssh(f"cat /root/{part}/report.json").stdout))
    print(f"{part}: {len(outcome.passed)} passed, {len(outcome.failed)} failed, {len(outcome.skipped)} skipped "
          f"in {outcome.seconds:.0f} s")
    missing = ["benchmark", *(["userns"] if mode in critest.OCI_RUNTIMES else [])]
    expected = critest.expected_skips(mode, missing)
    assert outcome.failed == {} and result.returncode == 0, result.stdout[-2000:]
    assert set(outcome.skipped) == set(expected) and len(outcome.passed) > 90
