"""A Skiff cluster on this machine, of machines made of namespaces (machine.py).

    python3 -m tests.support.cluster up [--name N] [--nodes K] [--family 4|6|dual|dual6]
    python3 -m tests.support.cluster down [--name N]

Clusters of different names stand side by side: each has a bridge, networks (an IPv4 /24, an IPv6 /64) and a folder of
its own.
"""

import argparse
import base64
import fcntl
import json
import os
import pathlib
import re
import select
import shlex
import signal
import subprocess
import sys

from tests.support.machine import Machine, add_address, run, with_port
from tests.support.waiting import wait_for

TOP = pathlib.Path(__file__).resolve().parents[2]
HOME = pathlib.Path(os.environ.get("SKIFF_CLUSTERS", "/var/tmp/skiff-clusters"))
REGISTRY_PORT = 5000
# What --family stands for: the families of the machines and of the cluster, the primary one first.
FAMILIES = {"4": [4], "6": [6], "dual": [4, 6], "dual6": [6, 4]}
CLUSTER_CIDRS = {4: "10.244.0.0/16", 6: "fd42:244::/48"}
SERVICE_CIDRS = {4: "10.96.0.0/16", 6: "fd42:96::/108"}
CGROUP_ROOTS = [pathlib.Path("/sys/fs/cgroup")]


