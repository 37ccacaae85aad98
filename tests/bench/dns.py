"""./dev bench dns: questions that the cluster DNS answers in a second of processor time (dnsperf(1)), and CoreDNS does.

A server has one processor, dnsperf the other ones. What counts is the processor's time and not the clock's: on
loopback a sender also does the receiving side's work in the kernel. CoreDNS has the same Services from our API server
and the plugins of a cluster's configuration that answer questions.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile

from tests.support.cluster import TOP, Cluster
from tests.support.machine import run
from tests.support.waiting import wait_for

PORT, PEER_PORT, PEER_READY_PORT = 5300, 5301, 5302
SERVICES = 1000
ENDPOINTS = 3
TICKS = os.sysconf("SC_CLK_TCK")
DOMAIN = "svc.cluster.local"
# The kinds of questions, and how many of each hundred have an answer.
KINDS = {"service": 100, "headless": 100, "search list": 50}

# As kubeadm writes it, without what does not answer: metrics, looking for loops, reloading, upstream servers.
COREFILE = """cluster.local:{port} {{
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes cluster.local {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 30
    }}
    cache 30
    loadbalance
}}
"""


def questions(kind):
    """Lines for dnsperf."""
    for number in range(SERVICES):
        if kind == "service":
            yield f"svc{number}.bench.{DOMAIN} A"
        elif kind == "headless":
            yield f"headless{number % 200}.bench.{DOMAIN} A"
        else:
            # As a resolver with ndots:5 asks for svcN.bench: both families of each name on the search list.
            for name in (f"svc{number}.bench.bench.{DOMAIN}", f"svc{number}.bench.{DOMAIN}"):
                yield f"{name} A"
                yield f"{name} AAAA"


def objects():
    """The Services that skiff-dns-bench has, for an API server: their addresses are what that gives them."""
    def named(kind, name, version="v1", labels=None, **rest):
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "bench", "labels": labels or {}},
                **rest}

    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}
    for number in range(SERVICES):
        yield named("Service", f"svc{number}", spec={"ports": [{"port": 80}]})
        name = f"headless{number}"
        yield named("Service", name, spec={"clusterIP": "None", "ports": [{"port": 80}]})
        yield named("EndpointSlice", f"{name}-1", version="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": name},
                    addressType="IPv4", ports=[{"port": 80}],
                    endpoints=[{"addresses": [f"10.{244 + k}.{number // 250}.{number % 250 + 1}"]} for k in range(ENDPOINTS)])


def processor_seconds(pid):
    """User and system time of the process, all threads."""
    used = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(used[11]) + int(used[12])) / TICKS


def measure(kind, pid, port, seconds, others):
    """Answers per second of the process's processor time."""
    with tempfile.NamedTemporaryFile("w", suffix=".queries") as queries:
        queries.write("\n".join(questions(kind)) + "\n")
        queries.flush()
        before = processor_seconds(pid)
        report = run("taskset", "-c", others, "dnsperf", "-s", "127.0.0.1", "-p", port, "-d", queries.name,
                     "-l", seconds, "-c", "20", "-q", "500").stdout
    used = processor_seconds(pid) - before
    answered = int(re.search(r"Queries completed: +(\d+)", report).group(1))
    lost = int(re.search(r"Queries lost: +(\d+)", report).group(1))
    found = float((re.search(r"NOERROR \d+ \(([\d.]+)%\)", report) or ["", "0"])[1])
    if lost > answered / 100 or abs(found - KINDS[kind]) > 1:
        raise RuntimeError(f"{kind}: {lost} questions were not answered, {found} % of the names were found\n{report}")
    return answered / used


@contextlib.contextmanager
def ours(cpu):
    """The process of our server."""
    command = ["taskset", "-c", str(cpu), TOP / "build" / "release" / "bin" / "skiff-dns-bench",
               "--services", str(SERVICES), "--port", str(PORT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            if server.stdout.readline() != "ready\n":
                raise RuntimeError("skiff-dns-bench does not start")
            yield server.pid
        finally:
            server.stdin.close()


@contextlib.contextmanager
def coredns(cpu):
    """The process of CoreDNS, which has the Services from a control plane without nodes."""
    cluster = Cluster("bdns", build=os.environ.get("SKIFF_BUILD"))
    cluster.down()
    try:
        cluster.up(nodes=0)
        cluster.kubectl("create", "-f", "-", input="\n".join(map(json.dumps, objects())), timeout=600)
        config = cluster.root / "Corefile"
        config.write_text(COREFILE.format(port=PEER_PORT, ready=PEER_READY_PORT, kubeconfig=cluster.kubeconfig))
        command = ["taskset", "-c", str(cpu), TOP / "build" / "coredns" / "coredns", "-conf", config]
        log = cluster.root / "coredns.log"
        server = subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT)

        def ready():
            if server.poll() is not None:
                raise RuntimeError(f"CoreDNS ended: {log.read_text()}")
            return run("curl", "-fs", f"http://127.0.0.1:{PEER_READY_PORT}/ready", check=False).returncode == 0

        try:
            wait_for("CoreDNS to have the Services", ready)
            yield server.pid
        finally:
            server.terminate()
            server.wait(30)
    finally:
        cluster.down()


def figures(seconds):
    cpus = sorted(os.sched_getaffinity(0))
    others = ",".join(map(str, cpus[1:] or cpus))
    with ours(cpus[0]) as server, coredns(cpus[0]) as peer:
        for kind in KINDS:
            here = measure(kind, server, PORT, seconds, others)
            there = measure(kind, peer, PEER_PORT, seconds, others)
            yield {"name": f"DNS, {kind}: answers per second of processor time", "value": round(here), "unit": "1/s",
                   "peer": "CoreDNS", "peer_is": round(there)}


def main(report, arguments):
    parser = argparse.ArgumentParser(prog="dev bench dns", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--seconds", type=int, default=10, help="of each kind of question and server")
    options = parser.parse_args(arguments)
    run(TOP / "tests" / "tools" / "fetch-kubectl", TOP / "build" / "kubectl")
    run(TOP / "tests" / "tools" / "build-coredns", TOP / "build" / "coredns", timeout=1800)
    report(figures(options.seconds), options.json)
