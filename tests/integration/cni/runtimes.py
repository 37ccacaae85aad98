"""Our CNI plugin under runtimes that others wrote: Debian's containerd (by crictl) and podman.

    python3 -m tests.integration.cni.runtimes --build DIR [--only containerd]

Two containers talk over the plugin's network, a host port leads to one of them, and afterwards nothing is left: no
lease, link or rule. Needs root, containerd with containernetworking-plugins, podman, runc, docker-registry and crictl. Each runtime runs alone, in
network, mount and process namespaces of its own.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from tests.bench import runtimes
from tests.images import build as image_build
from tests.support.cri import CRICTL, Registry, container_config, pod_config, run, show_v1_cgroups_alone
from tests.support.waiting import settled, wait_for

PORT = 5000
IMAGE = f"127.0.0.1:{PORT}/busybox:test"
IMAGES = ("busybox:test", "pause:test")
HOST_PORT = 8080
PAGE = "served over the plugin"
SERVE = ["sh", "-c", f"mkdir -p /www && echo '{PAGE}' > /www/index.html && exec httpd -f -p 80 -h /www"]

NETWORK = {"cniVersion": "1.0.0", "name": "skiff", "plugins": [
    {"type": "skiff-cni", "podCidrs": ["10.90.0.0/24"],
     "capabilities": {"portMappings": True, "ips": True, "mac": True}}]}


def holdings():
    """What a network may leave of its pods."""
    leases = {str(path) for path in pathlib.Path("/run/skiff-cni").rglob("*@*")}
    links = set(re.findall(r"^\d+: (veth[^:@]*)", run("ip", "-o", "link").stdout, re.MULTILINE))
    rules = {line for line in run("iptables-save").stdout.splitlines() if "-HP-" in line or "-j DNAT" in line}
    return leases | links | rules


def expect_nothing_left():
    left = settled(holdings, lambda held: not held, 10)
    assert not left, left


def fetch(*argv):
    def page():
        return run("curl", "-s", "--max-time", "3", *argv, check=False).stdout

    seen = settled(page, lambda text: PAGE in text, 10)
    assert PAGE in seen, f"curl {argv}: {seen!r}"


class SkiffUnderContainerd(runtimes.ContainerdRunc):
    def command(self):
        argv = super().command()
        network = json.dumps(NETWORK)
        (self.folder / "cni" / "10-bench.conflist").write_text(network)
        # containerd brings loopbacks up by a plugin from the same folder.
        plugins = self.folder / "plugins"
        plugins.mkdir()
        (plugins / "skiff-cni").symlink_to(self.build / "bin" / "skiff-cni")
        (plugins / "loopback").symlink_to("/usr/lib/cni/loopback")
        config = self.folder / "config.toml"
        config.write_text(config.read_text().replace('bin_dir = "/usr/lib/cni"', f'bin_dir = "{plugins}"'))
        return argv

    def start(self):
        runtimes.Runtime.start(self)
        wait_for("containerd's network", lambda: '"lastCNILoadStatus": "OK"' in self.crictl("info").stdout)

    def crictl(self, *argv, check=True):
        return run(CRICTL, "-r", self.endpoint, "-i", self.endpoint, "-c", os.devnull, *argv, check=check)


def containerd(build, folder, cgroup):
    server = SkiffUnderContainerd(folder, build, runtimes.Cgroup(cgroup))
    linux = {"cgroup_parent": f"/{cgroup}/pods"}

    def start(name, command, **more):
        config = pod_config(folder, name, **{"linux": linux, **more})
        pod = server.crictl("runp", config).stdout.strip()
        container = server.crictl("create", pod, container_config(folder, name, IMAGE, command), config).stdout.strip()
        server.crictl("start", container)
        status = json.loads(server.crictl("inspectp", pod).stdout)["status"]
        return pod, container, status["network"]["ip"]

    try:
        server.start()
        server.crictl("pull", IMAGE)
        web, _, address = start("web", SERVE, port_mappings=[{"container_port": 80, "host_port": HOST_PORT}])
        client, shell, _ = start("client", ["sleep", "1000"])
        assert address.startswith("10.90.0."), address
        page = server.crictl("exec", "-s", shell, "wget", "-qO-", f"http://{address}/").stdout
        assert PAGE in page, page
        server.crictl("exec", "-s", shell, "ping", "-c1", "-W3", address)
        fetch(f"http://127.0.0.1:{HOST_PORT}/")
        # The port is taken; whoever asks for it is told whose it is, and leaves nothing.
        before = holdings()
        refused = server.crictl("runp", pod_config(folder, "second", linux=linux, port_mappings=[
            {"container_port": 80, "host_port": HOST_PORT}]), check=False)
        assert refused.returncode != 0 and "belongs to pod default/web" in refused.stderr, refused.stderr
        assert settled(holdings, lambda held: held == before, 10) == before
        for pod in server.crictl("pods", "-q").stdout.split():
            server.crictl("stopp", pod)
            server.crictl("rmp", pod)
        expect_nothing_left()
    finally:
        server.stop()


CONTAINERS_CONF = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
[containers]
cgroupns = "host"
log_driver = "k8s-file"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{build}/bin"]
network_config_dir = "{folder}/net.d"
"""


