"""Scenario 17, isolation: NetworkPolicies keep pods and namespaces apart, on one node and over three; a change is in
force within a second, and a pod is protected from its first moment on."""

import pytest

from tests.scenarios.conftest import running_cluster
from tests.support.pages import page_pod
from tests.support.waiting import settled

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}}}
spec: {spec}
"""
DENY = "{podSelector: {}, policyTypes: [Ingress]}"
SAME_NAMESPACE = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"
FROM_FRIENDS = """
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {friend: "yes"}}, podSelector: {matchLabels: {app: client}}}]
    ports: [{port: http}]
"""
DNS_ONLY = """
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
    ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
"""


class Side:
    """One namespace with its pods, seen through one kubectl."""

    def __init__(self, cluster, version, namespace):
        self.cluster, self.version, self.namespace = cluster, version, namespace

    def __call__(self, *argv, **options):
        return self.cluster.kubectl("-n", self.namespace, *argv, version=self.version, **options)

    def pod(self, name, node=None):
        self("apply", "-f", "-", input=page_pod(
            self.cluster.registry, name, ports=[8080, 8081], **({"nodeName": node} if node else {}),
            container={"ports": [{"name": "http", "containerPort": 8080}]}))

    def ready(self):
        self("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")

    def policy(self, name, spec):
        self("apply", "-f", "-", input=POLICY.format(name=name, spec=spec))

    def address(self, pod):
        return self("get", "pod", pod, "-o", "jsonpath={.status.podIP}").stdout

    def fetch(self, pod, address, port=8080, wait=2):
        """Who answers the pod there; "" for nobody."""
        script = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w {wait} {address} {port} | tail -n 1"
        return self("exec", pod, "--", "sh", "-c", script, check=False).stdout.strip()

    def reaches(self, pod, address, port=8080):
        """Within the second that a change may take, and some: the machine may be busy."""
        return settled(lambda: self.fetch(pod, address, port), bool, 10) != ""

    def is_cut_off(self, pod, address, port=8080):
        return settled(lambda: self.fetch(pod, address, port, wait=1), lambda answer: not answer, 10) == ""


@pytest.fixture
def sides(cluster, kube, namespace):
    """The test's namespace with the pods web and client, and another one with a client, on one node."""
    other = namespace[:40] + "-other"
    cluster.kubectl("create", "namespace", other)
    try:
        ours, theirs = (Side(cluster, kube.version, name) for name in (namespace, other))
        ours.pod("web")
        ours.pod("client")
        theirs.pod("client")
        ours.ready()
        theirs.ready()
        yield ours, theirs
    finally:
        cluster.kubectl("delete", "namespace", other, "--timeout=90s")


def test_namespaces_apart(sides):
    ours, theirs = sides
    web = ours.address("web")
    assert theirs.reaches("client", web) and ours.reaches("client", web)
    ours.policy("same-namespace", SAME_NAMESPACE)
    assert theirs.is_cut_off("client", web)
    assert ours.reaches("client", web)
    assert ours.reaches("client", theirs.address("client")), "only who comes in is looked at"
    # The node's own probes go on: the pod stays ready and answers exec.
    assert ours("get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].ready}").stdout == "true"

    ours.policy("friends", FROM_FRIENDS)
    ours.cluster.kubectl("label", "namespace", theirs.namespace, "friend=yes", version=ours.version)
    assert theirs.reaches("client", web)
    assert theirs.is_cut_off("client", web, 8081), "a port that the policy does not name"
    ours.cluster.kubectl("label", "namespace", theirs.namespace, "friend-", version=ours.version)
    assert theirs.is_cut_off("client", web)

    ours("delete", "networkpolicy", "--all")
    assert theirs.reaches("client", web)


def test_services_and_names(sides):
    """By way of a service the pod behind it counts; the cluster's DNS is allowed as everywhere."""
    ours, theirs = sides
    ours("apply", "-f", "-", input=SERVICE)
    name = f"web.{ours.namespace}.svc.cluster.local"
    assert theirs.reaches("client", name, 80)
    ours.policy("deny", DENY)
    assert theirs.is_cut_off("client", name, 80) and ours.is_cut_off("client", name, 80)
    assert ours.reaches("web", name, 80), "a pod reaches itself"
    ours("delete", "networkpolicy", "deny")

    # Without egress not even names; with the DNS allowed, names but no pods.
    ours.policy("out", "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}")
    lookup = f"nslookup {name} | grep -A2 {name} | grep -q 'Address'"
    resolves = lambda: ours("exec", "client", "--", "sh", "-c", f"timeout 2 sh -c '{lookup}'", check=False).returncode
    assert settled(resolves, lambda code: code != 0, 10) != 0
    ours.policy("out", DNS_ONLY)
    assert settled(resolves, lambda code: code == 0, 10) == 0
    assert ours.is_cut_off("client", ours.address("web"))


