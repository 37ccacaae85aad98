"""Runs critest against the CRI server alone, in a network and mount namespace of its own.

    python3 -m tests.conformance.cri.critest [--build DIR] [-- critest's own flags]

Needs root, docker-registry, and critest, in PATH or named by $CRITEST (`go test -c sigs.k8s.io/cri-tools/cmd/critest`).
The one spec that cannot pass is "public image with digest": upstream's source pins the digest of an image that is
not ours.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tests.conformance.cri import images

PORT = 5000
CRITEST = os.environ.get("CRITEST", "critest")
UPSTREAM = ["registry.k8s.io", "k8s.gcr.io", "gcr.io"]
PINNED = "public image with digest"


def wait_for(what, ready, seconds=20):
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come up")
        time.sleep(0.05)


def inside(build, flags, folder):
    """In the namespaces: registry, server, critest, and the end of them all. critest's exit code."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    config = folder / "registry.yml"
    config.write_text(f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '127.0.0.1:{PORT}'}}\n"
                      f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n")
    registry = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
    root = folder / "skiff"
    server_argv = [build / "bin" / "skiff-cri-under-test", "--root", root, "--binaries", build / "bin",
                   "--cgroup-parent", f"/skiff-critest-{os.getpid()}"]
    for host in UPSTREAM:
        server_argv += ["--mirror", f"{host}=http://127.0.0.1:{PORT}"]
    server = None
    try:
        wait_for("the registry", lambda: subprocess.run(
            ["curl", "-sf", f"http://127.0.0.1:{PORT}/v2/"], stdout=subprocess.DEVNULL).returncode == 0)
        images.push_all(f"127.0.0.1:{PORT}")
        server = subprocess.Popen(server_argv, stdout=subprocess.DEVNULL)
        wait_for("the CRI server", (root / "skiff.sock").exists)
        endpoint = f"unix://{root}/skiff.sock"
        return subprocess.run([CRITEST, "--runtime-endpoint", endpoint, "--image-endpoint", endpoint,
                               "--ginkgo.no-color", "--ginkgo.skip", PINNED, *flags]).returncode
    finally:
        if server:
            server.terminate()
            server.wait()
            subprocess.run([*server_argv, "--remove-all"], check=True)
            for cgroup in pathlib.Path("/sys/fs/cgroup").glob(f"*/skiff-critest-{os.getpid()}"):
                cgroup.rmdir()
        registry.terminate()
        registry.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=images.TOP / "build" / "release")
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    if arguments.inside:
        return inside(build, arguments.flags, arguments.inside)
    images.build_all()
    with tempfile.TemporaryDirectory(prefix="critest-") as folder:
        argv = ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, "-m",
                "tests.conformance.cri.critest", "--build", build, "--inside", folder, "--", *arguments.flags]
        return subprocess.run(argv, cwd=images.TOP).returncode


if __name__ == "__main__":
    sys.exit(main())