def podman(build, folder, cgroup):
    (folder / "net.d").mkdir()
    (folder / "net.d" / "10-skiff.conflist").write_text(json.dumps(NETWORK))
    config = folder / "containers.conf"
    config.write_text(CONTAINERS_CONF.format(build=build, folder=folder))
    environment = {**os.environ, "CONTAINERS_CONF": str(config)}

    def call(*argv, check=True):
        return run("podman", "--root", folder / "podman", "--runroot", "/run/podman", "--storage-driver", "vfs",
                   "--tmpdir", "/run/podman-tmp", *argv, check=check, env=environment)

    def start(name, *argv):
        return call("run", "-d", "--name", name, "--network", "skiff", "--cgroup-parent", f"/{cgroup}/pods", *argv)

    try:
        call("pull", "--tls-verify=false", IMAGE)
        start("web", "-p", f"{HOST_PORT}:80", "--ip", "10.90.0.77", IMAGE, *SERVE)
        start("client", IMAGE, "sleep", "1000")
        found = json.loads(call("inspect", "web").stdout)[0]["NetworkSettings"]["Networks"]["skiff"]
        assert (found["IPAddress"], found["Gateway"]) == ("10.90.0.77", "10.90.0.1"), found
        page = call("exec", "client", "wget", "-qO-", "http://10.90.0.77/").stdout
        assert PAGE in page, page
        call("exec", "client", "ping", "-c1", "-W3", "10.90.0.77")
        fetch(f"http://127.0.0.1:{HOST_PORT}/")
        # Stopped and started, it has its network again.
        call("stop", "-t", "0", "web")
        call("start", "web")
        fetch(f"http://127.0.0.1:{HOST_PORT}/")
    finally:
        call("rm", "-f", "-t", "0", "-a", check=False)
    expect_nothing_left()


RUNTIMES = {"containerd": containerd, "podman": podman}


def inside(name, build, folder, cgroup):
    run("ip", "link", "set", "lo", "up")
    pathlib.Path("/var/lib/cni").mkdir(exist_ok=True)  # where both keep results
    for folder_of_its_own in ("/run", "/var/lib/cni"):
        run("mount", "-t", "tmpfs", "tmpfs", folder_of_its_own)
    show_v1_cgroups_alone()
    registry = Registry(folder, PORT)
    try:
        pusher = image_build.Registry(registry.address)
        for image in IMAGES:
            pusher.push(image, image_build.build(image, image_build.IMAGES[image], {}))
        RUNTIMES[name](build, folder, cgroup)
    finally:
        registry.stop()
    print(f"{name}: good")


def outside(name, build):
    cgroup = runtimes.Cgroup(f"skiff-cni-{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="cni-runtimes-") as folder:
        # What runs in the process namespace ends with it, however this ends.
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                "--mount-proc", sys.executable, "-m", "tests.integration.cni.runtimes", "--build", build,
                "--inside", name, "--folder", folder, "--cgroup", cgroup.name]
        cgroup.make()
        try:
            ended = subprocess.run([str(word) for word in argv], cwd=runtimes.__file__.rsplit("/tests/", 1)[0])
            if ended.returncode != 0:
                log = pathlib.Path(folder) / "log"
                print(log.read_text()[-4000:] if log.exists() else "", file=sys.stderr)
            return ended.returncode
        finally:
            wait_for("the end of what ran", lambda: not cgroup.processes())
            cgroup.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--only", choices=RUNTIMES)
    for hidden in ("--inside", "--cgroup"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    if arguments.inside:
        inside(arguments.inside, build, arguments.folder, arguments.cgroup)
        return 0
    names = [arguments.only] if arguments.only else list(RUNTIMES)
    lacks = [name for name in (*names, "runc", "docker-registry") if not shutil.which(name)]
    if not CRICTL.exists():
        lacks.append(str(CRICTL))
    if lacks:
        print(f"not run, this machine lacks {' '.join(lacks)}")
        return 77
    for image in IMAGES:  # while the network is there
        image_build.build(image, image_build.IMAGES[image], {})
    return max(outside(name, build) for name in names)


if __name__ == "__main__":
    sys.exit(main())
