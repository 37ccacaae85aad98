"""The CRI server alone (skiff-cri-under-test), below one folder, and registries for it to pull from.

Everything here belongs into network and mount namespaces of one's own: enter() gets there.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

from tests.support.waiting import settled, wait_for

TOP = pathlib.Path(__file__).resolve().parents[2]
CRICTL = pathlib.Path(os.environ.get("CRICTL", TOP / "build" / "crictl" / "crictl"))
CGROUPS = pathlib.Path("/sys/fs/cgroup")


def run(*argv, check=True, timeout=60, **options):
    result = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=timeout, **options)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def enter(module, *argv, **options):
    """Runs a Python module in network and mount namespaces of its own, lo up; its exit code."""
    script = 'ip link set lo up && exec "$0" -m "$@"'
    return subprocess.run(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script,
                           sys.executable, module, *map(str, argv)], cwd=TOP, **options).returncode


def show_v1_cgroups_alone():
    """Takes a v2 tree that carries controllers beside v1 out of this mount namespace: crun refuses such a machine."""
    controllers = CGROUPS / "unified" / "cgroup.controllers"
    if not controllers.exists() or not controllers.read_text().strip():
        return
    script = """set -e
        folder=$(mktemp -d); mount -t tmpfs v1 "$folder"
        for hierarchy in /sys/fs/cgroup/*; do
            name=${hierarchy##*/}; [ "$name" != unified ] || continue
            mkdir "$folder/$name"; mount --bind "$hierarchy" "$folder/$name"
        done
        umount -l /sys/fs/cgroup; mount --move "$folder" /sys/fs/cgroup; rmdir "$folder" """
    run("sh", "-c", script)


class Registry:
    """docker-registry at 127.0.0.1:port over FOLDER/registry, which several may share.

    http, auth: more of these parts of its configuration, in YAML's flow style.
    """

    def __init__(self, folder, port, http="", auth=""):
        self.address = f"127.0.0.1:{port}"
        config = pathlib.Path(folder) / f"registry-{port}.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{self.address}'{http}}}\n{auth}"
                          f"storage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {folder}/registry}}}}\n")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        scheme = "https" if "tls:" in http else "http"
        wait_for(f"the registry at {self.address}", lambda: run(
            "curl", "-sk", f"{scheme}://{self.address}/v2/", check=False).returncode == 0)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class CriServer:
    """build: a preset's folder. root: everything of the server lies below it. log: where its log goes, or None."""

    def __init__(self, build, root, *flags, log=None):
        self.root = pathlib.Path(root)
        self.cgroup = f"skiff-cri-{os.getpid()}"
        self.argv = [build / "bin" / "skiff-cri-under-test", "--root", self.root, "--binaries", build / "bin",
                     "--cgroup-parent", f"/{self.cgroup}", *flags]
        self.endpoint = f"unix://{self.root}/skiff.sock"
        self.log = log
        self.process = None

    def start(self):
        stderr = open(self.log, "ab") if self.log else None
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=stderr, text=True)
        if self.log:
            stderr.close()
        first = self.process.stdout.readline()
        assert first == "ready\n", f"the CRI server did not start: {first!r}"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def remove_all(self):
        """Ends the server and all that it runs."""
        self.process.terminate()
        self.process.wait()
        run(*self.argv, "--remove-all")
        for cgroup in self._cgroups(""):
            cgroup.rmdir()

    def crictl(self, *argv, check=True, **options):
        return run(*self.crictl_command(*argv), check=check, **options)

    def crictl_command(self, *argv):
        return [str(word) for word in [CRICTL, "-r", self.endpoint, "-i", self.endpoint, "-c", os.devnull, *argv]]

    def handlers(self):
        """The runtime handlers that Status names."""
        return [handler.get("name", "") for handler in json.loads(self.crictl("info").stdout)["runtimeHandlers"]]

    def _cgroups(self, below):
        """One cgroup of each hierarchy; with v2 alone there is one hierarchy."""
        return [*CGROUPS.glob(f"*/{self.cgroup}{below}"), *CGROUPS.glob(f"{self.cgroup}{below}")]

    def holdings(self):
        """What the machine holds because of pods."""
        cgroups = {str(path.relative_to(CGROUPS)) for path in self._cgroups("/*/**/")}
        links = set(re.findall(r"^\d+: ([^:@]+)", run("ip", "-o", "link").stdout, re.MULTILINE))
        mounts = {line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()}
        files = {str(path) for folder in ["netns", "cri/sandboxes", "images/snapshots", "images/staging",
                                          "runtime/sandboxes", "runtime/containers", "network/leases"]
                 for path in (self.root / folder).rglob("*")}
        processes = {line for line in run("ps", "-e", "-o", "args=").stdout.splitlines() if str(self.root) in line
                     and "skiff-cri-under-test" not in line and "ps -e" not in line}
        rules = {line for line in run("iptables-save").stdout.splitlines() if line.startswith("-A")}
        return {"cgroups": cgroups, "links": links, "mounts": mounts, "files": files, "processes": processes,
                "rules": rules}

    def leaked(self, before, seconds=10):
        """What holdings() has beyond before once that is nothing, or after so long: the last programs may still end."""
        def beyond():
            after = self.holdings()
            return [f"{kind}: {thing}" for kind in before for thing in sorted(after[kind] - before[kind])]

        return settled(beyond, lambda lines: not lines, seconds)


def pod_config(folder, name, **more):
    """A PodSandboxConfig in a file."""
    path = pathlib.Path(folder) / f"{name}.json"
    path.write_text(json.dumps({"metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
                                "hostname": name, "log_directory": f"{folder}/logs/{name}", "linux": {}, **more}))
    return path


def container_config(folder, name, image, command=None, **more):
    """A ContainerConfig in a file."""
    path = pathlib.Path(folder) / f"container-{name}.json"
    path.write_text(json.dumps({"metadata": {"name": name}, "image": {"image": image}, "command": command or [],
                                "log_path": f"{name}/0.log", "linux": {}, **more}))
    return path
