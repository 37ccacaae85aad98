"""The records of the Kubernetes DNS specification 1.1, asked with dig at both addresses of the DNS:
https://github.com/kubernetes/dns/blob/master/docs/specification.md."""

import ipaddress
import re

import pytest

from tests.scenarios.conftest import running_cluster

SERVERS = ["10.96.0.10", "fd42:96::a"]
NAMESPACE = "names"
MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: names}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: names}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.7.7
  clusterIPs: ["10.96.7.7", "fd42:96::77"]
  ports: [{name: http, port: 80}, {name: talk, port: 5000, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: four, namespace: names}
spec: {clusterIP: 10.96.7.8, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: names}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-4, namespace: names, labels: {kubernetes.io/service-name: peers}}
addressType: IPv4
ports: [{name: sql, port: 5433, protocol: TCP}]
endpoints:
- {addresses: [10.244.9.1], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.9.2], hostname: db-1, conditions: {ready: true}}
- {addresses: [10.244.9.3], conditions: {ready: true}}
- {addresses: [10.244.9.4], hostname: db-3, conditions: {ready: false}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-6, namespace: names, labels: {kubernetes.io/service-name: peers}}
addressType: IPv6
ports: [{name: sql, port: 5433, protocol: TCP}]
endpoints:
- {addresses: ["fd42:244:9::1"], hostname: db-0, conditions: {ready: true}}
---
apiVersion: v1
kind: Service
metadata: {name: waiting, namespace: names}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: waiting-4, namespace: names, labels: {kubernetes.io/service-name: waiting}}
addressType: IPv4
ports: [{name: sql, port: 5433, protocol: TCP}]
endpoints:
- {addresses: [10.244.9.5], hostname: db-0, conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: names}
spec: {type: ExternalName, externalName: both.names.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: many, namespace: names}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: many-4, namespace: names, labels: {kubernetes.io/service-name: many}}
addressType: IPv4
endpoints: [%s]
""" % ", ".join(f"{{addresses: [10.244.10.{number}]}}" for number in range(1, 101))


def reverse(address):
    return ipaddress.ip_address(address).reverse_pointer


# Question, type, answers. `~` stands for "names.svc.cluster.local"; None: the name does not exist (NXDOMAIN), []: it
# does, without such a record (NODATA).
RECORDS = [
    # 2.2, the schema's version
    ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
    ("dns-version.cluster.local", "A", []),
    # 2.3.1, addresses of a Service with cluster IPs
    ("both.~", "A", ["10.96.7.7"]),
    ("both.~", "AAAA", ["fd42:96::77"]),
    ("BoTh.NAMES.svc.CLUSTER.local", "A", ["10.96.7.7"]),
    ("four.~", "A", ["10.96.7.8"]),
    ("four.~", "AAAA", []),
    ("both.~", "MX", []),
    ("kubernetes.default.svc.cluster.local", "A", ["10.96.0.1"]),
    ("kube-dns.kube-system.svc.cluster.local", "A", [SERVERS[0]]),
    ("kube-dns.kube-system.svc.cluster.local", "AAAA", [SERVERS[1]]),
    # 2.3.2, its ports; those without a name have none
    ("_http._tcp.both.~", "SRV", ["0 100 80 both.~."]),
    ("_talk._udp.both.~", "SRV", ["0 100 5000 both.~."]),
    ("_talk._tcp.both.~", "SRV", None),
    ("_http._tcp.four.~", "SRV", None),
    ("_http._tcp.both.~", "A", []),
    # 2.3.3, its addresses' names
    (reverse("10.96.7.7"), "PTR", ["both.~."]),
    (reverse("fd42:96::77"), "PTR", ["both.~."]),
    (reverse("10.96.99.99"), "PTR", None),
    (reverse("fd42:96::9:9999"), "PTR", None),
    # 2.4.1, a headless Service: the endpoints that are ready, together and by name
    ("peers.~", "A", ["10.244.9.1", "10.244.9.2", "10.244.9.3"]),
    ("peers.~", "AAAA", ["fd42:244:9::1"]),
    ("db-0.peers.~", "A", ["10.244.9.1"]),
    ("db-0.peers.~", "AAAA", ["fd42:244:9::1"]),
    ("db-1.peers.~", "A", ["10.244.9.2"]),
    ("db-1.peers.~", "AAAA", []),
    ("db-3.peers.~", "A", None),
    ("waiting.~", "A", None),
    ("waiting.~", "AAAA", None),
    ("db-0.waiting.~", "A", None),
    # 2.4.2, their ports
    ("_sql._tcp.peers.~", "SRV", ["0 100 5433 10-244-9-3.peers.~.", "0 100 5433 db-0.peers.~.",
                                  "0 100 5433 db-1.peers.~."]),
    ("10-244-9-3.peers.~", "A", ["10.244.9.3"]),
    ("_sql._tcp.waiting.~", "SRV", None),
    ("_sql._udp.peers.~", "SRV", None),
    # 2.4.3, their names
    (reverse("10.244.9.1"), "PTR", ["db-0.peers.~."]),
    (reverse("fd42:244:9::1"), "PTR", ["db-0.peers.~."]),
    (reverse("10.244.9.4"), "PTR", None),
    # 2.5, external names
    ("outside.~", "CNAME", ["both.~."]),
    ("outside.~", "A", ["10.96.7.7", "both.~."]),
    ("outside.~", "AAAA", ["both.~.", "fd42:96::77"]),
    # 2.6, pods by address
    ("10-1-2-3.names.pod.cluster.local", "A", ["10.1.2.3"]),
    ("10-1-2-3.names.pod.cluster.local", "AAAA", []),
    ("fd42-1--3.names.pod.cluster.local", "AAAA", ["fd42:1::3"]),
    ("nonsense.names.pod.cluster.local", "A", None),
    # What there is above and beside these names
    ("~", "A", []),
    ("svc.cluster.local", "A", []),
    ("cluster.local", "SOA", ["ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"]),
    ("cluster.local", "NS", ["ns.dns.cluster.local."]),
    ("absent.~", "A", None),
    ("x.both.~", "A", None),
    ("both.absent.svc.cluster.local", "A", None),
    ("a.b.c.d.~", "A", None),
]


@pytest.fixture(scope="module")
def node():
    for cluster in running_cluster("n", with_images=False, family="dual"):
        cluster.kubectl("apply", "-f", "-", input=MANIFEST)
        # All is told in one order: what was made last is known last.
        script = f"until dig @{SERVERS[0]} +short +tcp many.{NAMESPACE}.svc.cluster.local | grep -q 10.244; do :; done"
        cluster.nodes[0].run("timeout", "20", "sh", "-c", script)
        yield cluster.nodes[0]


def dig(node, server, name, kind, *flags):
    full = name.replace("~", f"{NAMESPACE}.svc.cluster.local")
    return node.run("dig", f"@{server}", "+tries=1", "+time=5", *flags, full, kind).stdout


def section(report, name):
    """The records of a section, as [owner, ttl, class, type, data]."""
    lines = report.split(f";; {name} SECTION:\n")
    return [line.split(None, 4) for line in lines[1].split("\n\n")[0].splitlines()] if len(lines) > 1 else []


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_specifications_records(node, server, transport):
    for name, kind, expected in RECORDS:
        report = dig(node, server, name, kind, transport)
        status = re.search(r"status: (\w+)", report).group(1)
        answers = sorted(record[4] for record in section(report, "ANSWER"))
        wanted = sorted(text.replace("~", f"{NAMESPACE}.svc.cluster.local") for text in expected or [])
        assert (status, answers) == ("NXDOMAIN" if expected is None else "NOERROR", wanted), (name, kind)
        assert re.search(r"flags: qr aa rd ra", report), (name, kind)
        if not wanted:
            # How long "no" may be remembered (RFC 2308).
            assert [record[3] for record in section(report, "AUTHORITY")] == ["SOA"], (name, kind)
        assert all(record[1] == "5" for record in section(report, "ANSWER")), (name, kind)


def test_addresses_come_with_ports(node):
    report = dig(node, SERVERS[0], "_sql._tcp.peers.~", "SRV")
    extra = {(record[3], record[4]) for record in section(report, "ADDITIONAL")}
    assert {("A", "10.244.9.1"), ("AAAA", "fd42:244:9::1"), ("A", "10.244.9.3")} <= extra


def test_long_answers(node):
    """Cut off over UDP where the client takes no more, and complete over TCP, for which dig then asks by itself."""
    for flags, complete in ((["+noedns"], False), (["+bufsize=4096"], False), (["+tcp"], True)):
        report = dig(node, SERVERS[0], "many.~", "A", "+ignore", *flags)
        assert ("tc" in re.search(r"flags: ([\w ]+);", report).group(1).split()) != complete, flags
        assert (len(section(report, "ANSWER")) == 100) == complete, flags
    assert len(section(dig(node, SERVERS[0], "many.~", "A"), "ANSWER")) == 100


def test_edns(node):
    report = dig(node, SERVERS[0], "both.~", "A", "+dnssec")
    assert "EDNS: version: 0, flags: do; udp: 1232" in report
    assert "EDNS" not in dig(node, SERVERS[0], "both.~", "A", "+noedns")
    assert "status: BADVERS" in dig(node, SERVERS[0], "both.~", "A", "+edns=1", "+noednsnegotiation")


def test_what_is_not_served(node):
    assert "status: NOTIMP" in dig(node, SERVERS[0], "both.~", "A", "+opcode=UPDATE")
    assert "Transfer failed" in dig(node, SERVERS[0], "cluster.local", "AXFR")
    assert "status: REFUSED" in dig(node, SERVERS[0], "www.example.org", "A", "+norecurse")
    assert "status: REFUSED" in dig(node, SERVERS[0], "version.bind", "TXT", "-c", "CH")


def test_addresses_take_turns(node):
    firsts = {dig(node, SERVERS[0], "peers.~", "A", "+short", "+nocookie").splitlines()[0] for _ in range(12)}
    assert firsts == {"10.244.9.1", "10.244.9.2", "10.244.9.3"}
