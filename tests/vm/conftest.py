"""Virtual machines with the package's dependencies, and a registry for them."""

import os
import pathlib
import re
import subprocess

import pytest

from tests.support import images
from tests.support.cluster import TOP
from tests.support.machine import run
from tests.support.waiting import wait_for
from tests.vm.vm import HOST_ADDRESS, NETNS, Network, VirtualMachine

FOLDER = TOP / "build" / "vm"
KUBECTL = TOP / "build" / "kubectl" / "1.36" / "kubectl"
REGISTRY = f"{HOST_ADDRESS}:5000"
TOOLS = ["apparmor", "crun", "runc", "sudo"]  # that the tests, or critest, need in the machines


@pytest.fixture(scope="session")
def build():
    """The preset's folder whose programs are tested."""
    return pathlib.Path(os.environ.get("SKIFF_BUILD", TOP / "build" / "release")).resolve()


@pytest.fixture(scope="session")
def package(build):
    packages = sorted(build.glob("skiff_*.deb"), key=lambda path: path.stat().st_mtime)
    if not packages:
        pytest.fail(f"no package in {build}: ./dev package makes it")
    return packages[-1]


def _dependencies(package):
    """The packages the .deb needs, for the machine's image: the machine itself has no way out."""
    text = run("dpkg-deb", "-f", package, "Depends").stdout
    return sorted({re.split(r"[ (|]", word.strip())[0] for word in text.split(",")})


@pytest.fixture(scope="module")
def machines(request, package):
    """As many as the module says in MACHINES; one, where it says nothing, which then has both of this host's
    processors."""
    run(TOP / "tests" / "vm" / "build-image", FOLDER, *_dependencies(package), *TOOLS, timeout=900)
    count = getattr(request.module, "MACHINES", 1)
    network = Network()
    made = [VirtualMachine(FOLDER, number + 1, processors=2 if count == 1 else 1) for number in range(count)]
    for vm in made:
        vm.power_off()
    network.up(count)
    try:
        for vm in made:
            vm.create()
            vm.power_on()
        for vm in made:
            vm.wait_up()
        yield made
    finally:
        for vm in made:
            vm.power_off()
        network.down()


@pytest.fixture(scope="module")
def machine(machines):
    return machines[0]


@pytest.fixture(scope="module")
def registry(machines, tmp_path_factory):
    """On the host's side of the machines' network, with the tests' images."""
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder}}}}}\n"
                      f"http: {{addr: '{REGISTRY}'}}\n")
    argv = ["ip", "netns", "exec", NETNS, "docker-registry", "serve", str(config)]
    with (open(folder / "log", "wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as server):
        try:
            inside = ["ip", "netns", "exec", NETNS]
            wait_for("the machines' registry", lambda: run(
                *inside, "curl", "-s", f"http://{REGISTRY}/v2/", check=False).returncode == 0)
            run(*inside, images.BUILDER, "--push", REGISTRY)
            yield REGISTRY
        finally:
            server.kill()


@pytest.fixture(scope="module")
def node(machine, registry, package):
    """The one machine as a cluster of its own."""
    machine.install(package, KUBECTL)
    machine.ssh("systemctl enable --now skiff-control-plane")
    machine.join(machine, registry)
    machine.kubectl("wait --for=condition=Ready node/node1 --timeout=120s")
    return machine
