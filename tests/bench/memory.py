"""Memory as PSS: what a process has of its own, and its share of what it shares (proc_pid_smaps(5))."""

import re

PODS = 20


def pss_kib(node, pid):
    return int(re.search(r"^Pss: +(\d+) kB", node.run("cat", f"/proc/{pid}/smaps_rollup").stdout, re.M).group(1))


def processes(node, name):
    return node.run("pgrep", "-x", name, check=False).stdout.split()


def daemons(cluster, when):
    for machine, name in [(cluster.control_plane, "skiff-control-plane"), (cluster.nodes[0], "skiff-agent")]:
        total = sum(pss_kib(machine, pid) for pid in processes(machine, name[:15]))
        yield {"name": f"PSS of {name}, {when}", "value": round(total / 1024, 1), "unit": "MiB"}


def figures(cluster):
    node = cluster.nodes[0]
    yield from daemons(cluster, "idle")
    image = f"{cluster.registry}/busybox:test"
    cluster.kubectl("create", "deployment", "sleepers", f"--image={image}", f"--replicas={PODS}", "--", "sleep", "100000")
    cluster.kubectl("rollout", "status", "deployment/sleepers", "--timeout=120s")
    yield from daemons(cluster, f"{PODS} pods")
    each = [pss_kib(node, pid) for name in ["skiff-shim", "skiff-pause"] for pid in processes(node, name)]
    yield {"name": "PSS of shim and pause, per pod", "value": round(sum(each) / PODS), "unit": "KiB"}
    cluster.kubectl("delete", "deployment", "sleepers")
    cluster.kubectl("wait", "--for=delete", "pod", "-l", "app=sleepers", "--timeout=60s")
