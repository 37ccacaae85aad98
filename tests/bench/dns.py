"""./dev bench dns: questions that the cluster DNS answers in a second of its thread's processor time (dnsperf(1)).

The server has one processor, dnsperf the other ones. What counts is the processor's time and not the clock's: on
loopback a sender also does the receiving side's work in the kernel.
"""

import argparse
import os
import pathlib
import re
import subprocess
import tempfile

from tests.support.cluster import TOP

PORT = 5300
SERVICES = 1000
TICKS = os.sysconf("SC_CLK_TCK")
DOMAIN = "svc.cluster.local"


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


def thread_seconds(pid, name):
    """User and system time of the thread of that name."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text()
        if fields.split("(")[1].split(")")[0] == name:
            used = fields.rsplit(")", 1)[1].split()
            return (int(used[11]) + int(used[12])) / TICKS
    raise RuntimeError(f"process {pid} has no thread {name}")


def measure(kind, pid, seconds, others):
    with tempfile.NamedTemporaryFile("w", suffix=".queries") as queries:
        queries.write("\n".join(questions(kind)) + "\n")
        queries.flush()
        before = thread_seconds(pid, "agent-dns")
        command = ["taskset", "-c", others, "dnsperf", "-s", "127.0.0.1", "-p", str(PORT), "-d", queries.name,
                   "-l", str(seconds), "-c", "20", "-q", "500"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = thread_seconds(pid, "agent-dns") - before
    answered = int(re.search(r"Queries completed: +(\d+)", report).group(1))
    lost = int(re.search(r"Queries lost: +(\d+)", report).group(1))
    if lost > answered / 100:
        raise RuntimeError(f"{lost} of {answered + lost} questions were not answered\n{report}")
    rate = float(re.search(r"Queries per second: +([\d.]+)", report).group(1))
    yield {"name": f"DNS, {kind}: answers per second of processor time", "value": round(answered / used), "unit": "1/s"}
    yield {"name": f"DNS, {kind}: answers per second, beside dnsperf", "value": round(rate), "unit": "1/s"}


def figures(seconds):
    cpus = sorted(os.sched_getaffinity(0))
    others = ",".join(map(str, cpus[1:] or cpus))
    command = ["taskset", "-c", str(cpus[0]), TOP / "build" / "release" / "bin" / "skiff-dns-bench",
               "--services", str(SERVICES), "--port", str(PORT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            if server.stdout.readline() != "ready\n":
                raise RuntimeError("skiff-dns-bench does not start")
            for kind in ("service", "headless", "search list"):
                yield from measure(kind, server.pid, seconds, others)
        finally:
            server.stdin.close()


def main(report, arguments):
    parser = argparse.ArgumentParser(prog="dev bench dns", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--seconds", type=int, default=10, help="of each kind of question")
    options = parser.parse_args(arguments)
    report(figures(options.seconds), options.json)
