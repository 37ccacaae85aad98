"""What a node holds, so that a test can say: afterwards the same as before.

Everything is read from the node's own namespaces. Objects are named so that a difference reads as
the thing that leaked.
"""

import os
import pathlib
import re

from tests.support.cluster import CGROUP_ROOTS
from tests.support.waiting import settled


def snapshot(cluster, node):
    return {
        "processes": _processes(node),
        "mounts": _mounts(node),
        "links": _lines(node, "ip", "-o", "link", pick=r"^\d+: ([^@:]+)"),
        "addresses": _lines(node, "ip", "-o", "addr", pick=r"^\d+: (\S+ +inet6? \S+)", drop="fe80:"),
        "iptables": _rules(node, "iptables-save") | _rules(node, "ip6tables-save"),
        "nftables": _lines(node, "nft", "list", "tables", pick=r"^table (\S+ skiff-\S+)"),
        "services": _services(node),
        "cgroups": _cgroups(cluster),
        "files": _files(node),
        "network namespaces": _files(node, only=["run/netns"]),
    }


def settled_difference(before, cluster, node, seconds=15):
    """The difference once it is empty, or what is left of it after so long: the last programs may still be ending."""
    return settled(lambda: difference(before, snapshot(cluster, node)), lambda lines: not lines, seconds)


def wait_gone(marks, cluster, node, seconds=30):
    """Until nothing has one of the marks (ids of a pod and its sandbox) in its name: a pod's object may go before the
    last of its sandbox does."""
    def left():
        names = [name for held in snapshot(cluster, node).values() for name in held]
        return [name for name in names if any(mark in name for mark in marks)]

    still = settled(left, lambda names: not names, seconds)
    assert not still, still


def difference(before, after):
    """'+ thing' for what is new, '- thing' for what is gone."""
    lines = []
    for kind in before:
        lines += [f"+ {kind}: {item}" for item in sorted(after[kind] - before[kind])]
        lines += [f"- {kind}: {item}" for item in sorted(before[kind] - after[kind])]
    return lines


def _lines(node, *argv, pick, drop=None):
    out = node.run(*argv).stdout
    found = set()
    for line in out.splitlines():
        match = re.search(pick, line)
        if match and not (drop and drop in line):
            found.add(re.sub(r"\s+", " ", match.group(1)))
    return found


def _processes(node):
    """Without pids: a daemon that was restarted is no leak. A program that runs twice is told from one that runs once."""
    out = node.run("ps", "-e", "-o", "args=").stdout
    lines = [line.strip() for line in out.splitlines() if not re.search(r"\bps -e\b", line)]
    return {f"{line} (x{lines.count(line)})" for line in lines}


def _mounts(node):
    return {line.split()[4] for line in node.run("cat", "/proc/1/mountinfo").stdout.splitlines()}


# A table and its own chains are there once somebody has looked.
_NO_RULE = re.compile(r"^(#|\*|COMMIT|:[A-Z]+ ACCEPT|$)")


def _rules(node, program):
    out = node.run(program).stdout
    return {re.sub(r"\[\d+:\d+\]", "", f"{program} {line}").strip() for line in out.splitlines()
            if not _NO_RULE.match(line)}


def _services(node):
    """Those that the nftables mode of the service proxy has rules for."""
    found = set()
    for table in ("ip", "ip6"):
        for name in ("frontends", "nodeports"):
            listed = node.run("nft", "list", "map", table, "skiff-proxy", name, check=False).stdout
            found |= set(re.findall(r'comment "([^"]+)"', listed))
    return found


def _cgroups(cluster):
    found = set()
    for root in CGROUP_ROOTS:
        for top in [root, *root.iterdir()]:
            base = top / f"skiff-{cluster.name}"
            found |= {folder for folder, _, _ in os.walk(base)}
    return found


# Files that come and go by themselves: databases' side files, the image store's cache of what was pulled.
_IGNORED = re.compile(r"(^|/)(images|image|layers)/|-wal$|-shm$|\.log$|/desired/")


def _files(node, only=("lib", "run", "log")):
    found = set()
    for part in only:
        for folder, folders, files in os.walk(node.root / part):
            for name in [*folders, *files]:
                path = str((pathlib.Path(folder) / name).relative_to(node.root))
                if not _IGNORED.search(path):
                    found.add(path)
    return found
