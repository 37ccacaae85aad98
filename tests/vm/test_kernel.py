"""The network's kernel tests on Debian's kernel, which has what the machine that runs the other tests may lack: SCTP, WireGuard."""

import re

import pytest

from tests.support.cluster import TOP

# Each in namespaces of its own, in the machine.
PROGRAMS = ["services_kernel_test", "nft_kernel_test", "cni_kernel_test", "policy_kernel_test",
            "fast_path_kernel_test"]
# What only a kernel that lacks something can show.
SKIPPED = {"OverlayKernelTest.AKernelWithoutWireguardIsToldOf"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_network(machine, build, program):
    """All of them pass, and none is skipped for want of something."""
    where = f"/root/{program}"
    machine.ssh("modprobe br_netfilter")  # nothing loads it by itself
    machine.put(build / "tests" / program, where)
    if program == "services_kernel_test":  # compares its table with the one in the docs
        machine.ssh(f"mkdir -p {TOP}/docs")
        machine.put(TOP / "docs" / "services.md", f"{TOP}/docs/services.md")
    result = machine.ssh(f"chmod +x {where}; {where} --gtest_color=no 2>&1", check=False, timeout=1500)
    trouble = [line for line in result.stdout.splitlines() if not re.match(r"\[ +(OK|RUN) +\]", line)]
    assert result.returncode == 0, "\n".join(trouble)[-6000:]
    assert "[  PASSED  ]" in result.stdout
    assert set(re.findall(r"\[  SKIPPED \] (\w\S*\.\S+) \(", result.stdout)) <= SKIPPED, "\n".join(trouble)[-6000:]
