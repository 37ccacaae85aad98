"""ReplicationControllers, of which manifests were made before there were Deployments, and what kubectl does with them."""


def test_a_replication_controller_and_kubectl(kube, cluster):
    kube.apply("replication.yaml")
    kube.wait_value("{.status.readyReplicas}", 2, "rc/old")
    table = kube.out("get", "rc").splitlines()
    assert table[0].split() == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    assert table[1].split()[:4] == ["old", "2", "2", "2"]
    wide = kube.out("get", "rc", "old", "-o", "wide").splitlines()
    assert wide[0].split()[-3:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert wide[1].split()[-3:] == ["web", f"{cluster.registry}/nginx:test", "app=old"]
    assert "replicationcontroller/old" in kube.out("get", "all", "-o", "name")

    kube("scale", "rc", "old", "--replicas=3")
    kube.wait_value("{.status.readyReplicas}", 3, "rc/old")
    assert len(kube.out("get", "pods", "-o", "name").split()) == 3
    described = kube.out("describe", "rc", "old")
    assert "Replicas:     3 current / 3 desired" in described and "SuccessfulCreate" in described
    kube("expose", "rc", "old", "--port=80", "--name=old")
    assert kube.jsonpath("{.spec.selector.app}", "service", "old") == "old"
    address = kube.jsonpath("{.spec.clusterIP}", "service", "old")
    asking = f"timeout 20 sh -c 'until curl -fsS --max-time 2 http://{address}/; do :; done'"
    assert "nginx" in cluster.nodes[0].run("sh", "-c", asking).stdout
    assert "Found 3 pods" in kube("logs", "rc/old").stderr

    # A pod that goes is made anew; the controller takes its pods along.
    gone = kube.out("get", "pods", "-o", "name").split()[0]
    kube("delete", gone)
    kube.wait_value("{.status.readyReplicas}", 3, "rc/old")
    left = kube.out("get", "pods", "-o", "name").split()
    assert gone not in left and len(left) == 3
    kube("delete", "rc/old")
    kube.wait_gone("pod", "-l", "app=old")
