"""Three machines with kernels of their own are one network for pods, Services and policies, in both address families, by
VXLAN, by plain routes and by WireGuard; also after one of them comes back elsewhere."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.support.cluster import TOP
from tests.support.machine import run, with_port
from tests.support.pages import page_pod
from tests.support.waiting import settled, wait_for
from tests.vm.conftest import KUBECTL
from tests.vm.vm import NETNS

MACHINES = 3
NODE_PORT = 30080
# What a packet grows by on its way to another node.
GROWTH = {"vxlan": 50, "host-gw": 0, "wireguard": 60}
RANGES = """
clusterCidr: [10.244.0.0/16, "fd42:244::/48"]
serviceCidr: [10.96.0.0/16, "fd42:96::/108"]
listenAddress: "[::]:6443"
nodeLinkAddress: "[::]:6444"
"""
SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: pods}}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {{app: pods}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]
"""
# p1 is for p2 alone.
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: for-p2}
spec: {podSelector: {matchLabels: {pod: p1}}, ingress: [{from: [{podSelector: {matchLabels: {pod: p2}}}]}]}
"""


@pytest.fixture(scope="module")
def cluster(machines, registry, package):
    """The machine with the control plane, which is a node too."""
    first = machines[0]
    for machine in machines:
        machine.install(package, KUBECTL)
    first.ssh(f"cat >>/etc/skiff/control-plane.yaml <<'END'\n{RANGES}END\nsystemctl enable --now skiff-control-plane")
    for machine in machines:
        machine.join(first, registry)
    first.kubectl("wait --for=condition=Ready node --all --timeout=240s")
    first.kubectl(f"apply -f - <<'END'\n{SERVICE}END")
    return first


@pytest.fixture(scope="module", params=GROWTH)
def overlay(request, cluster, machines, registry):
    """One way to reach other nodes' pods, after the other on the same nodes; each with pods of its own."""
    for machine in machines:
        machine.ssh("sed -i '/^overlay:/d' /etc/skiff/agent.yaml; "
                    f"echo 'overlay: {{mode: {request.param}}}' >>/etc/skiff/agent.yaml; systemctl restart skiff-agent")
    cluster.kubectl("delete pod --all --timeout=120s")
    pods = [page_pod(registry, f"p{machine.number}", labels={"app": "pods", "pod": f"p{machine.number}"},
                     nodeName=f"node{machine.number}") for machine in machines]
    cluster.kubectl("apply -f - <<'END'\n" + "\n".join([*pods, "END"]))
    cluster.kubectl("wait --for=condition=Ready pod --all --timeout=240s")
    return request.param


def pod_addresses(cluster):
    """Of each pod, an IPv4 and an IPv6 one."""
    pods = json.loads(cluster.kubectl("get pods -o json").stdout)["items"]
    found = {pod["metadata"]["name"]: [entry["ip"] for entry in pod["status"]["podIPs"]] for pod in pods}
    assert all(["." in ips[0], ":" in ips[1]] == [True, True] for ips in found.values()), found
    return found


def in_pod(cluster, pod, script, **options):
    return cluster.kubectl(f"exec {pod} -- sh -c '{script}'", **options).stdout.strip()


def fetch(cluster, pod, address, port=8080, path="/", body="tail -n 1", wait=60):
    """What the web server there answers a pod, through a shell filter; "" where there is none."""
    return in_pod(cluster, pod, f'printf "GET {path} HTTP/1.0\\r\\n\\r\\n" | nc -w {wait} {address} {port} | {body}',
                  check=False)


def reaches(cluster, source, target, address, mtu):
    """With the largest packet that passes whole, and with what it is for."""
    size = mtu - (48 if ":" in address else 28)
    in_pod(cluster, source, f"ping -c1 -W20 -s {size} {address}")
    assert fetch(cluster, source, address) == target


