"""A node for the tests of an upstream kubelet: skiff-agent --runtime-only, and a kubelet without an API server on it.

All of it lives in network and mount namespaces of one's own (tests.support.cri.enter). What a kubelet insists on having
at fixed places (/var/lib/kubelet, /var/log/pods) is put over this machine's there, and the sysctls that it would set
show the values that it wants already.
"""

import json
import os
import pathlib
import subprocess
import urllib.error
import urllib.request

from tests.conformance.cri.kubelet import websocket
from tests.support.cri import CGROUPS, CRICTL, TOP, CriServer, run
from tests.support.waiting import wait_for

KUBELET = pathlib.Path(os.environ.get("KUBELET", TOP / "build" / "kubelet" / "kubelet"))
NAME = "node1"
ADDRESS = "10.77.1.1"
SYSCTLS = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
           "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}


def make_machine(folder):
    """What a kubelet takes for its machine: an address with a default route, and folders of its own."""
    run("ip", "link", "add", "node0", "type", "veth", "peer", "name", "outside")
    run("ip", "addr", "add", f"{ADDRESS}/24", "dev", "node0")
    for link in ["node0", "outside"]:
        run("ip", "link", "set", link, "up")
    run("ip", "route", "add", "default", "via", "10.77.1.254")
    for place in ["/var/lib", "/var/log"]:
        run("mount", "-t", "tmpfs", "kubelet", place)
    # Not a tmpfs: volumes of pods with user namespaces need a filesystem that can map ids.
    (folder / "kubelet").mkdir()
    pathlib.Path("/var/lib/kubelet").mkdir()
    run("mount", "--bind", folder / "kubelet", "/var/lib/kubelet")
    for name, value in SYSCTLS.items():
        file = folder / name.replace("/", ".")
        file.write_text(f"{value}\n")
        run("mount", "--bind", file, f"/proc/sys/{name}")
    # A user namespace gets a /proc of its own only where one is in sight that nothing covers.
    (folder / "proc").mkdir()
    run("mount", "-t", "proc", "proc", folder / "proc")


class Runtime(CriServer):
    """skiff-agent --runtime-only, with what CriServer offers tests of a runtime."""

    def __init__(self, build, root, registry):
        super().__init__(build, root, log=root.parent / "agent.log")
        root.mkdir()
        config = root / "agent.yaml"
        config.write_text(f"runDir: {root}\nstateDir: {root}\nlibexecDir: {build}/bin\ncgroupRoot: /{self.cgroup}\n"
                          f"podCidr: 10.89.0.0/24\nregistries: [{{host: '{registry}', plainHttp: true}}]\n")
        self.agent = build / "bin" / "skiff-agent"
        self.argv = [self.agent, "--runtime-only", "--config", config]
        self.reset = [self.agent, "reset", "--config", config]
        # A kubelet wants its cgroup root to be there.
        for hierarchy in [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()] or [CGROUPS]:
            (hierarchy / self.cgroup).mkdir(exist_ok=True)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stderr=log)
        wait_for("the runtime to serve CRI", lambda: self.crictl("version", check=False).returncode == 0)

    def remove_all(self):
        self.process.terminate()
        self.process.wait()
        run(*self.reset)
        for top in self._cgroups(""):
            for folder, _, _ in os.walk(top, topdown=False):
                os.rmdir(folder)


class Kubelet:
    def __init__(self, runtime, folder):
        self.runtime, self.folder = runtime, folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        self.log = folder / "kubelet.log"
        self.process = None

    def _config(self, gates):
        return {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                "staticPodPath": str(self.manifests), "containerRuntimeEndpoint": self.runtime.endpoint,
                "address": "127.0.0.1", "readOnlyPort": 10255,
                "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
                "authorization": {"mode": "AlwaysAllow"}, "featureGates": gates,
                "cgroupRoot": f"/{self.runtime.cgroup}", "failSwapOn": False, "failCgroupV1": False,
                "protectKernelDefaults": True, "makeIPTablesUtilChains": False,
                "evictionHard": {"memory.available": "10Mi"}, "imageGCHighThresholdPercent": 100,
                "containerLogMaxSize": "1Mi", "containerLogMaxFiles": 100, "containerLogMonitorInterval": "3s"}

    def start(self, **gates):
        config = self.folder / "kubelet.json"
        config.write_text(json.dumps(self._config(gates)))
        argv = [KUBELET, "--config", config, "--hostname-override", NAME, "--node-ip", ADDRESS, "--v", "3"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

        def serves():
            assert self.process.poll() is None, f"the kubelet ended: {self.log}"
            try:
                return self.get("/healthz", port=10248) == "ok" and self.pods() is not None
            except (urllib.error.URLError, ConnectionError):
                return False
        wait_for("the kubelet to serve", serves, 60)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    # ---- what it says ----

    @staticmethod
    def get(path, port=10255):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.read().decode()

    def pods(self):
        """{name without the node's: pod}"""
        items = json.loads(self.get("/pods"))["items"] or []
        return {pod["metadata"]["name"].removesuffix(f"-{NAME}"): pod for pod in items}

    def pod(self, name):
        return self.pods().get(name)

    def logs(self, pod, container, **query):
        """As `kubectl logs`: by way of the kubelet's API."""
        text = "&".join(f"{key}={value}" for key, value in query.items())
        return run("curl", "-sSk", "--fail", f"https://127.0.0.1:10250/containerLogs/default/{pod}-{NAME}/{container}?{text}").stdout

    def command(self, pod, container, argv, stdin=False, tty=False):
        """As `kubectl exec`: a websocket.Command that runs."""
        query = [("command", word) for word in argv] + [("output", 1)]
        query += [("tty", 1)] if tty else [("error", 1)]
        query += [("input", 1)] if stdin else []
        return websocket.Command("127.0.0.1", 10250, f"/exec/default/{pod}-{NAME}/{container}", query)

    # ---- what it is told ----

    def apply(self, name, spec, **metadata):
        manifest = {"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": name, "namespace": "default", **metadata}, "spec": spec}
        made = self.folder / f"{name}.json"
        made.write_text(json.dumps(manifest))
        os.rename(made, self.manifests / f"{name}.json")

    def delete(self, name):
        (self.manifests / f"{name}.json").unlink()


def container_status(pod, name):
    """The status of that container, an init container's too; {} until there is one."""
    status = pod["status"] if pod else {}
    every = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next((one for one in every if one["name"] == name), {})


def is_ready(pod):
    conditions = (pod or {}).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