class Cluster:
    def __init__(self, name="dev", build=None):
        if not re.fullmatch(r"[a-z][a-z0-9]{0,5}", name):
            raise ValueError(f"cluster name {name!r}: use up to six small letters and digits, a letter first")
        self.name = name
        self.root = HOME / name
        self.record = self.root / "cluster.json"
        state = json.loads(self.record.read_text()) if self.record.exists() else {}
        self.build = pathlib.Path(build or state.get("build") or TOP / "build" / "release").resolve()
        self.index = state.get("index")
        self.node_count = state.get("nodes", 0)
        self.families = state.get("families", [4])  # of the machines
        self.cluster_families = self.families  # of the cluster's ranges
        self.agent_settings = ""
        self.control_plane_settings = ""

    # ---- addresses and parts ----

    @property
    def bridge(self):
        return f"sk-{self.name}"

    def address(self, last, family=None):
        """Of a machine by its number, in the primary family where none is named."""
        v4 = (family or self.families[0]) == 4
        return f"10.201.{self.index}.{last}" if v4 else f"fd42:201:{self.index:x}::{last}"

    def machine(self, name):
        last = 2 if name == "cp" else 10 + int(name[1:])
        networks = [(self.address(last, family), 24 if family == 4 else 64, self.address(1, family))
                    for family in self.families]
        return Machine(f"{self.name}-{name}", self.root / "machines" / name, self.bridge, networks)

    @property
    def control_plane(self):
        return self.machine("cp")

    @property
    def nodes(self):
        return [self.machine(f"n{i + 1}") for i in range(self.node_count)]

    @property
    def kubeconfig(self):
        return self.control_plane.root / "etc" / "admin.kubeconfig"

    @property
    def registry(self):
        """As images name it; an IPv6 address would be no part of YAML without quotes."""
        return self.registry_endpoint if self.families[0] == 4 else f"registry.test:{REGISTRY_PORT}"

    @property
    def registry_endpoint(self):
        return with_port(self.address(2), REGISTRY_PORT)

    def binary(self, name):
        return self.build / "bin" / name

    # ---- life ----

    def up(self, nodes=1, agent_settings="", control_plane_settings="", family="4", cluster_families=None,
           before_join=lambda node: None):
        """The settings: YAML added to each node's agent.yaml, and to control-plane.yaml. family: one of FAMILIES; the
        cluster has ranges of the same ones where cluster_families names no others. before_join: called with each machine
        that has none yet."""
        self.agent_settings = agent_settings
        self.control_plane_settings = control_plane_settings
        self.families = FAMILIES[family]
        self.cluster_families = cluster_families or self.families
        self._claim_network(nodes)
        self.control_plane.power_on()
        self.start_registry()
        self.start_control_plane()
        for node in self.nodes:
            node.power_on()
            before_join(node)
            self.join(node)
        self.wait_ready()

    def _claim_network(self, nodes):
        """Records the cluster, then makes its bridge on the first free networks; one cluster at a time."""
        self.root.mkdir(parents=True, exist_ok=True)
        if self.index is not None:
            raise RuntimeError(f"cluster {self.name} is recorded in {self.record}: ./dev down --name {self.name} first")
        with open(HOME / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.index, self.node_count = self._free_index(), nodes
            self.record.write_text(json.dumps({"index": self.index, "nodes": nodes, "build": str(self.build),
                                               "families": self.families}))
            run("ip", "link", "add", self.bridge, "type", "bridge")
            run("ip", "link", "set", self.bridge, "up")
            for family in self.families:
                add_address(run, f"{self.address(1, family)}/{24 if family == 4 else 64}", self.bridge)

    def _free_index(self):
        for self.index in range(1, 250):
            networks = [(4, f"{self.address(0, 4)}/24"), (6, f"{self.address(0, 6)}/64")]
            if all(run("ip", f"-{family}", "-j", "route", "show", network).stdout.strip() in ("", "[]", "[ ]")
                   for family, network in networks):
                return self.index
        raise RuntimeError(f"all networks of clusters are taken: see {HOME} and ./dev down")

    def start_registry(self):
        machine = self.control_plane
        config = machine.root / "registry.yml"
        (machine.root / "registry").mkdir(exist_ok=True)
        config.write_text(f"""version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {machine.root}/registry}}, delete: {{enabled: true}}}}
http: {{addr: ":{REGISTRY_PORT}"}}
""")
        machine.start("registry.log", "docker-registry", "serve", config)

    def start_control_plane(self):
        machine = self.control_plane
        config = machine.root / "etc" / "control-plane.yaml"
        if not config.exists():
            config.write_text(self._control_plane_config())
        pid = self._start_daemon(machine, "skiff-control-plane", "--config", "/etc/skiff/control-plane.yaml")
        wait_for(f"the API server to be ready ({machine.root}/skiff-control-plane.log)", self._api_ready, 60)
        return pid

    def _control_plane_config(self):
        """For the families that the cluster has now."""
        return f"""advertiseAddress: "{self.control_plane.address}"
clusterCidr: {json.dumps([CLUSTER_CIDRS[family] for family in self.cluster_families])}
serviceCidr: {json.dumps([SERVICE_CIDRS[family] for family in self.cluster_families])}
{self.control_plane_settings}"""

    def restart_control_plane(self):
        """With the configuration that it would get now."""
        machine = self.control_plane
        self.end_daemon(machine, "skiff-control-plane", signal.SIGTERM)
        (machine.root / "etc" / "control-plane.yaml").unlink()
        return self.start_control_plane()

    def start_agent(self, node):
        return self._start_daemon(node, "skiff-agent", "--config", "/etc/skiff/agent.yaml")

    def _start_daemon(self, machine, program, *arguments):
        pid, _ = machine.start(f"{program}.log", self.binary(program), *arguments)
        (machine.root / f"{program}.pid").write_text(str(pid))
        return pid

    def daemon_pid(self, machine, program):
        return int((machine.root / f"{program}.pid").read_text())

    def end_daemon(self, machine, program, how=signal.SIGKILL):
        """Seen through to its end."""
        pidfd = os.pidfd_open(self.daemon_pid(machine, program))
        signal.pidfd_send_signal(pidfd, how)
        self.wait_for_end(pidfd)

    def join(self, node):
        """A node from nothing: a token, its configuration, its agent."""
        token = self.control_plane.run(self.binary("skiff"), "token", "create").stdout
        command = next(line for line in token.splitlines() if "skiff join" in line).split()
        command = command[command.index("join"):]
        node.run(self.binary("skiff"), *command, "--node-name", node.name, "--no-start")
        config = node.root / "etc" / "agent.yaml"
        config.write_text(config.read_text() + self._node_settings(node))
        self.start_agent(node)

    def _node_settings(self, node):
        return f"""
cgroupRoot: /skiff-{self.name}/{node.name}
libexecDir: {self.build}/bin
registries:
  - host: {self.registry}
    plainHttp: true
    mirrors: ["http://{self.registry_endpoint}"]
{self.agent_settings}"""

    def wait_ready(self):
        def ready():
            listed = self.kubectl("get", "nodes", "-o", "json", check=False)
            if listed.returncode != 0:
                return False
            items = json.loads(listed.stdout)["items"]
            good = [n for n in items for c in n["status"].get("conditions", [])
                    if c["type"] == "Ready" and c["status"] == "True"]
            return len(good) == self.node_count

        wait_for(f"{self.node_count} nodes to be Ready", ready, 60)

    def _api_ready(self):
        return self.kubeconfig.exists() and self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0

    def kubectl_command(self, *argv, version="1.36"):
        return [str(TOP / "build" / "kubectl" / version / "kubectl"), "--kubeconfig", str(self.kubeconfig), *map(str, argv)]

    def kubectl(self, *argv, version="1.36", check=True, **options):
        return run(*self.kubectl_command(*argv, version=version), check=check, **options)

    def wait_cri(self, node):
        wait_for("the CRI socket to answer", lambda: self.crictl(node, "version", check=False).returncode == 0)

    @staticmethod
    def wait_linked(node):
        """Until the node's agent has the control plane: one that was killed counts as Ready for a while, but takes no exec."""
        def up():
            metrics = node.run("curl", "-fsS", "--max-time", "5", "http://127.0.0.1:10248/metrics", check=False).stdout
            return "\nskiff_agent_link_up 1" in metrics

        wait_for(f"{node.name} to be connected", up)

    @staticmethod
    def wait_for_end(pidfd, seconds=30):
        if not select.select([pidfd], [], [], seconds)[0]:
            raise TimeoutError(f"a killed process is still there after {seconds} s")
        os.close(pidfd)

    def _kubeconfig_data(self, key):
        match = re.search(rf"{key}: *(\S+)", self.kubeconfig.read_text())
        return base64.b64decode(match.group(1))

    def admin_certificate(self):
        """Files with the administrator's certificate and key."""
        paths = []
        for key in ["client-certificate-data", "client-key-data"]:
            path = self.root / f"{key}.pem"
            path.write_bytes(self._kubeconfig_data(key))
            paths.append(str(path))
        return paths

    def ca_pem(self):
        return self._kubeconfig_data("certificate-authority-data").decode()

    def ca_hash(self):
        """The join command's pin: SHA-256 of the CA's public key."""
        (self.root / "ca.pem").write_text(self.ca_pem())
        script = f"openssl x509 -in {self.root}/ca.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"
        return "sha256:" + run("sh", "-c", script).stdout.split()[0]

    def crictl_command(self):
        config = self.root / "crictl.yaml"
        endpoint = "unix:///run/skiff/skiff.sock"
        config.write_text(f"runtime-endpoint: {endpoint}\nimage-endpoint: {endpoint}\n")
        return [str(TOP / "build" / "crictl" / "crictl"), "--config", str(config)]

    def crictl(self, node, *argv, check=True, **options):
        """crictl as on the node itself: exec streams over its loopback, logs are in its /var/log."""
        return node.run(*self.crictl_command(), *argv, check=check, **options)

    def down(self):
        """Removes all that up made, whatever state it is in."""
        if self.index is None:
            return
        for machine in [*self.nodes, self.control_plane]:
            machine.power_off()
            for log in machine.root.glob("*.log"):
                log.rename(HOME / f"{machine.name}-{log.name}")
        run("ip", "link", "del", self.bridge, check=False)
        remove_cgroups(f"skiff-{self.name}")
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.root)], check=True)
        self.index = None


def remove_cgroups(name):
    """The subtree of that name in every hierarchy, deepest first; its processes are dead."""
    for root in CGROUP_ROOTS:
        for top in [root / name, *root.glob(f"*/{name}")]:
            for folder, _, _ in os.walk(top, topdown=False):
                os.rmdir(folder)


def describe(cluster):
    print(f"cluster {cluster.name}: {cluster.node_count} node(s)\n")
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    for node in cluster.nodes:
        # Inside, as exec, attach and port-forward stream over the node's own loopback.
        print(f"alias crictl-{node.name}='{shlex.join([*node.enter(), *cluster.crictl_command()])}'")
    print(f"\nregistry: {cluster.registry_endpoint} (plain HTTP), in images' names {cluster.registry}; "
          f"logs: {cluster.root}/machines/*/*.log")


def main():
    parser = argparse.ArgumentParser(prog="dev")
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--name", default="dev")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--family", choices=FAMILIES, default="4")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.name)
    if arguments.action == "down":
        cluster.down()
        return
    try:
        cluster.up(arguments.nodes, family=arguments.family)
    except BaseException:
        cluster.down()
        raise
    describe(cluster)


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError, ValueError) as error:
        sys.exit(f"dev: {error}")
