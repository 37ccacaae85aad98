"""A Service's virtual IP and NodePort: every pod answers, and a rolling update loses no one."""

import json
import signal

from tests.support.waiting import wait_for
from tests.support.web_server import serving


def _web(kube, cluster):
    kube.apply("web.yaml")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    service = json.loads(kube.out("get", "service", "web", "-o", "json"))
    port = service["spec"]["ports"][0]
    return [f"http://{service['spec']['clusterIP']}:{port['port']}/",
            f"http://{cluster.nodes[0].address}:{port['nodePort']}/",
            f"http://127.0.0.1:{port['nodePort']}/"]


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


def _restart_agent(cluster, settings):
    node = cluster.nodes[0]
    cluster.end_daemon(node, "skiff-agent", signal.SIGTERM)
    (node.root / "etc" / "agent.yaml").write_text(settings)
    cluster.start_agent(node)
    cluster.wait_cri(node)
    cluster.wait_linked(node)


def _has_rules_of(node):
    """The modes that have rules on the node."""
    modes = set()
    if "KUBE-SERVICES" in node.run("iptables-save").stdout:
        modes.add("iptables")
    if "skiff-proxy" in node.run("nft", "list", "tables").stdout:
        modes.add("nftables")
    return modes


def test_the_mode_of_the_rules_changes_and_nobody_is_lost(kube_new, cluster):
    """auto takes nftables here. Each mode's rules come before the other's go."""
    urls = _web(kube_new, cluster)
    node = cluster.nodes[0]
    assert _has_rules_of(node) == {"nftables"}
    settings = (node.root / "etc" / "agent.yaml").read_text()
    stop = node.root / "stop-asking"
    stop.unlink(missing_ok=True)
    script = f"while [ ! -e {stop} ]; do curl -fsS --max-time 5 -o /dev/null {urls[0]} || echo FAILED; done; echo asked"
    _, asking = node.start("asking.log", "sh", "-c", script)
    try:
        for mode, added in [("iptables", "proxy: {mode: iptables}\n"), ("nftables", "")]:
            _restart_agent(cluster, settings + added)
            wait_for(f"rules of {mode} alone", lambda: _has_rules_of(node) == {mode})
            for url in urls:
                _who_answers(cluster, url, 3)
            # And it changes them.
            kube_new("scale", "deployment", "web", "--replicas=1")
            wait_for("two pods to be gone", lambda: len(kube_new.out("get", "pods", "-o", "name").split()) == 1)
            _who_answers(cluster, urls[1], 1)
            kube_new("scale", "deployment", "web", "--replicas=3")
            kube_new("rollout", "status", "deployment/web", "--timeout=60s")
    finally:
        stop.touch()
    assert asking.wait(20) == 0
    log = (node.root / "asking.log").read_text()
    assert log.splitlines()[-1:] == ["asked"] and "FAILED" not in log


def _health(cluster, path):
    """The status at the proxy's health address, asked from outside."""
    node = cluster.nodes[0]
    asked = ["curl", "-s", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://{node.address}:10256{path}"]
    return cluster.control_plane.run(*asked, check=False).stdout


def test_load_balancers_are_told_of_nodes_that_go(kube_new, cluster):
    node = cluster.nodes[0].name
    assert (_health(cluster, "/healthz"), _health(cluster, "/livez")) == ("200", "200")
    taint = "ToBeDeletedByClusterAutoscaler"
    kube_new("taint", "node", node, f"{taint}=1:PreferNoSchedule")
    try:
        wait_for("the node to be left out", lambda: _health(cluster, "/healthz") == "503")
        assert _health(cluster, "/livez") == "200"
    finally:
        kube_new("taint", "node", node, f"{taint}-")
    wait_for("the node to be back", lambda: _health(cluster, "/healthz") == "200")


def test_a_health_check_port_that_is_taken_is_told(kube_new, cluster):
    node = cluster.nodes[0]
    with serving(node, 30999):
        kube_new("apply", "-f", "-", input=json.dumps({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "checked"},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
                     "selector": {"app": "none"}, "ports": [{"port": 80}]}}))
        wait_for("the event", lambda: "FailedToStartServiceHealthcheck" in kube_new.out("describe", "service", "checked"))
    metrics = node.run("curl", "-fsS", "http://127.0.0.1:10248/metrics").stdout
    assert "\nskiff_agent_service_rules_synced 1\n" in metrics and "\nskiff_agent_service_rules_failures_total 0" in metrics
    kube_new("delete", "service", "checked")
