"""Scenario 25, one node: daemons killed at work."""

import json
import subprocess


def _containers(cluster, node):
    listed = json.loads(cluster.crictl(node, "ps", "-o", "json").stdout)["containers"]
    return {(c["id"], c["createdAt"]) for c in listed}


def test_the_agent_killed_with_ten_pods(kube_new, cluster):
    kube, node = kube_new, cluster.nodes[0]
    kube.apply("counting.yaml", replicas=10)
    kube("rollout", "status", "deployment/counting", "--timeout=120s")
    before = _containers(cluster, node)
    pods = json.loads(kube.out("get", "pods", "-o", "json"))["items"]

    cluster.end_daemon(node, "skiff-agent")
    for pod in pods:
        node.run("curl", "-fsS", "--max-time", "5", f"http://{pod['status']['podIP']}/")
    cluster.start_agent(node)
    cluster.wait_ready()
    cluster.wait_cri(node)
    cluster.wait_linked(node)

    assert _containers(cluster, node) == before
    kube("exec", pods[0]["metadata"]["name"], "--", "true")
    for pod in pods:
        name = pod["metadata"]["name"]
        now = json.loads(kube.out("get", "pod", name, "-o", "json"))["status"]["containerStatuses"][0]
        assert now["restartCount"] == 0 and now["ready"]
        numbers = [int(line) for line in kube.out("logs", name).splitlines()]
        assert numbers == list(range(1, len(numbers) + 1)), "lines lost or doubled"
    kube("delete", "deployment", "counting")


def test_the_control_plane_killed(kube_new, cluster):
    kube = kube_new
    kube("create", "configmap", "kept", "--from-literal=a=1")
    command = cluster.kubectl_command("-n", kube.namespace, "get", "configmaps", "--watch", "-o", "name")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert _next(watching, "configmap/kept")
        cluster.end_daemon(cluster.control_plane, "skiff-control-plane")
        cluster.start_control_plane()
        assert kube.jsonpath("{.data.a}", "configmap/kept") == "1"
        # kubectl's watch ends with the server; a new one picks up from the revision it had.
        watching.kill()
    seen = kube.read_until("configmap/later", "get", "configmaps", "--watch", "-o", "name",
                           on_line={"configmap/kept": [*command[:5], "create", "configmap", "later"]})
    assert "configmap/later" in seen
    cluster.wait_ready()


def _next(process, wanted):
    return any(wanted in line for line in process.stdout)
