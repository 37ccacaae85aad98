"""Pods' traffic beside bare devices: throughput and latency on one node, across two, and through a Service.

Bare is what `ip` makes without us: namespaces on a bridge by veth pairs, and the bridges of two machines joined by a VXLAN
device, on the same underlay and with the same MTU. Ours and bare take turns, and medians are compared.
"""

import json
import re
import statistics
import subprocess

from tests.support.machine import Machine, run
from tests.support.waiting import wait_for

ROUNDS = 5
SECONDS = 3
PORTS = {"iperf3": 5201, "sockperf": 5202}  # a port each: one of them leaves its own in TIME_WAIT
POD_MTU = 1450

PODS = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{name: {name}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: {registry}/busybox:test, command: [sleep, "100000"]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{name: {name}}}, ports: {ports}}}
---
"""


class Place:
    """A network namespace with an address. enter: the words before a command that make it run there."""

    def __init__(self, enter, address):
        self.enter, self.address = enter, address

    def run(self, *argv):
        return run(*self.enter, *argv)

    def serve(self, *argv):
        """A program that listens on its port."""
        server = subprocess.Popen([*self.enter, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(f"{argv[0]} to listen", lambda: f":{PORTS[argv[0]]} " in self.run("ss", "-Hltn").stdout)
        return server


# ---- what is measured ----

SERVERS = {"iperf3": ["--server", "--one-off"], "sockperf": ["server", "--tcp"]}
CLIENTS = {"iperf3": ["--json", "--client"], "sockperf": ["ping-pong", "--tcp", "-i"]}


def measured(program, server, client, address):
    """What the program prints as a client of itself as a server; each takes its port and time."""
    port = str(PORTS[program])
    listening = server.serve(program, *SERVERS[program], "-p", port)
    try:
        return client.run(program, *CLIENTS[program], address, "-p", port, "-t", SECONDS).stdout
    finally:
        listening.terminate()
        listening.wait()


def throughput(server, client, address):
    """Gbit/s of one TCP connection."""
    out = measured("iperf3", server, client, address)
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9


def latency(server, client, address):
    """Microseconds, one way, of a small message over TCP, half of the round trip: the median."""
    out = measured("sockperf", server, client, address)
    return float(re.search(r"percentile 50\.000 = +([\d.]+)", out).group(1))


MEASURES = [("throughput", throughput, "Gbit/s"), ("latency p50", latency, "us")]


# ---- ours ----

def our_pods(cluster):
    """near and next on one node, far on another."""
    where = {"near": 0, "next": 0, "far": 1}
    ports = json.dumps([{"name": name, "port": port} for name, port in PORTS.items()])
    manifest = "".join(PODS.format(name=name, node=cluster.nodes[i].name, registry=cluster.registry, ports=ports)
                       for name, i in where.items())
    cluster.kubectl("apply", "-f", "-", input=manifest)
    cluster.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    places = {}
    for name, i in where.items():
        node = cluster.nodes[i]
        container = cluster.crictl(node, "ps", "-q", "--label", f"io.kubernetes.pod.name={name}").stdout.strip()
        pid = json.loads(cluster.crictl(node, "inspect", container).stdout)["info"]["pid"]
        address = cluster.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}").stdout
        places[name] = Place([*node.enter(), "nsenter", "-t", str(pid), "-n", "--"], address)
    return places


# ---- bare ----

class Bare:
    """The same three places without us, on machines of the cluster's own network."""

    def __init__(self, cluster):
        self.machines = [Machine(f"{cluster.name}-b{i}", cluster.root / "machines" / f"b{i}", cluster.bridge,
                                 [(cluster.address(100 + i), 24, cluster.address(1))]) for i in range(2)]

    def __enter__(self):
        for machine, peer in zip(self.machines, reversed(self.machines)):
            machine.root.mkdir(parents=True, exist_ok=True)
            machine.power_on()
            for words in ["link add pods type bridge", f"link set pods mtu {POD_MTU} up",
                          f"link add vxlan type vxlan id 7 dstport 4790 local {machine.address} remote {peer.address} dev eth0",
                          f"link set vxlan mtu {POD_MTU} master pods up"]:
                machine.run("ip", *words.split())
        return {"near": self._place(0, 1), "next": self._place(0, 2), "far": self._place(1, 3)}

    def _place(self, index, number):
        machine = self.machines[index]
        pid, _ = machine.start("bare.log", "unshare", "--net", "sleep", "infinity")
        here = ["nsenter", "-t", str(machine.init_pid()), "-n", "--"]  # in the host's PID namespace
        inside = ["nsenter", "-t", str(pid), "-n", "--"]
        own = run(*here, "readlink", "/proc/self/ns/net").stdout
        wait_for("a namespace of its own", lambda: run(*inside, "readlink", "/proc/self/ns/net").stdout != own)
        run(*here, "ip", "link", "add", f"p{number}", "mtu", POD_MTU, "type", "veth",
            "peer", "name", "eth0", "mtu", POD_MTU, "netns", pid)
        run(*here, "ip", "link", "set", f"p{number}", "master", "pods", "up")
        for words in [f"addr add 10.99.0.{number}/24 dev eth0", "link set eth0 up", "link set lo up"]:
            run(*inside, "ip", *words.split())
        return Place(inside, f"10.99.0.{number}")

    def __exit__(self, *_):
        for machine in self.machines:
            machine.power_off()


# ---- both ----

def in_turns(measure, paths):
    """The median of each path, measured in turns so that what the machine does besides meets them alike."""
    found = {name: [] for name in paths}
    for _ in range(ROUNDS):
        for name, path in paths.items():
            found[name].append(measure(*path))
    return {name: statistics.median(values) for name, values in found.items()}


def figures(cluster):
    ours = our_pods(cluster)
    vips = {name: cluster.kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}").stdout for name in ours}
    with Bare(cluster) as bare:
        for title, server in [("same node", "next"), ("across nodes", "far")]:
            paths = {"ours": (ours[server], ours["near"], ours[server].address),
                     "service": (ours[server], ours["near"], vips[server]),
                     "bare": (bare[server], bare["near"], bare[server].address)}
            for what, measure, unit in MEASURES:
                found = in_turns(measure, paths)
                for name, text in [("ours", "pod to pod"), ("service", "pod to Service")]:
                    yield {"name": f"{text}, {title}, {what}", "value": round(found[name], 2), "unit": unit,
                           "peer": round(found["bare"], 2), "peer_is": "bare devices"}
