"""Scenario 15: pods on three nodes are one network, over VXLAN and host-gw, in one address family and in both; a node
that comes back with another address is found again."""

import ipaddress
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.scenarios.conftest import running_cluster
from tests.support.capture import capturing
from tests.support.machine import with_port
from tests.support.pages import page_pod
from tests.support.waiting import wait_for

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: pods}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: pods}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
"""


# Bytes that a packet to another node's pod grows by; of VXLAN over IPv4 and over IPv6.
GROWTH = {("vxlan", 4): 50, ("vxlan", 6): 70, ("host-gw", 4): 0, ("host-gw", 6): 0}


@pytest.fixture(scope="module", params=["vxlan-dual", "host-gw-dual", "vxlan-6"])
def three(request):
    mode, family = request.param.rsplit("-", 1)
    for cluster in running_cluster("3", 3, agent_settings=f"overlay: {{mode: {mode}}}\n", family=family):
        cluster.overlay, cluster.growth = mode, GROWTH[mode, cluster.families[0]]
        for n, node in enumerate(cluster.nodes):
            cluster.kubectl("apply", "-f", "-", input=page_pod(
                cluster.registry, f"p{n}", labels={"app": "pods"}, nodeName=node.name))
        cluster.kubectl("apply", "-f", "-", input=SERVICE)
        cluster.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        yield cluster


def addresses(cluster):
    """Of each pod, one in each family of the cluster."""
    pods = json.loads(cluster.kubectl("get", "pods", "-l", "app=pods", "-o", "json").stdout)["items"]
    found = {pod["metadata"]["name"]: [entry["ip"] for entry in pod["status"]["podIPs"]] for pod in pods}
    for pod, ips in found.items():
        assert [6 if ":" in ip else 4 for ip in ips] == cluster.families, (pod, ips)
    return found


def in_pod(cluster, pod, *argv, **options):
    return cluster.kubectl("exec", pod, "--", *argv, timeout=900, **options)


def fetch(cluster, pod, address, path="/", body="cat"):
    """What the web server at the address answers a pod, its body through a shell filter."""
    return in_pod(cluster, pod, "sh", "-c",
                  f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {address} 8080 | {body}").stdout


def test_every_pair_of_pods(three):
    """Up to the largest packet: what is larger is refused by the sender's own interface, not lost on the way."""
    found = addresses(three)
    mtu = 1500 - three.growth
    for source in found:
        for target, ips in found.items():
            for address in ips if source != target else []:
                headers = 48 if ":" in address else 28
                in_pod(three, source, "ping", "-c1", "-W5", "-s", str(mtu - headers), address)
                assert fetch(three, source, address).splitlines()[-1] == target
    link = in_pod(three, "p0", "ip", "link", "show", "eth0").stdout
    assert f"mtu {mtu} " in link


def test_a_large_transfer(three):
    """SKIFF_TRANSFER_MB between two nodes, 100 where nothing is said, arrive as they were sent."""
    found = addresses(three)
    size = int(os.environ.get("SKIFF_TRANSFER_MB", "100")) << 20
    make = f"head -c {size} /dev/urandom > /www/big; sha256sum < /www/big"
    sent = in_pod(three, "p0", "sh", "-c", make).stdout
    for address in found["p0"]:
        assert fetch(three, "p2", address, "/big", f"tail -c {size} | sha256sum") == sent, address


def fast_packets(node):
    """That took the fast path of a node (docs/design/0004-fast-path.md)."""
    metrics = node.run("curl", "-fsS", "http://127.0.0.1:10248/metrics").stdout
    return int(re.search(r"^skiff_agent_fast_path_packets_total (\d+)$", metrics, re.M).group(1))


def test_transfers_take_the_fast_path(three):
    """Over VXLAN, on both nodes: few of 16 MiB's packets are left to the rules."""
    found = addresses(three)
    size = 16 << 20
    in_pod(three, "p0", "sh", "-c", f"head -c {size} /dev/zero > /www/some")
    for address in found["p0"]:
        before = [fast_packets(node) for node in three.nodes]
        assert int(fetch(three, "p2", address, "/some", "wc -c")) > size
        taken = [fast_packets(node) - had for node, had in zip(three.nodes, before)]
        if three.overlay == "vxlan":
            # At most 64 KiB a packet, as the nodes see them.
            assert min(taken[0], taken[2]) > size / 65536 / 2 and taken[1] == 0, taken
        else:
            assert taken == [0, 0, 0]


def restart_agent(cluster, node, change):
    """Killed, and started again with its configuration changed."""
    cluster.end_daemon(node, "skiff-agent")
    config = node.root / "etc" / "agent.yaml"
    config.write_text(change(config.read_text()))
    cluster.start_agent(node)
    cluster.wait_ready()
    cluster.wait_linked(node)


