"""Scenario 6: labels and taints of nodes, and what pods say of nodes and of each other, decide where they land; on three
nodes."""

import contextlib
import datetime
import json

import pytest


@pytest.fixture
def nodes(cluster3):
    """The nodes' names; what a test did to them is undone."""
    names = [node.name for node in cluster3.nodes]
    before = [json.loads(cluster3.kubectl("get", "node", name, "-o", "json").stdout) for name in names]
    yield names
    for node in before:
        now = json.loads(cluster3.kubectl("get", "node", node["metadata"]["name"], "-o", "json").stdout)
        extra = [f"{label}-" for label in now["metadata"]["labels"] if label not in node["metadata"]["labels"]]
        if extra:
            cluster3.kubectl("label", "node", node["metadata"]["name"], *extra)
        taints = now["spec"].get("taints", [])
        for key in {taint["key"] for taint in taints if not taint["key"].startswith("node.kubernetes.io/")}:
            cluster3.kubectl("taint", "node", node["metadata"]["name"], f"{key}-")
        cluster3.kubectl("uncordon", node["metadata"]["name"])


def deploy(kube, name, replicas, rollout=True, **spec):
    """A Deployment of sleeping pods; spec: more fields of the pods' spec."""
    labels = {"app": name}
    container = {"name": "main", "image": f"{kube.cluster.registry}/busybox:test", "command": ["sleep", "3600"]}
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                  "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                           "template": {"metadata": {"labels": labels}, "spec": pod}}}
    kube("apply", "-f", "-", input=json.dumps(deployment))
    if rollout:
        kube("rollout", "status", f"deployment/{name}", "--timeout=60s")


def places(kube, name):
    """Where its pods are, by get pods -o wide."""
    lines = kube.out("get", "pods", "-l", f"app={name}", "-o", "wide").splitlines()
    column = lines[0].split().index("NODE")
    return sorted(line.split()[column] for line in lines[1:])


def why_pending(kube, name):
    """What a pod of it that no node takes is told."""
    kube.wait("condition=PodScheduled=false", "pod", "-l", f"app={name}", "--timeout=30s")
    return kube.jsonpath("{.items[0].status.conditions[?(@.type=='PodScheduled')].message}", "pods", "-l", f"app={name}")


def affinity(**rules):
    return {"affinity": {"nodeAffinity": rules}}


def expression(key, operator, *values):
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def test_pods_land_where_labels_say(kube3, nodes):
    kube = kube3
    kube("label", "nodes", nodes[1], "disk=ssd", "cores=8")
    kube("label", "nodes", nodes[2], "disk=hdd", "cores=16")
    shown = kube.out("get", "nodes", "--show-labels").splitlines()
    assert ["disk=ssd" in line for line in shown[1:]] == [False, True, False]
    assert kube.out("get", "nodes", "-l", "disk", "-o", "name").split() == [f"node/{name}" for name in nodes[1:]]

    deploy(kube, "selected", 2, nodeSelector={"disk": "ssd"})
    assert places(kube, "selected") == [nodes[1]] * 2
    term = [expression("disk", "NotIn", "ssd"), expression("cores", "Gt", "10"), expression("disk", "Exists")]
    deploy(kube, "required", 2, **affinity(requiredDuringSchedulingIgnoredDuringExecution={
        "nodeSelectorTerms": [{"matchExpressions": term}]}))
    assert places(kube, "required") == [nodes[2]] * 2
    by_name = {"matchFields": [expression("metadata.name", "In", nodes[0])]}
    deploy(kube, "named", 1, **affinity(requiredDuringSchedulingIgnoredDuringExecution={"nodeSelectorTerms": [by_name]}))
    assert places(kube, "named") == [nodes[0]]
    # Of two wishes the weightier one counts; neither is a condition.
    wishes = [{"weight": 10, "preference": {"matchExpressions": [expression("disk", "In", "ssd")]}},
              {"weight": 90, "preference": {"matchExpressions": [expression("disk", "DoesNotExist")]}}]
    deploy(kube, "wishing", 1, **affinity(preferredDuringSchedulingIgnoredDuringExecution=wishes))
    assert places(kube, "wishing") == [nodes[0]]

    # A label that goes leaves the pods that are there alone; new ones wait for one that comes.
    kube("label", "nodes", nodes[1], "disk-")
    assert places(kube, "selected") == [nodes[1]] * 2
    kube("delete", "pods", "-l", "app=selected")
    assert why_pending(kube, "selected") == \
        "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
    kube("label", "nodes", nodes[2], "disk=ssd", "--overwrite")
    kube("rollout", "status", "deployment/selected", "--timeout=60s")
    assert places(kube, "selected") == [nodes[2]] * 2


