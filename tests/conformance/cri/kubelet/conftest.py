"""One node with an upstream kubelet for all of these tests, in the namespaces that __main__.py of the folder above makes.

    python3 -m tests.conformance.cri --build DIR kubelet
"""

import os
import pathlib
import shutil

import pytest

from tests.conformance.cri.kubelet.node import Kubelet, Runtime, make_machine
from tests.images import build as image_build
from tests.support.cri import TOP, Registry, pod_config

PORT = 5004


@pytest.fixture(scope="session")
def kubelet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    make_machine(folder)
    registry = Registry(folder, PORT)
    client = image_build.Registry(registry.address)
    for name in ["busybox:test", "nginx:test"]:
        client.push(name, image_build.build(name, image_build.IMAGES[name], {}))
    build = pathlib.Path(os.environ.get("SKIFF_BUILD", TOP / "build" / "release")).resolve()
    runtime = Runtime(build, folder / "skiff", registry.address)
    runtime.start()
    runtime.crictl("rmp", "-f", runtime.crictl("runp", pod_config(folder, "warm")).stdout.strip())
    tested = Kubelet(runtime, folder)
    tested.busybox, tested.nginx = f"{registry.address}/busybox:test", f"{registry.address}/nginx:test"
    try:
        tested.start()
        yield tested
    finally:
        if tested.process.poll() is None:
            tested.stop()
        runtime.remove_all()
        registry.stop()
        for log in [tested.log, runtime.log]:
            shutil.copy(log, build / "conformance" / f"kubelet.{log.name}")
