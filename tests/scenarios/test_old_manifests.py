"""Manifests of 2016 to 2019: they are accepted as they are, and served as apps/v1."""

import json


def test_manifests_of_2016(kube):
    kube.apply("old.yaml", replicas=1)
    kube("rollout", "status", "deployment/old", "--timeout=60s")
    today = json.loads(kube.out("get", "deployment", "old", "-o", "json"))
    assert today["apiVersion"] == "apps/v1" and today["spec"]["selector"] == {"matchLabels": {"app": "old"}}
    asked = kube.jsonpath("{.apiVersion}", "deployments.v1beta1.extensions", "old")
    assert asked == "extensions/v1beta1"
    names = kube.out("get", "all", "-o", "name").split()
    assert len(names) == len(set(names)) and len([name for name in names if name.startswith("deployment")]) == 2

    again = kube.apply("old.yaml", replicas=1).stdout.splitlines()
    assert len(again) == 3 and all(line.endswith("unchanged") for line in again), again
    kube.apply("old.yaml", replicas=2)
    kube.wait_value("{.status.readyReplicas}", 2, "deployment/old")
    kube("set", "env", "deployment/old", "ROUND=2")
    kube("rollout", "status", "deployment/old", "--timeout=60s")
    kube("delete", "deployment.v1beta1.extensions/old", "deployment/beta1", "replicaset.v1beta2.apps/beta2")
    kube.wait_gone("pod", "-l", "app=old")
