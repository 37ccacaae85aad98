"""A Service's virtual IP and NodePort: every pod answers, and a rolling update loses no one."""

import json


def _web(kube, cluster):
    kube.apply("web.yaml")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    service = json.loads(kube.out("get", "service", "web", "-o", "json"))
    port = service["spec"]["ports"][0]
    return [f"http://{service['spec']['clusterIP']}:{port['port']}/",
            f"http://{cluster.nodes[0].address}:{port['nodePort']}/"]


def _who_answers(cluster, url, wanted):
    """Asks until `wanted` different pods have answered; balancing is random, so 200 tries are plenty for 3."""
    script = f"for i in $(seq 200); do curl -fsS --max-time 5 {url} || exit 1; done | sort -u"
    names = set(cluster.nodes[0].run("sh", "-c", script).stdout.split())
    assert len([name for name in names if name.startswith("web-")]) == wanted, names


def test_every_pod_answers(kube, cluster):
    for url in _web(kube, cluster):
        _who_answers(cluster, url, 3)
    slices = json.loads(kube.out("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "json"))
    assert len(slices["items"]) == 1 and len(slices["items"][0]["endpoints"]) == 3
    assert "kube-proxy" not in kube.out("get", "endpoints", "web")


def test_a_service_without_endpoints_is_refused_at_once(kube_new, cluster):
    urls = _web(kube_new, cluster)
    kube_new("scale", "deployment", "web", "--replicas=0")
    kube_new.wait_gone("pod", "-l", "app=web")
    # curl's 7 is a refused connection; a dropped one would be 28, after its time.
    script = f"until curl -s --max-time 2 {urls[0]}; [ $? = 7 ]; do :; done"
    cluster.nodes[0].run("timeout", "20", "sh", "-c", script)
    assert cluster.nodes[0].run("curl", "-s", "--max-time", "2", urls[1], check=False).returncode == 7


def test_a_rolling_update_keeps_the_service_up(kube_new, cluster):
    url = _web(kube_new, cluster)[0]
    node = cluster.nodes[0]
    stop = node.root / "stop-asking"
    stop.unlink(missing_ok=True)
    script = f"while [ ! -e {stop} ]; do curl -fsS --max-time 5 -o /dev/null {url} || echo FAILED; done; echo asked"
    _, asking = node.start("asking.log", "sh", "-c", script)
    kube_new("set", "env", "deployment/web", "ROUND=2")
    kube_new("rollout", "status", "deployment/web", "--timeout=90s")
    stop.touch()
    asking.wait(20)
    assert (node.root / "asking.log").read_text().splitlines()[-1:] == ["asked"]
    assert "FAILED" not in (node.root / "asking.log").read_text()
    kube_new("rollout", "undo", "deployment/web")
    kube_new("rollout", "status", "deployment/web", "--timeout=90s")
