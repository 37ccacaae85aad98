"""A node whose /etc/cni/net.d names Debian's reference plugins, switched to them and back while it runs."""

import json
import os

import pytest

from tests.scenarios.conftest import running_cluster
from tests.support.machine import run
from tests.support.pages import page_pod
from tests.support.waiting import settled, wait_for

NETWORK = {"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
     "ipam": {"type": "host-local", "dataDir": "/run/host-local", "ranges": [[{"subnet": "10.85.0.0/16"}]],
              "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": True}}]}

@pytest.fixture(scope="module")
def node_cluster():
    yield from running_cluster("c")


def start(cluster, name, **container):
    """A pod that serves its name; its address."""
    cluster.kubectl("apply", "-f", "-", input=page_pod(cluster.registry, name, ports=[80], container=container))
    cluster.kubectl("wait", "--for=condition=Ready", "pod", name, "--timeout=60s")
    return cluster.kubectl("get", "pod", name, "-o", "jsonpath={.status.podIP}").stdout


def ready(cluster):
    node = json.loads(cluster.kubectl("get", "node", cluster.nodes[0].name, "-o", "json").stdout)
    return next(one for one in node["status"]["conditions"] if one["type"] == "Ready")


def links(node):
    return {link["ifname"] for link in json.loads(node.run("ip", "-j", "link").stdout)}


def test_reference_plugins(node_cluster):
    cluster, node = node_cluster, node_cluster.nodes[0]
    file = node.root / "cni-net.d" / "10-pods.conflist"
    before = start(cluster, "before")
    assert not before.startswith("10.85."), before
    file.write_text(json.dumps(NETWORK))
    wait_for("the agent to take the plugins", lambda: "10-pods.conflist" in (node.root / "skiff-agent.log").read_text())

    web = start(cluster, "web", ports=[{"containerPort": 80, "hostPort": 8080}])
    client = start(cluster, "client")
    assert web.startswith("10.85.") and client.startswith("10.85."), (web, client)
    cluster.kubectl("expose", "pod", "web", "--port=80")
    service = cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").stdout

    def served(*argv):
        return settled(lambda: run(*argv, check=False).stdout.strip(), lambda text: text == "web", 20)

    for address in (web, service):
        assert served(*cluster.kubectl_command("exec", "client", "--", "wget", "-qO-", f"http://{address}/")) == "web"
    assert served(*cluster.control_plane.enter(), "curl", "-s", f"http://{node.address}:8080/") == "web"
    # With plugins the way to other nodes is theirs.
    assert settled(lambda: {"skiff-vxlan"} & links(node), lambda names: not names, 20) == set()

    # Who was there before is taken off by what put it there; then its bridge goes too.
    cluster.kubectl("delete", "pod", "before", "--timeout=60s")
    os.kill(cluster.daemon_pid(node, "skiff-agent"), 9)
    cluster.start_agent(node)
    cluster.wait_cri(node)
    assert served(*cluster.control_plane.enter(), "curl", "-s", f"http://{node.address}:8080/") == "web"
    assert settled(lambda: {"skiff0"} & links(node), lambda names: not names, 60) == set()
    cluster.kubectl("delete", "pod", "--all", "--timeout=60s")
    cluster.kubectl("delete", "service", "web")

    def left():
        leases = node.run("find", "/run/host-local", "/var/lib/skiff/cni", "-name", "10.*", "-o", "-name", "*.json").stdout
        rules = [line for line in node.run("iptables-save").stdout.splitlines() if web in line or client in line]
        return leases.split() + rules + [name for name in links(node) if name.startswith("veth")]

    assert settled(left, lambda found: not found, 20) == []


def test_a_broken_configuration_is_told_and_its_removal_heals(node_cluster):
    cluster, node = node_cluster, node_cluster.nodes[0]
    folder = node.root / "cni-net.d"
    (folder / "05-broken.conflist").write_text('{"cniVersion": "1.0.0", "name": "broken", "plugins": [{}]}')
    told = settled(lambda: ready(cluster), lambda one: one["status"] != "True", 60)
    assert told["status"] == "False" and "05-broken.conflist" in told["message"], told
    for file in folder.iterdir():
        file.unlink()
    assert settled(lambda: ready(cluster), lambda one: one["status"] == "True", 60)["status"] == "True"
    address = start(cluster, "after")
    assert address and not address.startswith("10.85."), address
    cluster.kubectl("delete", "pod", "after", "--timeout=60s")
