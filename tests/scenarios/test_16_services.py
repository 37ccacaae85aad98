"""Scenario 16: Services of every type, made with kubectl and used from a node, a pod and outside; rules follow at once.

The last part has three nodes, a pool of addresses for load balancers, and a load of new connections while pods and a
node come and go: not one may fail.
"""

import contextlib
import json
import os
import signal
import time

import pytest

from tests.scenarios.conftest import KUBECTL_VERSIONS, Kube, clean_namespace, running_cluster
from tests.support.waiting import settled, wait_for
from tests.support.web_server import serving

DNS = "10.96.0.10"
# New connections per second that are asked for; fewer where the machine cannot do so many.
RATE = int(os.environ.get("SKIFF_LOAD_RATE", "2000"))


def web(kube, replicas=3):
    kube.apply("services.yaml", replicas=replicas)
    kube("rollout", "status", "deployment/web", "--timeout=120s")


def service(kube, name):
    return json.loads(kube.out("get", "service", name, "-o", "json"))


def who(machine, url, times=1):
    """The pods that answered, all of them: nginx's page has the pod's name in its first line."""
    script = f"for i in $(seq {times}); do curl -fsS --max-time 5 {url} | head -1 || exit 1; done"
    return machine.run("sh", "-c", script).stdout.split()


def pod_names(kube):
    return set(kube.jsonpath("{.items[*].metadata.name}", "pods", "-l", "app=web").split())


def pod_addresses(kube):
    return set(kube.jsonpath("{.items[*].status.podIP}", "pods", "-l", "app=web").split())


def dig(machine, name, kind="A"):
    return set(machine.run("dig", f"@{DNS}", "+short", "+tries=1", "+time=5", name, kind).stdout.split())


def test_every_type_is_made_by_kubectl_and_answers(kube, cluster):
    web(kube)
    node, outside = cluster.nodes[0], cluster.control_plane
    names = pod_names(kube)
    domain = f"{kube.namespace}.svc.cluster.local"

    kube("expose", "deployment", "web", "--name=plain", "--port=8000", "--target-port=http")
    plain = service(kube, "plain")["spec"]
    assert plain["type"] == "ClusterIP" and plain["ports"][0]["targetPort"] == "http"
    assert set(who(node, f"http://{plain['clusterIP']}:8000/", 60)) == names

    kube("expose", "deployment", "web", "--name=ported", "--port=80", "--type=NodePort")
    port = service(kube, "ported")["spec"]["ports"][0]["nodePort"]
    assert set(who(outside, f"http://{node.address}:{port}/", 60)) == names

    kube("expose", "deployment", "web", "--name=headless", "--port=80", "--cluster-ip=None")
    assert settled(lambda: dig(node, f"headless.{domain}"), lambda seen: len(seen) == 3, 10) == pod_addresses(kube)

    kube("create", "service", "externalname", "alias", f"--external-name=plain.{domain}")
    assert dig(node, f"alias.{domain}") == {f"plain.{domain}.", plain["clusterIP"]}

    kube("expose", "deployment", "web", "--name=balanced", "--port=8081", "--target-port=80", "--type=LoadBalancer")
    ingress = "{.status.loadBalancer.ingress[*].ip}"
    assert settled(lambda: kube.jsonpath(ingress, "service/balanced"), bool, 20) == node.address
    assert set(who(outside, f"http://{node.address}:8081/", 60)) == names
    shown = kube.out("get", "service", "balanced")
    assert node.address in shown and "8081:" in shown

    # Another type gives back what the new one has not.
    kube("patch", "service", "balanced", "-p", json.dumps({"spec": {"type": "ClusterIP"}}))
    changed = service(kube, "balanced")
    assert "nodePort" not in changed["spec"]["ports"][0] and changed["status"]["loadBalancer"] == {}
    wait_for("the balancer's port to be closed", lambda: outside.run(
        "curl", "-s", "--max-time", "2", f"http://{node.address}:8081/", check=False).returncode == 7)


