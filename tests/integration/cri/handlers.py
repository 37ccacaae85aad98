"""Pods of a runtime handler by crictl: what runs is made by crun and runc, and lives on when the server is killed.

    python3 -m tests.integration.cri.handlers --build DIR

Needs root, docker-registry, crun, runc and crictl (tests/tools/build-crictl build/crictl). Runs in network and mount
namespaces of its own.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile

from tests.images import build as image_build
from tests.support.cri import (CRICTL, CriServer, Registry, container_config, enter, pod_config,
                               show_v1_cgroups_alone)
from tests.support.waiting import wait_for

PORT = 5003
IMAGE = f"127.0.0.1:{PORT}/busybox:test"
PATH = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
SCRIPT = "trap 'echo bye; exit 7' TERM; echo ready; while true; do sleep 0.05; done"


def oci_state(server, handler, container):
    """Where the OCI runtime keeps its own record of a container."""
    return server.root / "runtime" / "oci" / handler / container


def status(server):
    info = json.loads(server.crictl("info").stdout)
    features = {handler.get("name", ""): handler["features"] for handler in info["runtimeHandlers"]}
    assert set(features) == {"", "skiff", "crun", "runc"}, features
    assert all(feature["recursive_read_only_mounts"] for feature in features.values()), features
    assert not features["crun"].get("user_namespaces") and not features["runc"].get("user_namespaces"), features
    versions = info["config"]["ociRuntimes"]
    assert versions["crun"].startswith("crun version") and versions["runc"].startswith("runc version"), versions


def unknown(server, folder):
    refused = server.crictl("runp", "--runtime", "kata", pod_config(folder, "unknown"), check=False)
    assert refused.returncode != 0 and "NotFound" in refused.stderr and "kata" in refused.stderr, refused.stderr
    assert server.crictl("pods", "-q").stdout == ""


def life(server, folder, handler):
    config = pod_config(folder, f"pod-{handler}")
    sandbox = server.crictl("runp", "--runtime", handler, config).stdout.strip()
    assert json.loads(server.crictl("inspectp", sandbox).stdout)["status"]["runtimeHandler"] == handler
    container = server.crictl("create", sandbox, container_config(folder, "shell", IMAGE, ["sh", "-c", SCRIPT]),
                              config).stdout.strip()
    assert oci_state(server, handler, container).exists()
    server.crictl("start", container)
    wait_for("it runs", lambda: server.crictl("logs", container).stdout == "ready\n")
    server.kill()
    server.start()
    assert server.crictl("ps", "-q", "--state", "running").stdout.strip() == container
    assert server.crictl("exec", "-s", container, "hostname").stdout.strip() == f"pod-{handler}"
    failed = server.crictl("exec", "-s", container, "sh", "-c", "exit 3", check=False)
    assert "exited with 3" in failed.stderr, failed
    server.crictl("update", "--memory", str(32 << 20), container)
    limit = server.crictl("exec", "-s", container, "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes "
                          "2>/dev/null || cat /sys/fs/cgroup/memory.max").stdout.strip()
    assert limit == str(32 << 20), limit
    server.crictl("stop", "--timeout", "10", container)
    seen = json.loads(server.crictl("inspect", container).stdout)["status"]
    assert (seen["state"], seen["exitCode"]) == ("CONTAINER_EXITED", 7), seen
    assert server.crictl("logs", container).stdout == "ready\nbye\n"
    server.crictl("rm", container)
    assert not oci_state(server, handler, container).exists()
    missing = server.crictl("create", sandbox, container_config(folder, "missing", IMAGE, ["no-such-program"]), config,
                            check=False)
    assert missing.returncode != 0 and "no-such-program" in missing.stderr, missing.stderr
    server.crictl("stopp", sandbox)
    server.crictl("rmp", sandbox)


def inside(build, folder):
    show_v1_cgroups_alone()
    registry = Registry(folder, PORT)
    flags = [word for name in ("crun", "runc")
             for word in ("--runtime-handler", f"{name}={shutil.which(name, path=PATH)}")]
    server = CriServer(build, folder / "skiff", *flags)
    server.start()
    try:
        pusher = image_build.Registry(registry.address)
        pusher.push("busybox:test", image_build.build("busybox:test", image_build.IMAGES["busybox:test"], {}))
        server.crictl("pull", IMAGE)
        before = server.holdings()
        status(server)
        unknown(server, folder)
        for handler in ("crun", "runc"):
            life(server, folder, handler)
        leaked = server.leaked(before)
        assert not leaked, leaked
    finally:
        server.remove_all()
        registry.stop()
    print("handlers: good")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    if arguments.inside:
        return inside(build, arguments.inside)
    lacks = [name for name in ("crun", "runc") if not shutil.which(name, path=PATH)]
    if not CRICTL.exists():
        lacks.append(str(CRICTL))
    if lacks:
        print(f"not run, this machine lacks {' '.join(lacks)}")
        return 77
    image_build.build("busybox:test", image_build.IMAGES["busybox:test"], {})  # while the network is there
    with tempfile.TemporaryDirectory(prefix="handlers-") as folder:
        return enter("tests.integration.cri.handlers", "--build", build, "--inside", folder)


if __name__ == "__main__":
    sys.exit(main())
