"""Pods whose root is nobody on the node: hostUsers: false."""

import json


def inside(kube, pod, container, *argv):
    return kube.out("exec", pod, "-c", container, "--", *argv)


def mapping(kube, pod):
    """(the id on the node of the pod's id 0, how many follow)"""
    inner, outer, length = map(int, inside(kube, pod, "app", "cat", "/proc/self/uid_map").split())
    assert inner == 0 and inside(kube, pod, "app", "cat", "/proc/self/gid_map").split()[1] == str(outer)
    return outer, length


def start(kube, index):
    kube.apply("mapped.yaml", index=index)
    kube.wait("condition=Ready", f"pod/mapped-{index}")
    return mapping(kube, f"mapped-{index}")


def test_users_of_a_pods_own(kube_new, cluster):
    kube, node = kube_new, cluster.nodes[0]
    handlers = json.loads(kube.jsonpath("{.status.runtimeHandlers}", "node", node.name))
    assert all(handler["features"]["userNamespaces"] for handler in handlers if handler.get("name", "") == ""), handlers

    first, length = start(kube, 1)
    assert length == 65536 and first >= 65536 and first % 65536 == 0
    uid = kube.jsonpath("{.metadata.uid}", "pod/mapped-1")
    pid = json.loads(cluster.crictl(node, "inspect", cluster.crictl(
        node, "ps", "-q", "--name", "plain", "--label", f"io.kubernetes.pod.uid={uid}").stdout.strip()).stdout)["info"]["pid"]
    assert node.run("stat", "-c", "%u %g", f"/proc/{pid}").stdout.split() == [str(first + 1000)] * 2
    # Inside all is as without: what is root's on the node is root's here.
    assert inside(kube, "mapped-1", "app", "cat", "/settings/key") == "of the config map"
    assert inside(kube, "mapped-1", "app", "cat", "/word/word") == "of the secret"
    assert inside(kube, "mapped-1", "app", "stat", "-c", "%u:%g", "/bin/busybox", "/word/..data/word", "/etc/hosts") == (
        "0:0\n0:2000\n0:0")
    assert inside(kube, "mapped-1", "app", "stat", "-c", "%u:%g", "/disk/file", "/memory/file") == "0:2000\n0:2000"
    inside(kube, "mapped-1", "plain", "sh", "-c", "echo more >> /disk/by-1000")
    assert inside(kube, "mapped-1", "plain", "stat", "-c", "%u:%g", "/disk/by-1000") == "1000:2000"

    second, _ = start(kube, 2)
    assert second != first
    cluster.end_daemon(node, "skiff-agent")
    cluster.start_agent(node)
    cluster.wait_cri(node)
    cluster.wait_linked(node)
    assert mapping(kube, "mapped-1") == (first, length)
    kube("delete", "pod", "mapped-1", "--timeout=60s")
    third, _ = start(kube, 3)
    assert third == first, "the ids of a pod that is gone are free"
    kube("delete", "pod", "mapped-2", "mapped-3", "--timeout=60s")


def test_what_it_cannot_be_together_with(kube_new):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "both"},
           "spec": {"hostUsers": False, "hostNetwork": True, "containers": [{"name": "a", "image": "x"}]}}
    refused = kube_new("apply", "-f", "-", input=json.dumps(pod), check=False)
    assert "spec.hostNetwork: Forbidden: when `hostUsers` is false" in refused.stderr, refused
