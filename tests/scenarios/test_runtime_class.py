"""RuntimeClasses: pods that an OCI runtime of the node's configuration runs, with what that costs and where it may be."""

import json
import os
import pathlib

import pytest

from tests.scenarios.conftest import Kube, running_cluster
from tests.support.waiting import wait_for

RUNC = pathlib.Path("/usr/sbin/runc")
CLASS = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "sandboxed"}, "handler": "runc",
         "overhead": {"podFixed": {"cpu": "250m", "memory": "16Mi"}},
         "scheduling": {"nodeSelector": {"isolation": "strong"},
                        "tolerations": [{"key": "isolated", "operator": "Exists", "effect": "NoSchedule"}]}}


@pytest.fixture(scope="module")
def cluster():
    if not RUNC.exists():
        assert os.environ.get("NEEDS_STRICT", "0") != "1", f"needs {RUNC}"
        pytest.skip(f"needs {RUNC}")
    yield from running_cluster("r", agent_settings=f"runtimeHandlers: [{{name: runc, path: {RUNC}}}]\n")


def pod_of(cluster, name, **spec):
    container = {"name": "app", "image": f"{cluster.registry}/busybox:test", "command": ["sleep", "1000"],
                 "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}}


def apply(kube, thing, **options):
    return kube("apply", "-f", "-", input=json.dumps(thing), **options)


def test_a_pod_by_its_class(cluster):
    node, kube = cluster.nodes[0], Kube(cluster, "1.36", "default")
    refused = apply(kube, pod_of(cluster, "early", runtimeClassName="sandboxed"), check=False)
    assert refused.returncode != 0
    assert 'pods "early" is forbidden: pod rejected: RuntimeClass "sandboxed" not found' in refused.stderr

    apply(kube, CLASS)
    shown = kube.out("get", "runtimeclass").splitlines()
    assert shown[0].split() == ["NAME", "HANDLER", "AGE"] and shown[1].split()[:2] == ["sandboxed", "runc"], shown
    assert Kube(cluster, "1.20", "default").out("get", "runtimeclasses.node.k8s.io", "-o", "name") == (
        "runtimeclass.node.k8s.io/sandboxed")
    other = apply(kube, {**CLASS, "handler": "crun"}, check=False)
    assert "handler: Invalid value" in other.stderr and "field is immutable" in other.stderr

    # Only where the class says, whatever keeps others away.
    kube("taint", "node", node.name, "isolated=yes:NoSchedule")
    apply(kube, pod_of(cluster, "web", runtimeClassName="sandboxed"))
    assert json.loads(kube.jsonpath("{.spec.overhead}", "pod/web")) == {"cpu": "250m", "memory": "16Mi"}
    wait_for("the pod to find no node", lambda: "Unschedulable" in kube.jsonpath("{.status.conditions}", "pod/web"))
    kube("label", "node", node.name, "isolation=strong")
    kube.wait("condition=Ready", "pod/web")

    uid = kube.jsonpath("{.metadata.uid}", "pod/web")
    sandbox = cluster.crictl(node, "pods", "-q", "--label", f"io.kubernetes.pod.uid={uid}").stdout.strip()
    assert json.loads(cluster.crictl(node, "inspectp", sandbox).stdout)["status"]["runtimeHandler"] == "runc"
    container = cluster.crictl(node, "ps", "-q", "--pod", sandbox).stdout.strip()
    states = list(node.root.rglob(f"{container}/state.json"))
    assert len(states) == 1, "runc knows the container"
    assert kube.out("exec", "web", "--", "echo", "through runc") == "through runc"
    # The pod's cgroup has room for both.
    pid = json.loads(cluster.crictl(node, "inspect", container).stdout)["info"]["pid"]
    limits = node.run("sh", "-c", f"""
        path=$(sed -n 's/^[0-9]*:memory://p; s/^0:://p' /proc/{pid}/cgroup | head -n 1); pod=$(dirname "$path")
        for file in /sys/fs/cgroup/memory/$pod/memory.limit_in_bytes /sys/fs/cgroup/$pod/memory.max; do
          [ ! -e $file ] || cat $file; done""").stdout.split()
    assert limits == [str(80 << 20)]

    # The class may go; what runs stays, and what is new finds none.
    kube("delete", "runtimeclass", "sandboxed")
    kube("exec", "web", "--", "true")
    assert apply(kube, pod_of(cluster, "late", runtimeClassName="sandboxed"), check=False).returncode != 0
    kube("delete", "pod", "web", "--timeout=60s")
    wait_for("no sandbox to be left", lambda: cluster.crictl(node, "pods", "-q").stdout == "")
    assert list(node.root.rglob(f"{container}/state.json")) == []


def test_overhead_counts_for_the_scheduler(cluster):
    node, kube = cluster.nodes[0], Kube(cluster, "1.36", "default")
    apply(kube, {**CLASS, "metadata": {"name": "huge"}, "overhead": {"podFixed": {"memory": "4Ti"}}})
    apply(kube, pod_of(cluster, "big", runtimeClassName="huge"))
    wait_for("the pod not to fit", lambda: "Insufficient memory" in kube.jsonpath("{.status.conditions}", "pod/big"))
    kube("delete", "pod", "big", "--timeout=60s")
    own = apply(kube, pod_of(cluster, "own", overhead={"memory": "1Mi"}), check=False)
    assert "Pod Overhead set without corresponding RuntimeClass defined Overhead" in own.stderr
    kube("delete", "runtimeclass", "huge")


def test_a_handler_that_the_node_lacks(cluster):
    kube = Kube(cluster, "1.36", "default")
    apply(kube, {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "lost"}, "handler": "kata"})
    apply(kube, pod_of(cluster, "lost", runtimeClassName="lost",
                       tolerations=[{"key": "isolated", "operator": "Exists"}]))
    wait_for("the refusal", lambda: "kata" in kube.out(
        "get", "events", "--field-selector", "involvedObject.name=lost,reason=FailedCreatePodSandBox"))
    kube("delete", "pod", "lost", "--timeout=60s")
    kube("delete", "runtimeclass", "lost")
