"""Established connections of pods take the short way on Debian's kernel (cni/flow_table.h)."""

from contextlib import contextmanager

import pytest

from tests.support.waiting import wait_for

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {{name: c, image: "{registry}/busybox:test", command: [sh, -c, "{command}"]}}
---
"""
# What arrives on one connection is sent back on it.
ECHO = "while true; do nc -l -p 8080 -e cat; done"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
"""
# A line a tenth of a second on one connection, from a pod's own process: it lives as long as the connection does.
TALK = "(while true; do echo line; sleep 0.1; done) | nc {address} {port} > /tmp/lines; sleep 100000"


def apply(node, manifest):
    node.kubectl(f"apply -f - <<'END'\n{manifest}END")
    node.kubectl("wait --for=condition=Ready pod --all --timeout=240s")


@pytest.fixture(scope="module")
def pods(node, registry):
    """The addresses of the echoing pod and of its Service, on a node with a flow table."""
    switch(node, "auto")
    apply(node, POD.format(name="echo", registry=registry, command=ECHO) + SERVICE)
    return [node.kubectl(f"get {what} -o jsonpath={{{path}}}").stdout
            for what, path in [("pod echo", ".status.podIP"), ("service echo", ".spec.clusterIP")]]


def switch(node, mode):
    node.ssh("sed -i '/^flowTable:/d' /etc/skiff/agent.yaml; "
             f"printf 'flowTable: {{mode: {mode}}}\\n' >>/etc/skiff/agent.yaml; systemctl restart skiff-agent")
    has = mode == "auto"
    wait_for("the flow table to come or go",
             lambda: (node.ssh("nft list table inet skiff-flows", check=False).returncode == 0) == has, 120)


def offloaded(node, address):
    """Whether the kernel has a connection to the address on the short way."""
    listed = node.ssh(f"conntrack -L -p tcp --orig-dst {address} 2>/dev/null", check=False).stdout
    return "[OFFLOAD]" in listed


@contextmanager
def talking(node, registry, address, port):
    """A connection on which lines come back; counts them."""
    apply(node, POD.format(name="client", registry=registry, command=TALK.format(address=address, port=port)))
    try:
        yield lambda: int(node.kubectl("exec client -- sh -c 'wc -l < /tmp/lines'").stdout)
    finally:
        node.kubectl("delete pod client")


def goes_on(lines):
    before = lines()
    wait_for("lines to come back", lambda: lines() > before, 60)


def test_connections_take_the_short_way(node, registry, pods):
    listed = node.ssh("nft list table inet skiff-flows").stdout
    assert "skiff0" in listed and "flow add @pods" in listed
    for address, port in zip(pods, [8080, 80]):  # to the pod, and through the Service
        with talking(node, registry, address, port) as lines:
            wait_for("the short way", lambda: offloaded(node, address), 60)
            goes_on(lines)
            node.ssh("systemctl restart skiff-agent")
            goes_on(lines)


def test_the_table_comes_back_after_a_flush(node, registry, pods):
    with talking(node, registry, pods[0], 8080) as lines:
        goes_on(lines)
        node.ssh("nft delete table inet skiff-flows")
        goes_on(lines)
        wait_for("the table", lambda: node.ssh("nft list table inet skiff-flows", check=False).returncode == 0, 60)
        wait_for("the short way", lambda: offloaded(node, pods[0]), 60)


def test_it_can_be_switched_off(node, registry, pods):
    """A connection goes on, on the long way."""
    with talking(node, registry, pods[0], 8080) as lines:
        wait_for("the short way", lambda: offloaded(node, pods[0]), 60)
        switch(node, "none")
        goes_on(lines)
        assert not offloaded(node, pods[0])
