"""Runtimes at their CRI sockets, side by side: calls, pods a second, memory, idle, CPU.

    ./dev bench cri [--json] [--runtimes skiff,containerd+runc] [--parts latency,throughput,...]

Each runtime runs alone, one after another, in network and mount namespaces and a cgroup of its own, with the same
image, the same load program and a bridge network. "floor" is a bare program that makes the same kernel work in a row.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from tests.bench import runtimes
from tests.bench.logs import logs
from tests.support import images
from tests.support.cluster import TOP
from tests.support.machine import run
from tests.support.waiting import wait_for

FLOOR = "floor"
NAMES = [*runtimes.RUNTIMES, FLOOR]
LATENCY_PODS = 40
PARALLEL = {1: 30, 10: 200, 50: 100}  # pods at once: pods in all
HELD = [50, 200]
IDLE_PODS = 50
DISK_SIZE = "8G"  # of a sparse file
IDLE_SECONDS = 20


def figure(name, value, unit):
    return {"name": name, "value": round(value, 3), "unit": unit}


def pss_kib(pid):
    return int(re.search(r"^Pss: +(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))


def lines_of(*argv):
    return [json.loads(line) for line in run(*argv, timeout=600).stdout.splitlines()]


# ---- parts ----

def latency(runtime):
    yield from lines_of(*runtime.load("latency", "--count", LATENCY_PODS))


def throughput(runtime):
    for parallel, count in PARALLEL.items():
        before = runtime.cgroup.cpu_seconds()
        found = lines_of(*runtime.load("throughput", "--parallel", parallel, "--count", count))
        yield from (one for one in found if one["unit"] == "pods/s" or one["name"].startswith("pod "))
        if parallel == 1:
            # One more than it counts: the load program's first pod warms the caches up.
            yield figure("CPU for a pod up and down", (runtime.cgroup.cpu_seconds() - before) * 1000 / (count + 1), "ms")


class Held:
    """Pods that are there until the end of the block."""

    def __init__(self, runtime, count):
        self.process = subprocess.Popen(runtime.load("hold", "--count", count), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "held\n":
            raise RuntimeError(f"{runtime.name}: {count} pods did not come up")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError("pods did not go")


def memory(runtime):
    yield figure("PSS of the daemon, 0 pods", pss_kib(runtime.process.pid) / 1024, "MiB")
    for count in HELD:
        with Held(runtime, count):
            yield figure(f"PSS of the daemon, {count} pods", pss_kib(runtime.process.pid) / 1024, "MiB")
            each = sum(map(pss_kib, runtime.supervisors())) / count
            yield figure(f"PSS of supervisor and pause a pod, {count} pods", each / 1024, "MiB")


def activity(pids):
    """By thread: seconds on a CPU and wake-ups so far (proc_pid_schedstat, proc_pid_status)."""
    found = {}
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
            wakeups = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M).group(1)
            found[task.name] = (seconds, int(wakeups))
    return found


def idle(runtime):
    with Held(runtime, IDLE_PODS):
        time.sleep(5)  # tidy: what the pods' start left to do is not idleness
        pids = [runtime.process.pid, *runtime.supervisors()]
        start, before = time.monotonic(), activity(pids)
        time.sleep(IDLE_SECONDS)  # tidy: the time that is measured
        after, seconds = activity(pids), time.monotonic() - start
        cpu, wakeups = (sum(now[i] - before.get(task, (0, 0))[i] for task, now in after.items()) for i in range(2))
        yield figure(f"idle CPU, {IDLE_PODS} pods", cpu / seconds * 100, "% of a core")
        yield figure(f"idle wake-ups, {IDLE_PODS} pods", wakeups / seconds, "1/s")


PARTS = {"latency": latency, "throughput": throughput, "memory": memory, "idle": idle, "logs": logs}


# ---- one runtime, in its namespaces ----

def floor(build, folder, cgroup, parts):
    wanted = set()
    if "latency" in parts:
        wanted.add((1, LATENCY_PODS))
    if "throughput" in parts:
        wanted.update(PARALLEL.items())
    for parallel, count in sorted(wanted):
        yield from lines_of(build / "bin" / "skiff-cri-floor", "--folder", folder / str(count), "--count", count,
                            "--cgroup", f"/{cgroup.name}/pods", "--parallel", parallel)


def disk(folder):
    """ext4 as an installer makes it, whatever this machine has below /tmp: without a journal, making a file takes the
    longer the more files were removed in the last minute. Unmounted with the mount namespace."""
    image, mounted = folder / "disk.img", folder / "disk"
    mounted.mkdir()
    run("truncate", "--size", DISK_SIZE, image)
    run("mkfs.ext4", "-q", "-F", image)
    run("mount", "-o", "loop", image, mounted)
    return mounted


def inside(name, build, folder, cgroup, parts):
    for argv in [["ip", "link", "set", "lo", "up"], ["mount", "-t", "tmpfs", "tmpfs", "/run"]]:
        run(*argv)
    folder = disk(folder)
    if name == FLOOR:
        for one in floor(build, folder, cgroup, parts):
            print(json.dumps(one), flush=True)
        return
    registry = runtimes.Registry(folder, images.push)
    runtime = runtimes.RUNTIMES[name](folder, build, cgroup)
    try:
        runtime.start()
        run(*runtime.load("throughput", "--count", 1, "--parallel", 1))  # pulls the image
        registry.stop()
        for part in parts:
            for one in PARTS[part](runtime):
                print(json.dumps(one), flush=True)
    finally:
        registry.stop()
        runtime.stop()


def measure(name, build, parts):
    cgroup = runtimes.Cgroup(f"skiff-bench-{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="cri-bench-") as folder:
        # What runs in the pid namespace ends with it, however this ends.
        argv = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
                sys.executable, "-m", "tests.bench.cri", "--inside", name, "--folder", folder, "--build", build,
                "--parts", ",".join(parts), "--cgroup", cgroup.name]
        cgroup.make()
        process = subprocess.Popen(list(map(str, argv)), cwd=TOP, stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                yield json.loads(line)
            if process.wait() != 0:
                raise RuntimeError(f"{name} failed")
        finally:
            process.kill()
            process.wait()
            wait_for("the end of what ran", lambda: not cgroup.processes())
            cgroup.remove()


# ---- all of them ----

def compare(names, build, parts):
    """Figures of the first name, each with its peers' values."""
    found = {name: {one["name"]: one for one in measure(name, build, parts)} for name in names}
    for key, one in found[names[0]].items():
        peers = {name: found[name][key]["value"] for name in names[1:] if key in found[name]}
        yield {**one, "peers": peers}


