"""Scenario 1: a deployment, its three levels of objects, scaling, and nothing left after delete; on one node and three."""

import json


def test_create_scale_delete(kube):
    create_scale_delete(kube)


def test_create_scale_delete_on_three_nodes(kube3):
    """A pod on each node; every node reaches every pod."""
    pods = create_scale_delete(kube3)
    assert {pod["spec"]["nodeName"] for pod in pods} == {node.name for node in kube3.cluster.nodes}


def create_scale_delete(kube):
    image = f"{kube.cluster.registry}/nginx:test"
    kube("create", "deployment", "web", f"--image={image}")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    listed = kube.out("get", "deployment,rs,pods", "-o", "name").splitlines()
    assert [name.split("/")[0] for name in listed] == ["deployment.apps", "replicaset.apps", "pod"]

    kube("scale", "deployment", "web", "--replicas=3")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    pods = json.loads(kube.out("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(pods) == 3 and len(addresses) == 3
    for node in kube.cluster.nodes:
        for address in addresses:
            assert "nginx" in node.run("curl", "-sS", "--max-time", "5", f"http://{address}/").stdout

    table = kube.out("get", "deployment", "web").splitlines()
    assert table[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert table[1].split()[:4] == ["web", "3/3", "3", "3"]

    kube("delete", "deployment", "web")
    kube.wait_gone("pod", "-l", "app=web")
    assert kube.out("get", "deployment,rs,pods", "-o", "name") == ""
    return pods


def test_kubectl_run(kube, cluster):
    kube("run", "one", f"--image={cluster.registry}/nginx:test", "--port=80")
    kube.wait("condition=Ready", "pod/one")
    assert kube.jsonpath("{.status.phase}", "pod/one") == "Running"
    wide = kube.out("get", "pod", "one", "-o", "wide").splitlines()
    assert wide[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] and "NOMINATED NODE" in wide[0]
    assert wide[1].split()[1:3] == ["1/1", "Running"]
    kube("delete", "pod", "one")


def test_scale_to_ten_and_to_nothing(kube_new, cluster):
    kube = kube_new
    kube("create", "deployment", "web", f"--image={cluster.registry}/nginx:test", "--replicas=10")
    kube("rollout", "status", "deployment/web", "--timeout=120s")
    assert kube.jsonpath("{.status.readyReplicas}", "deployment/web") == "10"
    kube("scale", "deployment", "web", "--replicas=0")
    kube.wait_gone("pod", "-l", "app=web")