def test_taints_keep_pods_away_and_send_them_off(kube3, nodes):
    kube = kube3
    kube("taint", "nodes", nodes[0], "dedicated=db:NoSchedule")
    assert "dedicated=db:NoSchedule" in kube.out("describe", "node", nodes[0])
    deploy(kube, "web", 4)
    assert places(kube, "web") == [nodes[1]] * 2 + [nodes[2]] * 2
    toleration = {"key": "dedicated", "operator": "Equal", "value": "db", "effect": "NoSchedule"}
    deploy(kube, "db", 1, tolerations=[toleration], nodeSelector={"kubernetes.io/hostname": nodes[0]})
    assert places(kube, "db") == [nodes[0]]

    # NoSchedule leaves what is there; who deletes the pods of such a node finds them on another.
    kube("taint", "nodes", nodes[1], "dedicated=db:NoSchedule")
    assert places(kube, "web") == [nodes[1]] * 2 + [nodes[2]] * 2
    on_node = kube.out("get", "pods", "-l", "app=web", "-o", "name", "--field-selector", f"spec.nodeName={nodes[1]}")
    kube("delete", *on_node.split())
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    assert places(kube, "web") == [nodes[2]] * 4
    kube("taint", "nodes", nodes[0], "dedicated-")
    kube("taint", "nodes", nodes[1], "dedicated:NoSchedule-")
    kube("scale", "deployment", "web", "--replicas=6")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    assert places(kube, "web") == [nodes[0], nodes[1]] + [nodes[2]] * 4

    # PreferNoSchedule is a wish: the node takes pods that have nowhere else to go.
    for node in nodes[:2]:
        kube("taint", "nodes", node, "quiet=please:PreferNoSchedule")
    deploy(kube, "rather", 2)
    assert places(kube, "rather") == [nodes[2]] * 2
    deploy(kube, "must", 1, nodeSelector={"kubernetes.io/hostname": nodes[0]})


def test_no_execute_sends_off_what_does_not_tolerate_it(kube3, nodes):
    kube = kube3
    here = {"kubernetes.io/hostname": nodes[0]}
    tolerates = {"key": "maintenance", "operator": "Exists", "effect": "NoExecute"}
    deploy(kube, "stays", 1, nodeSelector=here, tolerations=[tolerates])
    deploy(kube, "lingers", 1, nodeSelector=here, tolerations=[{**tolerates, "tolerationSeconds": 3}])
    deploy(kube, "goes", 1, affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [expression("kubernetes.io/hostname", "In", nodes[0])]}}]}})
    assert [places(kube, name) for name in ["stays", "lingers", "goes"]] == [[nodes[0]]] * 3
    first = {name: kube.jsonpath("{.items[0].metadata.name}", "pods", "-l", f"app={name}")
             for name in ["stays", "lingers", "goes"]}

    kube("taint", "nodes", nodes[0], "maintenance=now:NoExecute")
    for name in ["goes", "lingers"]:
        kube.wait_gone("pod", first[name])
    kube("rollout", "status", "deployment/goes", "--timeout=60s")
    assert places(kube, "goes")[0] in nodes[1:]
    # Of times that are told in whole seconds.
    assert evicted_at(kube, first["lingers"]) - evicted_at(kube, first["goes"]) >= datetime.timedelta(seconds=2)
    assert kube.jsonpath("{.items[*].metadata.name}", "pods", "-l", "app=stays") == first["stays"]


def evicted_at(kube, pod):
    """When the pod was told to go because of a taint."""
    events = json.loads(kube.out("get", "events", "--field-selector", f"involvedObject.name={pod}", "-o", "json"))["items"]
    times = [event["firstTimestamp"] for event in events if event["reason"] == "TaintManagerEviction"]
    assert times, events
    return datetime.datetime.fromisoformat(times[0].replace("Z", "+00:00"))


def test_cordon_drain_uncordon(kube3, nodes):
    kube = kube3
    deploy(kube, "web", 3)
    assert places(kube, "web") == nodes
    kube("cordon", nodes[2])
    assert "Ready,SchedulingDisabled" in kube.out("get", "node", nodes[2])
    kube("scale", "deployment", "web", "--replicas=5")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    assert places(kube, "web").count(nodes[2]) == 1
    # Every kubectl drains, by evictions.
    for node, version in [(nodes[2], "1.36"), (nodes[1], "1.20"), (nodes[2], "1.32")]:
        with drained(kube, node, version) as said:
            assert "evicting pod" in said or version != "1.36", said
            kube("rollout", "status", "deployment/web", "--timeout=60s")
            assert node not in places(kube, "web")
        kube("delete", "pods", "-l", "app=web")
        kube("rollout", "status", "deployment/web", "--timeout=60s")
        assert set(places(kube, "web")) == set(nodes)


@contextlib.contextmanager
def drained(kube, node, version):
    drain = kube.cluster.kubectl("drain", node, "--ignore-daemonsets", "--force", "--timeout=60s", version=version)
    assert f"node/{node} " in drain.stdout
    yield drain.stdout + drain.stderr
    kube.cluster.kubectl("uncordon", node, version=version)


def test_pods_beside_and_apart_from_each_other(kube3, nodes):
    kube = kube3
    kube("label", "nodes", nodes[0], "zone=a")
    kube("label", "nodes", nodes[1], nodes[2], "zone=b")
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "apart"}}}]}}
    deploy(kube, "apart", 3, affinity=apart)
    assert places(kube, "apart") == nodes
    kube("scale", "deployment", "apart", "--replicas=4")
    pending = ["get", "pods", "-l", "app=apart", "--field-selector", "status.phase=Pending", "-o", "name"]
    kube.wait_value("{.status.replicas}", 4, "deployment/apart")
    kube.wait("condition=PodScheduled=false", kube.out(*pending))
    reason = kube.jsonpath("{.status.conditions[?(@.type=='PodScheduled')].message}", kube.out(*pending))
    assert reason == "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules."

    deploy(kube, "cache", 1, nodeSelector={"zone": "a"})
    beside = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "cache"}}}]}}
    deploy(kube, "beside", 2, affinity=beside)
    assert places(kube, "beside") == [nodes[0]] * 2
    # Two zones of one and of two nodes get as many pods each.
    spread = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
               "labelSelector": {"matchLabels": {"app": "spread"}}}]
    deploy(kube, "spread", 6, topologySpreadConstraints=spread)
    assert places(kube, "spread").count(nodes[0]) == 3
