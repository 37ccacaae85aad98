"""What is wrong gets the status and the words that a Kubernetes user knows, and the daemons live on."""

import socket
import ssl

import pytest

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers: [{{name: c, image: {image}{extra}}}]
"""


@pytest.fixture(autouse=True)
def daemons_live_on(cluster):
    pids = [cluster.daemon_pid(cluster.control_plane, "skiff-control-plane"),
            cluster.daemon_pid(cluster.nodes[0], "skiff-agent")]
    yield
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:
            assert stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    assert cluster.kubectl("get", "--raw", "/readyz").stdout == "ok"


def _refused(kube, manifest, *words):
    result = kube("apply", "-f", "-", input=manifest, check=False)
    assert result.returncode != 0, result.stdout
    for word in words:
        assert word in result.stderr, result.stderr


def test_an_unknown_field(kube, cluster):
    manifest = POD.format(name="x", image="x", extra=", imagePolicy: Always")
    _refused(kube, manifest, "unknown field", "imagePolicy")


def test_a_wrong_type(kube, cluster):
    _refused(kube, POD.format(name="x", image="x", extra=", ports: 80"), "ports")


def test_an_invalid_name(kube, cluster):
    _refused(kube, POD.format(name="Not_Valid", image="x", extra=""),
             "Not_Valid", "a lowercase RFC 1123 subdomain must consist of")


def test_an_image_that_does_not_exist(kube_new, cluster):
    kube = kube_new
    kube("apply", "-f", "-", input=POD.format(name="absent", image=f"{cluster.registry}/no-such:1", extra=""))
    kube.wait("jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff", "pod/absent")
    assert "no-such:1" in kube.out("describe", "pod", "absent")
    kube("delete", "pod", "absent")


def test_a_wrong_join_token(cluster):
    """One clear line that says what to do."""
    node = cluster.nodes[0]
    state = "/tmp/stranger"
    result = node.run("timeout", "5", cluster.binary("skiff-agent"), "--config", "/dev/null", "--node-name", "stranger",
                      "--server", f"{cluster.address(2)}:6444", "--token", "abcdef.0123456789abcdef",
                      "--ca-hash", cluster.ca_hash(), "--state-dir", state, "--run-dir", f"{state}/run", check=False)
    lines = [line for line in result.stderr.splitlines() if "join token" in line]
    assert len(lines) >= 1 and "skiff token create" in lines[0], result.stderr
    node.run("rm", "-rf", state)
    assert "stranger" not in cluster.kubectl("get", "nodes").stdout


def test_a_yaml_bomb(kube, cluster):
    levels = "".join(f"  l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 10))
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  l0: &l0 [x, x, x, x, x, x, x, x, x]\n" + levels
    status, body = _post(cluster, f"/api/v1/namespaces/{kube.namespace}/configmaps", manifest.encode(),
                         "application/yaml")
    assert status == 400 and "Status" in body


def test_an_oversized_body(kube_new, cluster):
    status, body = _post(cluster, f"/api/v1/namespaces/{kube_new.namespace}/configmaps", b" " * (4 << 20),
                         "application/json")
    assert status == 413


def test_half_a_request(cluster):
    with _connect(cluster) as stream:
        stream.sendall(b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"half\":")
    with _connect(cluster) as stream:
        stream.sendall(b"GET /api HT")


def _connect(cluster):
    context = ssl._create_unverified_context()
    certificate, key = cluster.admin_certificate()
    context.load_cert_chain(certificate, key)
    raw = socket.create_connection((cluster.address(2), 6443), timeout=10)
    return context.wrap_socket(raw)


def _post(cluster, path, body, content_type):
    with _connect(cluster) as stream:
        head = (f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n")
        stream.sendall(head.encode())
        try:
            stream.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer may come before the end of the body
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()
