"""Scenario 2: two containers that share an emptyDir, on one node and asked from another."""

import json


def test_a_helper_refreshes_what_is_served(kube_anywhere):
    kube = kube_anywhere
    kube.apply("sidecar.yaml")
    kube.wait("condition=Ready", "pod/site")
    address = kube.jsonpath("{.status.podIP}", "pod/site")
    fetch = f"curl -fsS --max-time 2 http://{address}/stamp.txt"
    # Two different contents prove that the web server serves what the helper writes meanwhile.
    script = f"first=$({fetch}); until second=$({fetch}) && [ \"$second\" != \"$first\" ]; do :; done; echo ok"
    assert kube.cluster.nodes[-1].run("timeout", "30", "sh", "-c", script).stdout == "ok\n"
    kube("delete", "pod", "site")


def test_a_collector_prints_the_web_servers_log(kube_anywhere):
    kube = kube_anywhere
    kube.apply("collector.yaml")
    kube.wait("condition=Ready", "pod/logged")
    address = kube.jsonpath("{.status.podIP}", "pod/logged")
    kube.cluster.nodes[-1].run("curl", "-sS", f"http://{address}/marked-request")
    pod = json.loads(kube.out("get", "pod", "logged", "-o", "json"))
    assert {c["name"] for c in pod["status"]["containerStatuses"]} == {"web", "collector"}
    # Following, so that the test waits exactly as long as the collector takes.
    follow = ["logs", "-f", "logged", "-c", "collector"]
    assert "marked-request" in kube.read_until("marked-request", *follow)
    kube("delete", "pod", "logged")
