"""Names of services and pods, as the Kubernetes DNS specification 1.1 has them, asked from a pod and with dig."""

import pytest

DNS = "10.96.0.10"


@pytest.fixture
def names(kube_new):
    kube_new.apply("names.yaml", namespace=kube_new.namespace)
    kube_new.wait("condition=Ready", "pod/first", "pod/second")
    return kube_new


class Dig:
    def __init__(self, cluster, namespace):
        self.node, self.namespace = cluster.nodes[0], namespace

    def __call__(self, name, kind="A", *flags):
        """The answers, sorted; `~` stands for "NAMESPACE.svc.cluster.local"."""
        return sorted(self._run(name, kind, "+short", *flags).splitlines())

    def status(self, name, kind="A"):
        return self._run(name, kind, "+noall", "+comments").split("status: ")[1].split(",")[0]

    def _run(self, name, kind, *flags):
        full = name.replace("~", f"{self.namespace}.svc.cluster.local")
        return self.node.run("dig", f"@{DNS}", "+tries=1", "+time=5", *flags, full, kind).stdout


def test_the_specifications_records(names, cluster):
    dig, ns = Dig(cluster, names.namespace), names.namespace
    one = names.jsonpath("{.spec.clusterIP}", "service/one")
    first, second = (names.jsonpath("{.status.podIP}", f"pod/{pod}") for pod in ("first", "second"))

    assert dig("one.~") == [one]
    assert dig("ONE.~", "A", "+tcp") == [one]
    assert dig("one.~", "AAAA") == [] and dig.status("one.~", "AAAA") == "NOERROR"
    assert dig("_http._tcp.one.~", "SRV") == [f"0 100 80 one.{ns}.svc.cluster.local."]
    assert dig("peers.~") == sorted([first, second])
    assert dig("first.peers.~") == [first]
    assert dig("_echo._tcp.peers.~", "SRV") == [f"0 100 8080 {pod}.peers.{ns}.svc.cluster.local."
                                                 for pod in ("first", "second")]
    assert dig("alias.~") == sorted([f"one.{ns}.svc.cluster.local.", one])
    assert dig(f"{first.replace('.', '-')}.{ns}.pod.cluster.local") == [first]
    assert dig("dns-version.cluster.local", "TXT") == ['"1.1.0"']
    assert dig(".".join(reversed(one.split("."))) + ".in-addr.arpa", "PTR") == [f"one.{ns}.svc.cluster.local."]
    assert dig(".".join(reversed(first.split("."))) + ".in-addr.arpa", "PTR") == [
        f"first.peers.{ns}.svc.cluster.local."]
    assert dig("kubernetes.default.svc.cluster.local") == ["10.96.0.1"]
    assert dig("kube-dns.kube-system.svc.cluster.local") == [DNS]

    assert dig.status("~", "A") == "NOERROR"
    for missing in ("nothing.~", "third.peers.~", "x.one.~", "_ftp._tcp.one.~", "one.nowhere.svc.cluster.local"):
        assert dig.status(missing) == "NXDOMAIN", missing


def test_a_pod_uses_short_names(names, cluster):
    """As Kubernetes writes resolv.conf; no answer passes connection tracking."""
    resolv = names.out("exec", "first", "--", "cat", "/etc/resolv.conf").splitlines()
    assert f"nameserver {DNS}" in resolv and "options ndots:5" in resolv
    search = next(line for line in resolv if line.startswith("search ")).split()[1:4]
    assert search == [f"{names.namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local"]

    one = names.jsonpath("{.spec.clusterIP}", "service/one")
    second = names.jsonpath("{.status.podIP}", "pod/second")
    for name, address in (("one", one), (f"one.{names.namespace}", one), ("alias", one), ("second.peers", second),
                          ("kubernetes.default", "10.96.0.1")):
        assert names.out("exec", "first", "--", "getent", "ahostsv4", name).split()[0] == address, name
    assert names.out("exec", "first", "--", "hostname", "-f") == f"first.peers.{names.namespace}.svc.cluster.local"
    tracked = cluster.nodes[0].run("conntrack", "-L", "-p", "udp", "--dport", "53").stdout
    assert DNS not in tracked


def test_names_follow_their_pods(names, cluster):
    dig = Dig(cluster, names.namespace)
    second = names.jsonpath("{.status.podIP}", "pod/second")
    names("delete", "pod", "first")
    script = f"until [ \"$(dig @{DNS} +short peers.{names.namespace}.svc.cluster.local)\" = {second} ]; do :; done"
    cluster.nodes[0].run("timeout", "10", "sh", "-c", script)
    assert dig.status("first.peers.~") == "NXDOMAIN"
    names("delete", "service", "peers")
    script = f"while dig @{DNS} peers.{names.namespace}.svc.cluster.local | grep -q NOERROR; do :; done"
    cluster.nodes[0].run("timeout", "10", "sh", "-c", script)
