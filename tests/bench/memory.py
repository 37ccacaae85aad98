"""Memory of the daemons (proc_pid_smaps(5)): PSS, what a process has of its own and its share of what it shares, and
RSS, where what is shared counts in full."""

import re
import time

FEW, MANY = 10, 100
# What others need, by their own words; none of them runs here.
K3S_AGENT = {"peer": 275, "peer_is": "k3s agent v1.26.5, says docs.k3s.io/reference/resource-profiling"}
K0S_CONTROLLER = {"peer": 600, "peer_is": "k0s v1.22 controller at 100 pods, says its system-requirements.md"}


def memory_kib(node, pid):
    """PSS and RSS."""
    text = node.run("cat", f"/proc/{pid}/smaps_rollup").stdout
    return [int(re.search(rf"^{key}: +(\d+) kB", text, re.M).group(1)) for key in ["Pss", "Rss"]]


def of(node, *names):
    """The sum over the processes of these names."""
    pids = [pid for name in names for pid in node.run("pgrep", "-x", name[:15], check=False).stdout.split()]
    return [sum(kib) for kib in zip(*(memory_kib(node, pid) for pid in pids))]


def figures_of(node, names, what, peer=None):
    for kind, kib in zip(["PSS", "RSS"], of(node, *names)):
        yield {"name": f"{kind} of {what}", "value": round(kib / 1024, 1), "unit": "MiB", **(peer or {})}


def scale(cluster, count):
    cluster.kubectl("scale", "deployment/sleepers", f"--replicas={count}")
    cluster.kubectl("rollout", "status", "deployment/sleepers", "--timeout=180s")


def figures(cluster):
    node, master = cluster.nodes[0], cluster.control_plane
    agent, control_plane = ["skiff-agent"], ["skiff-control-plane"]
    yield from figures_of(node, agent, "the agent, idle")
    yield from figures_of(master, control_plane, "the control plane, idle")
    image = f"{cluster.registry}/busybox:test"
    cluster.kubectl("create", "deployment", "sleepers", f"--image={image}", f"--replicas={FEW}", "--", "sleep", "100000")
    cluster.kubectl("rollout", "status", "deployment/sleepers", "--timeout=120s")
    supervisors = ["skiff-shim", "skiff-pause"]
    yield from figures_of(node, [*agent, *supervisors], f"the agent and all supervisors, {FEW} pods", K3S_AGENT)
    pss = of(node, *supervisors)[0]
    yield {"name": f"PSS of shim and pause, per pod of {FEW}", "value": round(pss / FEW), "unit": "KiB"}
    scale(cluster, MANY)
    yield from figures_of(node, agent, f"the agent, {MANY} pods")
    yield from figures_of(master, control_plane, f"the control plane, {MANY} pods", K0S_CONTROLLER)
    cluster.kubectl("delete", "deployment", "sleepers")
    cluster.kubectl("wait", "--for=delete", "pod", "-l", "app=sleepers", "--timeout=120s")
    time.sleep(40)  # tidy: the daemons give free memory back twice a minute
    yield from figures_of(node, agent, f"the agent, {MANY} pods later")
    yield from figures_of(master, control_plane, f"the control plane, {MANY} pods later")