def test_a_transfer_outlives_the_fast_path(three):
    """Its node's agent is killed in the middle of it, and another one wants no fast path."""
    node, off = three.nodes[0], "fastPath: {mode: none}\n"
    address = addresses(three)["p0"][0]
    size = 16 << 20
    in_pod(three, "p0", "sh", "-c", f"head -c {size} /dev/zero > /www/some")
    script = (f"rm -f /tmp/first /tmp/go; printf 'GET /some HTTP/1.0\\r\\n\\r\\n' | nc -w 60 {address} 8080 | "
              "(dd bs=1000 count=1000 of=/dev/null 2>/dev/null; touch /tmp/first; "
              "while [ ! -e /tmp/go ]; do sleep 0.1; done; wc -c)")
    with ThreadPoolExecutor() as pool:
        rest = pool.submit(in_pod, three, "p2", "sh", "-c", script)
        in_pod(three, "p2", "sh", "-c", "while [ ! -e /tmp/first ]; do sleep 0.1; done")
        restart_agent(three, node, lambda config: config + off)
        wait_for("the programs to go", lambda: "clsact" not in node.run("tc", "qdisc").stdout)
        assert "skiff-fast-path" not in node.run("nft", "list", "tables").stdout
        in_pod(three, "p2", "touch", "/tmp/go")
        assert int(rest.result().stdout) > size - 1_000_000
    restart_agent(three, node, lambda config: config.removesuffix(off))
    wait_for("the programs to come", lambda: "clsact" in node.run("tc", "qdisc").stdout)


def test_every_node_answers_for_every_pod(three):
    for node in three.nodes:
        for address in node.addresses:
            url = f"http://{with_port(address, 30080)}/"
            script = f"for i in $(seq 100); do curl -gfsS --max-time 5 '{url}' || exit 1; done"
            answers = three.control_plane.run("sh", "-c", script).stdout.split()
            assert set(answers) == {"p0", "p1", "p2"}


def test_nothing_is_flooded(three):
    """A frame for a pod network that no node has goes nowhere."""
    if three.overlay == "host-gw":
        assert "skiff-vxlan" not in three.nodes[0].run("ip", "link").stdout
        return
    link = "skiff-vxlan" if three.families[0] == 4 else "skiff-vxlan6"
    entries = three.nodes[0].run("bridge", "fdb", "show", "dev", link).stdout
    assert "00:00:00:00:00:00" not in entries
    assert len([line for line in entries.splitlines() if " dst " in line]) == 2


def every_address(cluster):
    """Of each pod all it has, in every family."""
    pods = json.loads(cluster.kubectl("get", "pods", "-l", "app=pods", "-o", "json").stdout)["items"]
    return {pod["metadata"]["name"]: [entry["ip"] for entry in pod["status"]["podIPs"]] for pod in pods}


def nobody(address):
    """An address beside this one that no pod has, and one of a network that no node has."""
    beside = ipaddress.ip_address(address) + 200
    return [str(beside), "fd42:244:0:c8::9" if beside.version == 6 else "10.244.200.9"]


def test_a_third_node_sees_nothing_of_two(three):
    """Neither what their pods say to each other nor what they say to pods that do not exist."""
    found = every_address(three)
    absent = [address for known in found["p1"] for address in nobody(known)]
    pings = [f"ping -c3 -i 0.2 -W5 {address} >/dev/null || echo no answer of {address}" for address in found["p1"]]
    pings += [f"ping -c2 -i 0.2 -W1 {address} >/dev/null && echo an answer of {address}" for address in absent]
    with capturing(three.nodes[2], "eth0", [*found["p0"], *found["p1"], *absent]) as seen:
        assert in_pod(three, "p0", "sh", "-c", "\n".join([*pings, "true"])).stdout == ""
        for address in found["p1"]:
            assert fetch(three, "p0", address).splitlines()[-1] == "p1"
    assert seen == {"frames": 0, "fragments": 0}


def test_the_largest_packets_cross_in_one_piece(three):
    """Both ways between each two nodes; what arrives is seen where it belongs."""
    found = every_address(three)
    for target, ips in found.items():
        with capturing(three.nodes[int(target[1:])], "eth0", ips) as seen:
            for source in found.keys() - {target}:
                size = int(in_pod(three, source, "cat", "/sys/class/net/eth0/mtu").stdout)
                for address in ips:
                    data = size - (48 if ":" in address else 28)
                    in_pod(three, source, "ping", "-c1", "-W5", "-s", str(data), address)
        assert seen["frames"] >= 2 * len(ips) and seen["fragments"] == 0, seen


def test_a_node_that_leaves_is_forgotten(three):
    """And one that joins again, with a token of its own, is found again, whatever range it is given then."""
    node = three.nodes[2]

    def pod_cidr():
        """In the last of the cluster's families."""
        return three.kubectl("get", "node", node.name, "-o", "jsonpath={.spec.podCIDRs}").stdout.split('"')[-2]

    cidr = pod_cidr()
    three.end_daemon(node, "skiff-agent")
    three.kubectl("delete", "node", node.name)
    route = "timeout 20 sh -c '{} ip -" + str(three.families[-1]) + " route show {} | grep -q .; do :; done'"
    three.nodes[0].run("sh", "-c", route.format("while", cidr))
    three.join(node)
    three.wait_ready()
    three.nodes[0].run("sh", "-c", route.format("until", pod_cidr()))
