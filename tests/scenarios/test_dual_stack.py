"""A cluster of one address family, then of both: nodes, pods and Services get the second one; what is there stays."""

import json

import pytest

from tests.scenarios.conftest import running_cluster
from tests.support.cluster import FAMILIES
from tests.support.machine import with_port
from tests.support.pages import page_pod
from tests.support.waiting import wait_for

ENVIRONMENT = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
               for name, path in (("POD_IPS", "status.podIPs"), ("HOST_IPS", "status.hostIPs"))]
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  ipFamilyPolicy: {policy}
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


@pytest.fixture(scope="module")
def one():
    """One node, of IPv4 and IPv6; the cluster begins with IPv4."""
    yield from running_cluster("d", family="dual", cluster_families=FAMILIES["4"])


def get(cluster, *what):
    return json.loads(cluster.kubectl("get", *what, "-o", "json").stdout)


def add_pod(cluster, name):
    cluster.kubectl("apply", "-f", "-", input=page_pod(
        cluster.registry, name, labels={"app": "web"}, container={"env": ENVIRONMENT}))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    return [entry["ip"] for entry in get(cluster, "pod", name)["status"]["podIPs"]]


def add_service(cluster, name, policy):
    cluster.kubectl("apply", "-f", "-", input=SERVICE.format(name=name, policy=policy))
    return get(cluster, "service", name)["spec"]


def slices(cluster, service):
    found = get(cluster, "endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"]
    return {entry["addressType"]: sorted(a for endpoint in entry.get("endpoints") or [] for a in endpoint["addresses"])
            for entry in found}


def answers(machine, url, names):
    script = f"for i in $(seq 60); do curl -gfsS --max-time 5 '{url}' || exit 1; done | sort -u"
    assert machine.run("sh", "-c", script).stdout.split() == sorted(names), url


def test_a_second_family_comes_later(one):
    node = one.nodes[0]
    first = add_pod(one, "first")
    assert len(first) == 1
    before = add_service(one, "web", "PreferDualStack")
    assert before["ipFamilies"] == ["IPv4"]

    one.cluster_families = FAMILIES["dual"]
    one.restart_control_plane()
    wait_for("the node's second range",
             lambda: len(get(one, "node", node.name)["spec"]["podCIDRs"]) == 2, 30)
    one.wait_ready()
    # The agent has been told when the bridge has the range's gateway.
    node.run("timeout", "30", "sh", "-c", "until ip -6 addr show skiff0 | grep -q 'inet6 fd42:244:'; do :; done")

    second = add_pod(one, "second")
    assert [":" in address for address in second] == [False, True]
    assert [entry["ip"] for entry in get(one, "pod", "first")["status"]["podIPs"]] == first
    # A Service is changed by its owner alone.
    assert get(one, "service", "web")["spec"]["clusterIPs"] == before["clusterIPs"]
    one.kubectl("patch", "service", "web", "-p", '{"spec": {"ipFamilyPolicy": "RequireDualStack"}}')
    after = get(one, "service", "web")["spec"]
    assert after["clusterIPs"][:1] == before["clusterIPs"] and after["ipFamilies"] == ["IPv4", "IPv6"]

    wait_for("a slice of each family", lambda: slices(one, "web") == {
        "IPv4": sorted([*first, second[0]]), "IPv6": [second[1]]}, 20)
    subsets = get(one, "endpoints", "web")["subsets"]
    assert sorted(a["ip"] for s in subsets for a in s["addresses"]) == sorted([*first, second[0]])

    port = after["ports"][0]["nodePort"]
    v6_up = f"until curl -gfs --max-time 2 'http://{with_port(after['clusterIPs'][1], 80)}/'; do :; done"
    node.run("timeout", "20", "sh", "-c", v6_up)
    for address, names in zip(after["clusterIPs"], (["first", "second"], ["second"])):
        answers(node, f"http://{with_port(address, 80)}/", names)
    for address, names in zip(node.addresses, (["first", "second"], ["second"])):
        answers(one.control_plane, f"http://{with_port(address, port)}/", names)


def test_a_pod_knows_its_addresses(one):
    node = one.nodes[0]
    found = get(one, "pod", "second")["status"]
    environment = one.kubectl("exec", "second", "--", "env").stdout.splitlines()
    assert f"POD_IPS={','.join(entry['ip'] for entry in found['podIPs'])}" in environment
    assert f"HOST_IPS={','.join(node.addresses)}" in environment
    assert [entry["ip"] for entry in found["hostIPs"]] == node.addresses
    hosts = one.kubectl("exec", "second", "--", "cat", "/etc/hosts").stdout
    assert all(entry["ip"] in hosts for entry in found["podIPs"])
    resolv = one.kubectl("exec", "second", "--", "cat", "/etc/resolv.conf").stdout
    assert "nameserver 10.96.0.10" in resolv and "nameserver fd42:96::a" in resolv


def test_names_have_both(one):
    node = one.nodes[0]
    spec = get(one, "service", "web")["spec"]

    def dig(server, *question):
        return node.run("dig", f"@{server}", "+tries=1", "+time=5", "+short", *question).stdout.split()

    for server in ("10.96.0.10", "fd42:96::a"):
        for kind, address in zip(("A", "AAAA"), spec["clusterIPs"]):
            assert dig(server, "web.default.svc.cluster.local", kind) == [address]
            assert dig(server, "-x", address) == ["web.default.svc.cluster.local."]
        assert dig(server, "kube-dns.kube-system.svc.cluster.local", "AAAA") == ["fd42:96::a"]
    # Another node's resolver, asked for over IPv6 with TCP.
    assert dig("fd42:96::a", "+tcp", "kubernetes.default.svc.cluster.local") == ["10.96.0.1"]


def test_pods_leave_the_cluster_behind_the_nodes_address(one):
    """To an address outside the cluster's ranges, a pod's packets come from its node."""
    node = one.nodes[0]
    target = one.control_plane
    for address, source in zip(target.addresses, node.addresses):
        listen = ("import socket,sys\n"
                  "s = socket.create_server((sys.argv[1], 7777), family=socket.AF_INET6 if ':' in sys.argv[1] else "
                  "socket.AF_INET)\nprint(s.accept()[1][0])")
        (target.root / "peer.log").unlink(missing_ok=True)
        _, process = target.start("peer.log", "/usr/bin/python3", "-c", listen, address)
        wait_for("the listener", lambda: ":7777" in target.run("ss", "-Hltn").stdout)
        one.kubectl("exec", "second", "--", "nc", "-w", "5", address, "7777", input="", check=False)
        process.wait(20)
        assert (target.root / "peer.log").read_text().strip() == source
