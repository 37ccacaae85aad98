"""The agent over another CRI runtime's socket (runtimeEndpoint): Debian's containerd with runc, on one node."""

import json
import os
import pathlib
import re
import socket
import subprocess
import threading

import pytest

from tests.scenarios.conftest import Kube, running_cluster
from tests.support.cluster import TOP
from tests.support.waiting import wait_for

SOCKET = "/run/containerd/containerd.sock"
NEEDED = ["/usr/bin/containerd", "/usr/sbin/runc", "/usr/lib/cni/bridge"]

CONTAINERD = """\
version = 2
root = "{root}/containerd"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{registry}/pause:test"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."{registry}"]
    endpoint = ["http://{registry}"]
"""
CNI = {"cniVersion": "1.0.0", "name": "pods", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.89.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {
    "terminationGracePeriodSeconds": 5,
    "initContainers": [{"name": "first", "command": ["sh", "-c", "echo made by init > /data/index.html"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    "containers": [{"name": "app", "command": ["sh", "-c", "echo serving; trap 'exit 0' TERM; httpd -f -p 80 -h /data & wait"],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    "volumes": [{"name": "data", "emptyDir": {}}]}}


def start_containerd(cluster, node):
    config = node.root / "containerd.toml"
    config.write_text(CONTAINERD.format(root=node.root, socket=SOCKET, registry=cluster.registry))
    (node.root / "cni-net.d" / "10-pods.conflist").write_text(json.dumps(CNI))
    node.start("containerd.log", "containerd", "--config", config)
    wait_for("containerd's socket", lambda: node.run("test", "-S", SOCKET, check=False).returncode == 0)


@pytest.fixture(scope="module")
def cluster():
    missing = [path for path in NEEDED if not pathlib.Path(path).exists()]
    if missing:
        assert os.environ.get("NEEDS_STRICT", "0") != "1", f"needs {missing}"
        pytest.skip(f"needs {missing}")
    yield from running_cluster("x", agent_settings=f"runtimeEndpoint: unix://{SOCKET}\n", before_join=start_containerd)


def crictl(cluster, node, *argv):
    return node.run(TOP / "build" / "crictl" / "crictl", "-r", f"unix://{SOCKET}", *argv).stdout


def test_a_pod_by_containerd(cluster):
    node, kube = cluster.nodes[0], Kube(cluster, "1.36", "default")
    assert kube.jsonpath("{.status.nodeInfo.containerRuntimeVersion}", "node", node.name).startswith("containerd://1.")
    pod = json.loads(json.dumps(POD))
    for container in pod["spec"]["initContainers"] + pod["spec"]["containers"]:
        container["image"] = f"{cluster.registry}/busybox:test"
    kube("apply", "-f", "-", input=json.dumps(pod))
    kube.wait("condition=Ready", "pod/web", timeout="90s")
    address = kube.jsonpath("{.status.podIP}", "pod/web")
    assert address.startswith("10.89.0.")
    assert node.run("curl", "-s", f"http://{address}/").stdout == "made by init\n"
    assert kube.out("logs", "web") == "serving"
    assert kube.out("exec", "web", "--", "cat", "/data/index.html") == "made by init"
    # The end of the input reaches the command, which the WebSocket protocol that containerd 1.6 knows could not say.
    assert kube.out("exec", "-i", "web", "--", "sh", "-c", "cat; echo end", input="through containerd\n") == (
        "through containerd\nend")
    many = "".join(f"{number}\n" for number in range(200_000))
    for _ in range(5):  # containerd closes as soon as it has said all
        assert kube.out("exec", "-i", "web", "--", "cat", input=many) == many.strip()
    failed = kube("exec", "web", "--", "sh", "-c", "exit 7", check=False)
    assert failed.returncode == 7, failed

    before = kube.jsonpath("{.status.containerStatuses[0].containerID}", "pod/web")
    assert before.startswith("containerd://")
    # What ends by itself is noticed by this runtime's events, and started again.
    kube("exec", "web", "--", "kill", "1")
    kube.wait_value("{.status.containerStatuses[0].restartCount}", "1", "pod/web")
    kube.wait("condition=Ready", "pod/web")
    assert kube.jsonpath("{.status.containerStatuses[0].containerID}", "pod/web") != before

    kube("delete", "pod", "web", "--timeout=60s")
    wait_for("no sandbox of containerd's to be left", lambda: crictl(cluster, node, "pods", "-q") == "")
    assert crictl(cluster, node, "ps", "-aq") == ""
    assert list((node.root / "lib" / "pods").iterdir()) == []


def loopback_connections(node):
    """Of the agent to containerd's streaming server."""
    lines = node.run("ss", "-Htn", "state", "established").stdout.splitlines()
    return sum(all(end.startswith("127.0.0.1:") for end in line.split()[-2:]) for line in lines)


def test_ports_are_forwarded(cluster):
    """Over SPDY, as by kubelet; no connection outlives what it carried."""
    node, kube = cluster.nodes[0], Kube(cluster, "1.36", "default")
    counter = {"name": "counts", "image": f"{cluster.registry}/busybox:test", "readinessProbe": {"tcpSocket": {"port": 81}},
               "command": ["nc", "-ll", "-p", "81", "-e", "sh", "-c", "read -r size; head -c $size | wc -c"]}
    kube("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ports"}, "spec": {
        "terminationGracePeriodSeconds": 0, "containers": [counter]}}))
    kube.wait("condition=Ready", "pod/ports")
    command = cluster.kubectl_command("-n", "default", "port-forward", "pod/ports", ":81", ":82")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        patience = threading.Timer(120, forward.kill)
        patience.start()
        try:
            local = {}
            for line in forward.stdout:
                if told := re.match(r"Forwarding from 127.0.0.1:(\d+) -> (\d+)", line):
                    local[int(told[2])] = int(told[1])
                if len(local) == 2:
                    break
            before = loopback_connections(node)
            for size in [0, 1, 1 << 20, 8 << 20] * 3:
                with socket.create_connection(("127.0.0.1", local[81]), timeout=30) as connection:
                    connection.sendall(f"{size}\n".encode() + bytes(size))
                    assert connection.makefile().read() == f"{size}\n"
            wait_for("ended connections are closed", lambda: loopback_connections(node) <= before)
            with socket.create_connection(("127.0.0.1", local[82]), timeout=30) as nobody:
                assert nobody.recv(1) == b"", "nothing listens there"
            said = "".join(forward.stdout)  # client-go gives it all up then
            assert re.search("82: .*refused", said), said
        finally:
            patience.cancel()
            forward.kill()
    wait_for("all connections are closed", lambda: loopback_connections(node) <= before)
    kube("delete", "pod", "ports", "--timeout=60s")


def test_users_of_its_own_are_refused(cluster):
    """containerd 1.6 names no handler that maps users."""
    kube = Kube(cluster, "1.36", "default")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mapped"}, "spec": {
        "hostUsers": False, "containers": [{"name": "a", "image": f"{cluster.registry}/busybox:test"}]}}
    kube("apply", "-f", "-", input=json.dumps(pod))
    wait_for("the refusal", lambda: "runtime does not support user namespaces" in kube.out(
        "get", "events", "--field-selector", "involvedObject.name=mapped"))
    kube("delete", "pod", "mapped", "--timeout=60s")