def times(value, peer, unit):
    """How many times better than the peer; of rates, more is better."""
    better = (value / peer if unit in ("pods/s", "MB/s") else peer / value) if value and peer else float("nan")
    return f"{better:.1f}x"


def report(figures, as_json, names):
    if not as_json:
        print(f"{'':44} {'':12} " + " ".join(f"{name:>22}" for name in names))
    for one in figures:
        if as_json:
            print(json.dumps(one), flush=True)
            continue
        columns = [f"{one['value']:>22}"]
        for name in names[1:]:
            peer = one["peers"].get(name)
            columns.append(f"{'-':>22}" if peer is None else f"{peer} ({times(one['value'], peer, one['unit'])})".rjust(22))
        print(f"{one['name']:44} {one['unit']:12} " + " ".join(columns), flush=True)


def main(words):
    parser = argparse.ArgumentParser(prog="dev bench cri", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--runtimes", default=",".join(NAMES), help="the first is compared with the others")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build" / "release")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--cgroup", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of every "finally"
    build, parts, names = arguments.build.resolve(), arguments.parts.split(","), arguments.runtimes.split(",")
    if arguments.inside:
        inside(arguments.inside, build, arguments.folder, runtimes.Cgroup(arguments.cgroup), parts)
        return
    run(images.BUILDER)
    if "logs" in parts:
        run(TOP / "tests" / "tools" / "build-crictl", TOP / "build" / "crictl", timeout=600)
    report(compare(names, build, parts), arguments.json, names)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"dev: {error}")
