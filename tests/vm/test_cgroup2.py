"""The runtime where systemd is PID 1 and cgroups are v2: its integration tests, and critest."""

import json
import sys

import pytest

from tests.conformance.cri import critest, images
from tests.support.cluster import TOP
from tests.support.machine import run
from tests.vm.vm import NETNS

PROGRAMS = ["skiff-shim", "skiff-init", "skiff-pause", "skiff-cri-under-test", "runtime_test_payload"]
SERVER = "/run/cri-test/skiff.sock"


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


def test_it_is_cgroup_v2(machine):
    assert machine.ssh("stat -fc %T /sys/fs/cgroup; ps -o comm= 1").stdout.split() == ["cgroup2fs", "systemd"]


def test_the_runtime(machine, programs):
    """As a service, whose cgroup systemd has delegated, as the agent is one."""
    result = machine.ssh("systemd-run --quiet --wait --pipe -p Delegate=yes -p KillMode=process "
                         f"{programs}/runtime_kernel_test --gtest_color=no", check=False, timeout=1500)
    assert result.returncode == 0, "\n".join(line for line in result.stdout.splitlines() if "OK ]" not in line)[-6000:]
    assert "[  PASSED  ]" in result.stdout


def test_critest(machine, registry, programs):
    images.build_all()
    digest = images.digest_of("k8s-staging-cri-tools/test-image-digest:latest")
    run(TOP / "tests" / "tools" / "build-critest", critest.BINARIES, digest, timeout=900)
    run("ip", "netns", "exec", NETNS, sys.executable, "-m", "tests.conformance.cri.images", registry, cwd=TOP)
    machine.put(critest.BINARIES / "critest", "/root/critest")
    mirrors = " ".join(f"--mirror {host}=http://{registry}" for host in critest.UPSTREAM)
    machine.ssh("chmod +x /root/critest; systemd-run --quiet --unit cri-test -p Delegate=yes -p KillMode=process "
                f"{programs}/skiff-cri-under-test --root /run/cri-test --binaries {programs} {mirrors}; "
                f"until [ -S {SERVER} ]; do sleep 0.2; done")
    endpoint = f"unix://{SERVER}"
    result = machine.ssh("cd /root && ./critest --ginkgo.no-color --ginkgo.json-report=report.json "
                         f"--runtime-endpoint {endpoint} --image-endpoint {endpoint}", check=False, timeout=1700)
    outcome = critest.outcome_of("vm", json.loads(machine.ssh("cat /root/report.json").stdout))
    assert outcome.failed == {} and len(outcome.passed) > 90, result.stdout[-2000:]
    assert outcome.unexpected_skips(critest.expected_skips("default", ["benchmark", "userns"])) == {}
    profile = machine.ssh("cat /sys/kernel/security/apparmor/profiles").stdout
    assert "skiff-default (enforce)\n" in profile, "containers that name none run under it"
    machine.ssh("systemctl stop cri-test")