@contextmanager
def capturing(machine, addresses):
    """A dict that holds, once the block has ended, what passed the machine's wire about the addresses."""
    argv = ["ip", "netns", "exec", NETNS, sys.executable, "-m", "tests.support.capture", machine.tap, *addresses]
    seen = {}
    with subprocess.Popen(argv, cwd=TOP, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield seen
        finally:
            process.terminate()
            seen.update(json.loads(process.stdout.readline()))


def test_every_pair_of_pods(cluster, overlay):
    """Up to the largest packet, which is as large as the way allows."""
    found = pod_addresses(cluster)
    mtu = 1500 - GROWTH[overlay]
    for source in found:
        assert in_pod(cluster, source, "cat /sys/class/net/eth0/mtu") == str(mtu)
        for target, ips in found.items():
            for address in ips if source != target else []:
                reaches(cluster, source, target, address, mtu)


def test_a_large_transfer(cluster, overlay):
    size = 50 << 20
    sent = in_pod(cluster, "p2", f"head -c {size} /dev/urandom > /www/big; sha256sum < /www/big")
    for address in pod_addresses(cluster)["p2"]:
        assert fetch(cluster, "p3", address, path="/big", body=f"tail -c {size} | sha256sum") == sent


def test_a_third_machine_sees_nothing_of_two(cluster, machines, overlay):
    """Neither of pods that are there nor of those that are not; what is for it comes in one piece."""
    found = pod_addresses(cluster)
    absent = ["10.244.200.9", "fd42:244:0:c8::9"]
    with capturing(machines[2], [*found["p1"], *found["p2"], *absent]) as seen:
        for address in found["p2"]:
            reaches(cluster, "p1", "p2", address, 1500 - GROWTH[overlay])
        for address in absent:
            in_pod(cluster, "p1", f"ping -c2 -W1 {address}", check=False)
    assert seen == {"frames": 0, "fragments": 0}
    with capturing(machines[2], found["p3"]) as seen:
        for address in found["p3"]:
            reaches(cluster, "p1", "p3", address, 1500 - GROWTH[overlay])
    assert seen["fragments"] == 0
    assert (seen["frames"] > 0) == (overlay != "wireguard")  # which shows pods' packets to nobody


def test_services(cluster, machines, overlay):
    """Every node answers outside for every pod, and every pod reaches every pod by the Service, in both families."""
    for machine in machines:
        for address in [machine.address, machine.address6]:
            url = f"http://{with_port(address, NODE_PORT)}/"
            script = f"for i in $(seq 40); do curl -gfsS --max-time 20 '{url}' || exit 1; done"
            answers = run("ip", "netns", "exec", NETNS, "sh", "-c", script).stdout.split()
            assert set(answers) == {"p1", "p2", "p3"}
    addresses = json.loads(cluster.kubectl("get service pods -o json").stdout)["spec"]["clusterIPs"]
    for source in ["p1", "p2", "p3"]:
        for address in addresses:
            script = f'for i in $(seq 30); do printf "GET / HTTP/1.0\\r\\n\\r\\n" | nc -w 20 {address} 80 | tail -n 1; done'
            assert set(in_pod(cluster, source, script).split()) == {"p1", "p2", "p3"}, (source, address)
    assert fetch(cluster, "p3", "pods.default.svc.cluster.local", 80) in {"p1", "p2", "p3"}


def test_policies(cluster, overlay):
    """Who comes from another node is known there for the pod that it is."""
    found = pod_addresses(cluster)
    cluster.kubectl(f"apply -f - <<'END'\n{POLICY}END")
    try:
        for address in found["p1"]:
            cut_off = settled(lambda: fetch(cluster, "p3", address, wait=3), lambda answer: not answer, 30)
            assert cut_off == "", address
            assert fetch(cluster, "p2", address) == "p1"
    finally:
        cluster.kubectl("delete networkpolicy for-p2")
    for address in found["p1"]:
        assert settled(lambda: fetch(cluster, "p3", address, wait=3), bool, 30) == "p1"


def test_a_node_that_comes_back_with_another_address(cluster, machines, overlay):
    moved = machines[2]
    last = "19" if moved.address.endswith("13") else "13"
    before = json.loads(cluster.kubectl("get pod p3 -o json").stdout)["status"]["containerStatuses"][0]["restartCount"]
    moved.power_off()
    moved.address, moved.address6 = f"10.77.0.{last}", f"fd00:77::{last}"
    moved.power_on()
    moved.wait_up()
    cluster.kubectl(f"wait --for=jsonpath={{.status.addresses[0].address}}={moved.address} node/node3 --timeout=240s")
    restarted = f"{{.status.containerStatuses[0].restartCount}}={before + 1}"
    cluster.kubectl(f"wait --for=jsonpath={restarted} pod/p3 --timeout=240s")
    cluster.kubectl("wait --for=condition=Ready pod/p3 --timeout=240s")
    for address in pod_addresses(cluster)["p3"]:
        # The other nodes learn of it a moment after the API does.
        wait_for("the way to the node's new address", lambda: fetch(cluster, "p1", address, wait=3) == "p3", 60)
        reaches(cluster, "p2", "p3", address, 1500 - GROWTH[overlay])
