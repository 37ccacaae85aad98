"""The runtimes that `dev bench cri` compares, each alone in namespaces and a cgroup of its own."""

import pathlib
import re
import subprocess

from tests.support.machine import run
from tests.support.waiting import wait_for

REGISTRY = "127.0.0.1:5000"
IMAGE = f"{REGISTRY}/busybox:test"
CGROUPS = pathlib.Path("/sys/fs/cgroup")

CONTAINERD = """\
version = 2
root = "{folder}/root"
state = "/run/containerd"
[grpc]
  address = "/run/cri.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{registry}/pause:test"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "oci"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.oci.options]
        BinaryName = "{binary}"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""

# As containerd's own installation has it.
CNI = """\
{{"cniVersion": "1.0.0", "name": "bench", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
    "ipam": {{"type": "host-local", "dataDir": "{folder}/ipam", "ranges": [[{{"subnet": "10.89.0.0/16"}}]],
              "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"""


def v2():
    return (CGROUPS / "cgroup.controllers").exists()


class Cgroup:
    """A subtree of our own in every hierarchy: NAME/daemon for the daemon, NAME/pods for what it makes."""

    def __init__(self, name):
        self.name = name
        hierarchies = [CGROUPS] if v2() else sorted({path.resolve() for path in CGROUPS.iterdir() if path.is_mount()})
        self.tops = [hierarchy / name for hierarchy in hierarchies]

    def make(self):
        for top in self.tops:
            for path in [top, top / "daemon", top / "pods"]:
                path.mkdir()
                for file in ["cpuset.cpus", "cpuset.mems"]:  # a new cpuset of version 1 takes nobody before it has them
                    if (path / file).exists() and not v2():
                        (path / file).write_text((path.parent / file).read_text())

    def join(self):
        """For a child before it executes."""
        for top in self.tops:
            if top.exists():
                (top / "daemon" / "cgroup.procs").write_text("0")

    def cpu_seconds(self):
        if v2():
            return int(re.search(r"usage_usec (\d+)", (self.tops[0] / "cpu.stat").read_text()).group(1)) / 1e6
        return int((CGROUPS / "cpuacct" / self.name / "cpuacct.usage").read_text()) / 1e9

    def processes(self):
        top = self.tops[0] if v2() else CGROUPS / "cpuacct" / self.name
        return {int(pid) for file in top.rglob("cgroup.procs") for pid in file.read_text().split()}

    def remove(self):
        """Whatever of it is there; its processes have ended."""
        for top in self.tops:
            for path in sorted((p for p in [top, *top.rglob("*")] if p.is_dir()), reverse=True):
                path.rmdir()


class Runtime:
    """A daemon with a CRI socket; images below one folder, what a reboot voids in /run."""

    socket = pathlib.Path("/run/cri.sock")

    def __init__(self, folder, build, cgroup):
        self.folder, self.build, self.cgroup = folder, build, cgroup
        self.endpoint = f"unix://{self.socket}"
        self.process = None

    def start(self):
        log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(list(map(str, self.command())), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=self.cgroup.join)
        wait_for(self.name, lambda: self.socket.exists() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended at once:\n{(self.folder / 'log').read_text()}")

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()

    def load(self, *words):
        """The words that run the load program against it."""
        return [str(word) for word in [self.build / "bin" / "skiff-cri-bench", "--endpoint", self.endpoint, "--image", IMAGE,
                                       "--cgroup-parent", f"/{self.cgroup.name}/pods", "--log-directory", self.folder / "logs",
                                       *words]]

    def supervisors(self):
        """The processes that each pod costs besides its own."""
        return [pid for pid in self.cgroup.processes() - {self.process.pid} if self.is_supervisor(pid)]


class Skiff(Runtime):
    name, socket = "skiff", pathlib.Path("/run/skiff/skiff.sock")

    def command(self):
        return [self.build / "bin" / "skiff-cri-under-test", "--root", self.folder, "--run", "/run/skiff", "--binaries", self.build / "bin",
                "--pod-cidr", "10.89.0.0/16", "--cgroup-parent", f"/{self.cgroup.name}/pods"]

    def start(self):
        super().start()
        wait_for(self.name, lambda: b"ready" in (self.folder / "log").read_bytes())

    def is_supervisor(self, pid):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() in ("skiff-seed", "skiff-shim", "skiff-pause")


class Containerd(Runtime):
    binary = None

    def command(self):
        (self.folder / "cni").mkdir()
        (self.folder / "cni" / "10-bench.conflist").write_text(CNI.format(folder=self.folder))
        config = self.folder / "config.toml"
        config.write_text(CONTAINERD.format(folder=self.folder, registry=REGISTRY, binary=self.binary))
        return ["containerd", "--config", config]

    def start(self):
        super().start()
        ready = self.load("hold", "--count", 1)
        wait_for(self.name, lambda: subprocess.run(ready, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0)

    def is_supervisor(self, pid):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"containerd-shim" in words[0] or words[1:2] == [b"2147483647"]  # the latter: pause:test


class ContainerdRunc(Containerd):
    name, binary = "containerd+runc", "/usr/sbin/runc"


class ContainerdCrun(Containerd):
    name, binary = "containerd+crun", "/usr/bin/crun"

    def start(self):
        # crun refuses version 1 beside a version 2 hierarchy that has controllers: this namespace does without the latter.
        if not v2() and (CGROUPS / "unified").is_mount():
            run("umount", CGROUPS / "unified")
        super().start()


class Registry:
    """docker-registry on the loopback of this network namespace, with the test images."""

    def __init__(self, folder, push):
        config = folder / "registry.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{REGISTRY}'}}\n"
                          f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for("the registry", lambda: run("curl", "-sf", f"http://{REGISTRY}/v2/", check=False).returncode == 0)
        push(REGISTRY)

    def stop(self):
        self.process.terminate()
        self.process.wait()


RUNTIMES = {runtime.name: runtime for runtime in [Skiff, ContainerdRunc, ContainerdCrun]}
