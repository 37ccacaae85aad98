"""Scenario 7: what the containers of a pod share and what each has of its own."""

import json

CONTAINERS = ["app", "second", "third"]


def _exec(kube, container, *argv, check=True):
    return kube("exec", "shared", "-c", container, "--", *argv, check=check)


def test_namespaces_pids_and_the_end(kube, cluster):
    kube.apply("shared.yaml")
    kube.wait("condition=Ready", "pod/shared")

    def of_each(*argv):
        return [_exec(kube, container, *argv).stdout for container in CONTAINERS]

    address = kube.jsonpath("{.status.podIP}", "pod/shared")
    assert all(f"inet {address}/" in out for out in of_each("ip", "-o", "-4", "addr", "show", "eth0"))
    assert of_each("hostname") == ["shared-host\n"] * 3
    for namespace, same in [("net", True), ("ipc", True), ("uts", True), ("mnt", False), ("pid", False)]:
        links = set(of_each("readlink", f"/proc/self/ns/{namespace}"))
        assert len(links) == (1 if same else 3), namespace

    assert _exec(kube, "second", "cat", "/only-here").stdout == "second\n"
    assert _exec(kube, "third", "cat", "/only-here", check=False).returncode != 0
    assert all(out.startswith("sh\0-c\0trap") for out in of_each("cat", "/proc/1/cmdline"))
    assert kube.out("logs", "shared", "-c", "app") == "started as 1"

    node = cluster.nodes[0]
    sandboxes = json.loads(cluster.crictl(node, "pods", "--name", "shared", "-o", "json").stdout)["items"]
    assert [s["metadata"]["namespace"] for s in sandboxes] == [kube.namespace]
    listed = json.loads(cluster.crictl(node, "ps", "--pod", sandboxes[0]["id"], "-o", "json").stdout)["containers"]
    assert sorted(c["metadata"]["name"] for c in listed) == sorted(CONTAINERS)

    # The log is followed across the end: the container's last words arrive.
    command = cluster.kubectl_command("-n", kube.namespace, "delete", "pod", "shared", "--wait=false",
                                      version=kube.version)
    last_words = kube.read_until("got SIGTERM", "logs", "-f", "shared", "-c", "app", on_line={"started": command})
    assert "got SIGTERM" in last_words
    kube("delete", "pod", "shared", "--ignore-not-found", "--timeout=30s")