def test_what_kubectl_shows(kube):
    side = Side(kube.cluster, kube.version, kube.namespace)
    side.policy("friends", FROM_FRIENDS)
    assert kube.out("get", "netpol").split()[:5] == ["NAME", "POD-SELECTOR", "AGE", "friends", "app=web"]
    described = kube.out("describe", "networkpolicy", "friends")
    assert "NamespaceSelector: friend=yes" in described and "To Port: http/TCP" in described
    assert "Policy Types: Ingress" in described
    assert "podSelector" in kube.out("explain", "networkpolicy.spec.ingress.from")
    assert "networkpolicies" in kube.out("api-resources", "--api-group=networking.k8s.io")
    refused = kube("apply", "-f", "-", input=POLICY.format(name="bad", spec="{podSelector: {}, ingress: [{from: [{}]}]}"),
                   check=False)
    assert refused.returncode != 0
    assert "spec.ingress[0].from[0]: Required value: must specify a peer" in refused.stderr
    kube("delete", "netpol", "friends")


def test_a_pod_is_protected_from_its_first_moment(sides):
    """Somebody knocks all the time while pods come up: nobody ever answers."""
    ours, theirs = sides
    ours.policy("deny", DENY)
    node = ours.cluster.nodes[0]
    prefix = ours.address("web").rsplit(".", 1)[0]
    script = (f"while [ ! -e /tmp/stop ]; do for i in $(seq 2 60); do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | "
              f"nc -w 1 {prefix}.$i 8080 | grep '^late' & done; wait; echo round >> /tmp/rounds; done > /tmp/answers")
    theirs("exec", "client", "--", "sh", "-c", f"({script}) >/dev/null 2>&1 &")
    for round_ in range(3):
        ours.pod(f"late{round_}")
    ours.ready()
    # The node itself sees them serve.
    for round_ in range(3):
        assert node.run("curl", "-fsS", "--max-time", "5",
                        f"http://{ours.address(f'late{round_}')}:8080/").stdout.strip() == f"late{round_}"
    rounds = lambda: theirs("exec", "client", "--", "wc", "-l", "/tmp/rounds", check=False).stdout.split()[:1]
    before = rounds()
    assert settled(rounds, lambda now: now != before and now != [], 30) != before, "one more round of knocking"
    theirs("exec", "client", "--", "touch", "/tmp/stop")
    assert theirs("exec", "client", "--", "cat", "/tmp/answers").stdout == ""


def test_a_killed_agent_leaves_the_rules(cluster, sides):
    ours, theirs = sides
    web = ours.address("web")
    ours.policy("deny", DENY)
    assert theirs.is_cut_off("client", web)
    node = cluster.nodes[0]
    cluster.end_daemon(node, "skiff-agent")
    table = node.run("nft", "list", "table", "ip", "skiff-policy").stdout
    assert "allowed by no policy" in table
    cluster.start_agent(node)
    cluster.wait_ready()
    cluster.wait_linked(cluster.nodes[0])
    assert theirs.is_cut_off("client", web)
    ours("delete", "networkpolicy", "deny")
    assert theirs.reaches("client", web)


@pytest.fixture(scope="module")
def three():
    yield from running_cluster("3p", 3)


def test_over_three_nodes(three):
    """Peers on other nodes are known by their addresses, on both ways."""
    for namespace in ("here", "there"):
        three.kubectl("create", "namespace", namespace)
    here, there = (Side(three, "1.36", namespace) for namespace in ("here", "there"))
    for n, node in enumerate(three.nodes):
        here.pod(f"pod{n}", node.name)
    there.pod("client", three.nodes[1].name)
    here.ready()
    there.ready()
    addresses = [here.address(f"pod{n}") for n in range(3)]
    here.policy("same-namespace", SAME_NAMESPACE)
    for n in range(3):
        assert there.is_cut_off("client", addresses[n])
        for m in range(3):
            assert here.reaches(f"pod{n}", addresses[m]), f"pod{n} -> pod{m}"
    # A pod that comes later is a peer as soon as it has an address, everywhere.
    here.pod("late", three.nodes[2].name)
    here.ready()
    assert here.reaches("late", addresses[0])
    assert there.is_cut_off("client", here.address("late"))
    here.policy("out", "{podSelector: {matchLabels: {app: pod0}}, policyTypes: [Egress], "
                       "egress: [{to: [{podSelector: {matchLabels: {app: pod1}}}]}]}")
    assert here.is_cut_off("pod0", addresses[2])
    assert here.reaches("pod0", addresses[1])
    here("delete", "networkpolicy", "--all")
    assert there.reaches("client", addresses[0]) and here.reaches("pod0", addresses[2])
