"""Three machines with kernels of their own are one network for pods and Services, also after one comes back elsewhere."""

import json

import pytest

from tests.support.machine import run
from tests.support.waiting import wait_for
from tests.vm.conftest import KUBECTL
from tests.vm.vm import NETNS

MACHINES = 3
NODE_PORT = 30080
MTU = 1450  # 1500 less what VXLAN adds over IPv4

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: p{n}, labels: {{app: pods}}}}
spec:
  nodeName: node{n}
  containers:
    - name: web
      image: {registry}/busybox:test
      command: [sh, -c, "mkdir -p /www; echo p{n} > /www/index.html; exec httpd -f -p 8080 -h /www"]
---
"""
SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: pods}}
spec: {{type: NodePort, selector: {{app: pods}}, ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT}}}]}}
"""


@pytest.fixture(scope="module")
def cluster(machines, registry, package):
    """The machine with the control plane, which is a node too."""
    first = machines[0]
    for machine in machines:
        machine.install(package, KUBECTL)
    first.ssh("systemctl enable --now skiff-control-plane")
    for machine in machines:
        machine.join(first, registry)
    first.kubectl("wait --for=condition=Ready node --all --timeout=240s")
    pods = "".join(POD.format(n=machine.number, registry=registry) for machine in machines)
    first.kubectl(f"apply -f - <<'END'\n{pods}{SERVICE}END")
    first.kubectl("wait --for=condition=Ready pod --all --timeout=240s")
    return first


def pod_addresses(cluster):
    pods = json.loads(cluster.kubectl("get pods -o json").stdout)["items"]
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}


def fetch(cluster, pod, address, path="/", body="tail -n 1"):
    script = f"printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc -w 60 {address} 8080 | {body}"
    return cluster.kubectl(f'exec {pod} -- sh -c "{script}"').stdout.strip()


def reaches(cluster, source, target, address):
    """With the largest packet that passes whole, and with what it is for."""
    cluster.kubectl(f"exec {source} -- ping -c1 -W20 -s {MTU - 28} {address}")
    assert fetch(cluster, source, address) == target


def test_every_pair_of_pods(cluster):
    found = pod_addresses(cluster)
    for source in found:
        for target, address in found.items():
            if source != target:
                reaches(cluster, source, target, address)


def test_a_large_transfer(cluster):
    size = 50 << 20
    sent = cluster.kubectl(f'exec p2 -- sh -c "head -c {size} /dev/urandom > /www/big; sha256sum < /www/big"').stdout.strip()
    assert fetch(cluster, "p3", pod_addresses(cluster)["p2"], "/big", f"tail -c {size} | sha256sum") == sent


def test_every_node_answers_for_every_pod(cluster, machines):
    for machine in machines:
        url = f"http://{machine.address}:{NODE_PORT}/"
        script = f"for i in $(seq 40); do curl -fsS --max-time 20 {url} || exit 1; done"
        answers = run("ip", "netns", "exec", NETNS, "sh", "-c", script).stdout.split()
        assert set(answers) == {"p1", "p2", "p3"}


def test_a_node_that_comes_back_with_another_address(cluster, machines):
    moved = machines[2]
    moved.power_off()
    moved.address = "10.77.0.19"
    moved.power_on()
    moved.wait_up()
    cluster.kubectl(f"wait --for=jsonpath={{.status.addresses[0].address}}={moved.address} node/node3 --timeout=240s")
    cluster.kubectl("wait --for=jsonpath={.status.containerStatuses[0].restartCount}=1 pod/p3 --timeout=240s")
    cluster.kubectl("wait --for=condition=Ready pod/p3 --timeout=240s")
    address = pod_addresses(cluster)["p3"]
    # The other nodes learn of it a moment after the API does.
    ping = f"exec p1 -- ping -c1 -W5 {address}"
    wait_for("the way to the node's new address", lambda: cluster.kubectl(ping, check=False).returncode == 0, 60)
    reaches(cluster, "p2", "p3", address)