def test_a_client_stays_with_a_pod(kube, cluster):
    web(kube)
    kube("expose", "deployment", "web", "--name=sticky", "--port=80", "--session-affinity=ClientIP")
    spec = service(kube, "sticky")["spec"]
    assert spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] == 10800
    first = set(who(cluster.nodes[0], f"http://{spec['clusterIP']}/", 20))
    assert len(first) == 1
    kube("scale", "deployment", "web", "--replicas=5")
    kube("rollout", "status", "deployment/web", "--timeout=60s")
    assert set(who(cluster.nodes[0], f"http://{spec['clusterIP']}/", 20)) == first
    refused = kube("patch", "service", "sticky", "-p", json.dumps(
        {"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90000}}}}), check=False)
    assert refused.returncode != 0 and "must be greater than 0 and less than 86400" in refused.stderr


def test_udp(kube_new, cluster):
    """One socket asks again and again while the pod that answers is replaced: it finds the new one."""
    kube_new.apply("udp-echo.yaml", name="one")
    kube_new.wait("condition=Ready", "pod/one")
    address = service(kube_new, "echo")["spec"]["clusterIP"]
    node = cluster.nodes[0]
    ask = ("import socket, sys\n"
           "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2)\n"
           "s.connect((sys.argv[1], 7000))\n"
           "seen = []\n"
           "while 'two' not in seen:\n"
           "  try:\n"
           "    s.send(b'who'); name = s.recv(99).decode()\n"
           "  except OSError: continue\n"
           "  if name not in seen: print(name, flush=True); seen.append(name)\n")
    _, asking = node.start("udp.log", "timeout", "90", "python3", "-c", ask, address)
    log = node.root / "udp.log"
    wait_for("the first pod to answer", lambda: "one" in log.read_text())
    kube_new.apply("udp-echo.yaml", name="two")
    kube_new.wait("condition=Ready", "pod/two")
    kube_new("delete", "pod", "one")
    assert asking.wait(90) == 0
    assert log.read_text().split()[-2:] == ["one", "two"]


def test_the_address_stays_and_rules_follow_within_a_second(kube_new, cluster):
    """No pods: refused at once; pods again: answered. How long it takes is taken several times and the best counts, as
    the machine may be busy with something else."""
    web(kube_new, replicas=2)
    kube_new("expose", "deployment", "web", "--name=plain", "--port=80")
    address = service(kube_new, "plain")["spec"]["clusterIP"]
    node = cluster.nodes[0]
    times = []
    for _ in range(4):
        for app, code in [("nobody", 7), ("web", 0)]:
            kube_new("patch", "service", "plain", "-p", json.dumps({"spec": {"selector": {"app": app}}}))
            start = time.monotonic()
            script = f"while curl -fs --max-time 5 -o /dev/null http://{address}/; [ $? != {code} ]; do :; done"
            node.run("timeout", "20", "sh", "-c", script)
            times.append(time.monotonic() - start)
    assert min(times[0::2]) < 1 and min(times[1::2]) < 1, times
    assert service(kube_new, "plain")["spec"]["clusterIP"] == address


# ---- three nodes, a pool, and load ----


@pytest.fixture(scope="module")
def pooled():
    """Three nodes whose load balancers get addresses that the other machines look for on their network."""
    settings = "loadBalancer: {pool: [192.0.2.10-192.0.2.20]}\n"
    for made in running_cluster("p", 3, warm=True, control_plane_settings=settings):
        made.control_plane.run("ip", "route", "add", "192.0.2.0/24", "dev", "eth0")
        yield made


@pytest.fixture
def kube_pooled(pooled, request):
    for name in clean_namespace(pooled, request):
        yield Kube(pooled, KUBECTL_VERSIONS[-1], name)


@contextlib.contextmanager
def load(machine, cluster, address, port=80):
    """New connections all the while; what came of them is in the list that is given, in the end."""
    log = machine.root / "load.log"
    log.unlink(missing_ok=True)
    pid, process = machine.start("load.log", cluster.binary("skiff-connect-load"), address, port, RATE)
    results = []
    try:
        yield results
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        process.wait(30)
        print(log.read_text())
    results.append(json.loads(log.read_text().splitlines()[-1]))


def test_a_pools_address_is_answered_for(kube_pooled, pooled):
    """By one node, which is not itself reached there; the health check port tells who has endpoints."""
    kube = kube_pooled
    web(kube, replicas=1)
    kube("expose", "deployment", "web", "--name=lb", "--port=80", "--type=LoadBalancer")
    kube("patch", "service", "lb", "-p", json.dumps({"spec": {"externalTrafficPolicy": "Local"}}))
    outside = pooled.control_plane
    address = settled(lambda: kube.jsonpath("{.status.loadBalancer.ingress[0].ip}", "service/lb"), bool, 20)
    assert address == "192.0.2.10"
    host = kube.jsonpath("{.items[0].spec.nodeName}", "pods", "-l", "app=web")
    annotation = r"{.metadata.annotations.skiff\.dev/load-balancer-node}"
    assert settled(lambda: kube.jsonpath(annotation, "service/lb"), lambda seen: seen == host, 20) == host
    wait_for("the address to answer", lambda: outside.run(
        "curl", "-fs", "--max-time", "2", f"http://{address}/", check=False).returncode == 0)
    assert set(who(outside, f"http://{address}/", 5)) == pod_names(kube)

    port = service(kube, "lb")["spec"]["healthCheckNodePort"]
    for node in pooled.nodes:
        answer = outside.run("curl", "-s", "-w", "%{http_code}", f"http://{node.address}:{port}/healthz").stdout
        assert answer.endswith("200" if node.name == host else "503"), answer
        assert json.loads(answer[:-3])["localEndpoints"] == (1 if node.name == host else 0)
    # The node's own programs (its log of a web server, say) are not at the address.
    machine = next(node for node in pooled.nodes if node.name == host)
    with serving(machine, 9999):
        outside.run("curl", "-fs", "--max-time", "5", f"http://{machine.address}:9999/")
        assert outside.run("curl", "-s", "--max-time", "5", f"http://{address}:9999/", check=False).returncode == 7
    kube("delete", "service", "lb")
    wait_for("the link to go", lambda: "skiff-lb" not in machine.run("ip", "link").stdout)


def test_a_rolling_update_fails_no_one(kube_pooled, pooled):
    kube = kube_pooled
    web(kube, replicas=10)
    address = service(kube, "web")["spec"]["clusterIP"]
    with load(pooled.nodes[0], pooled, address) as results:
        kube("set", "env", "deployment/web", "ROUND=2")
        kube("rollout", "status", "deployment/web", "--timeout=180s")
        kube("rollout", "restart", "deployment/web")
        kube("rollout", "status", "deployment/web", "--timeout=180s")
        wait_for("the old pods to be gone", lambda: len(pod_names(kube)) == 10)
    assert results[0]["asked"] > 1000 and results[0]["failed"] == 0, results


def test_a_lost_node_fails_no_one_after_its_grace(kube_pooled, pooled):
    """From when the control plane has given the node up; while its pods are made anew elsewhere, and while it comes
    back. A load balancer's address that it answered for is another node's then."""
    kube = kube_pooled
    web(kube, replicas=10)
    kube("expose", "deployment", "web", "--name=lb", "--port=80", "--type=LoadBalancer")
    annotation = r"{.metadata.annotations.skiff\.dev/load-balancer-node}"
    name = settled(lambda: kube.jsonpath(annotation, "service/lb"), bool, 20)
    lost = next(node for node in pooled.nodes if node.name == name)
    kept = next(node for node in pooled.nodes if node.name != name)
    outside = pooled.control_plane
    wait_for("the address to answer", lambda: outside.run(
        "curl", "-fs", "--max-time", "2", "http://192.0.2.10/", check=False).returncode == 0)
    address = service(kube, "web")["spec"]["clusterIP"]
    ready = "{range .items[*].endpoints[?(@.conditions.ready==true)]}{.nodeName} {end}"
    slices = ("endpointslices", "-l", "kubernetes.io/service-name=web")
    assert lost.name in kube.jsonpath(ready, *slices)

    lost.power_off()
    wait_for("the node to be given up", lambda: lost.name not in kube.jsonpath(ready, *slices), 120)
    with load(kept, pooled, address) as results:
        wait_for("another node to answer", lambda: outside.run(
            "curl", "-fs", "--max-time", "2", "http://192.0.2.10/", check=False).returncode == 0, 60)
        wait_for("ten ready pods again", lambda: len(kube.jsonpath(ready, *slices).split()) == 10, 120)
        lost.power_on()
        pooled.start_agent(lost)
        pooled.wait_ready()
    assert results[0]["asked"] > 1000 and results[0]["failed"] == 0, results
