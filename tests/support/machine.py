"""A machine for tests: namespaces on this host that behave like a host of their own.

A machine has a network, mount, PID, UTS and IPC namespace, its own /run, /etc/skiff, /var/lib/skiff and
/var/log, and hangs on the cluster's bridge by one veth. Its PID 1 (node_init.py) reaps; killing it
is the machine's power cut: every process dies, every mount and namespace is gone, the state
folder stays.
"""

import os
import pathlib
import select
import signal
import subprocess
import sys

INIT = pathlib.Path(__file__).with_name("node_init.py")

# What a machine has of its own, as (path inside, folder under the machine's root).
PRIVATE_FOLDERS = [
    ("/etc/skiff", "etc"),
    ("/var/lib/skiff", "lib"),
    ("/run/skiff", "run"),
    ("/var/log/pods", "log/pods"),
    ("/var/log/containers", "log/containers"),
    ("/etc/cni/net.d", "cni-net.d"),
]


def run(*argv, check=True, timeout=180, **options):
    """Runs a program; on failure the error holds what it printed."""
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, **options)
    if check and result.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


def add_address(run_there, address, link):
    """One that may be used at once: IPv6 without the search for a double."""
    run_there("ip", "addr", "add", address, "dev", link, *(["nodad"] if ":" in address else []))


def with_port(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Machine:
    """name: unique on this host, at most 11 characters (a veth's name is made of it)."""

    def __init__(self, name, root, bridge, networks):
        self.name = name
        self.root = pathlib.Path(root)
        self.bridge = bridge
        self.networks = networks  # one a family, as (address, prefix length, gateway); the first is the primary one
        self.pid_file = self.root / "init.pid"

    @property
    def address(self):
        return self.networks[0][0]

    @property
    def addresses(self):
        return [address for address, _, _ in self.networks]

    # ---- power ----

    def power_on(self):
        for _, folder in PRIVATE_FOLDERS:
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        ready, ready_child = os.pipe()
        argv = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
                "--propagation", "private", sys.executable, str(INIT), self.name, str(self.root), str(ready_child)]
        log = open(self.root / "init.log", "ab")
        # A session of its own: the machine outlives the command that started it.
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[ready_child],
                         start_new_session=True)
        os.close(ready_child)
        # One read: unshare(1), which stays, holds the other end open too.
        with os.fdopen(ready, "rb", buffering=0) as pipe:
            if pipe.read(5) != b"ready":
                raise RuntimeError(f"machine {self.name} did not start: {self.root / 'init.log'}")
        self._attach_network()

    def _attach_network(self):
        pid = self.init_pid()
        outside = f"v-{self.name}"
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("ip", "link", "set", outside, "master", self.bridge, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "up")
        for address, length, gateway in self.networks:
            add_address(self.run, f"{address}/{length}", "eth0")
            self.run("ip", "route", "add", "default", "via", gateway)

    def power_off(self):
        """As pulling the plug. Idempotent."""
        pid = self.init_pid()
        if pid is not None:
            pidfd = os.pidfd_open(pid)
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], 30)  # readable once it has ended, and its children with it
            os.close(pidfd)
        self.pid_file.unlink(missing_ok=True)
        run("ip", "link", "del", f"v-{self.name}", check=False)

    def init_pid(self):
        """The host's pid of the machine's PID 1, or None when it is off."""
        try:
            pid, started = self.pid_file.read_text().split()
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return int(pid) if fields[19] == started and fields[0] not in "ZX" else None

    # ---- programs inside ----

    def enter(self):
        """The words before a command that make it run inside."""
        pid = self.init_pid()
        if pid is None:
            raise RuntimeError(f"machine {self.name} is off")
        return ["nsenter", "-t", str(pid), "-n", "-m", "-u", "-i", "-p", "--"]

    def run(self, *argv, check=True, **options):
        return run(*self.enter(), *argv, check=check, **options)

    def start(self, log_name, *argv, env=None):
        """Starts a daemon inside, its output in ROOT/log_name; returns its pid as the host sees it."""
        log = open(self.root / log_name, "ab")
        process = subprocess.Popen([*self.enter(), *map(str, argv)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True, env={**os.environ, **(env or {})})
        # nsenter forks for the PID namespace: the daemon is its one child.
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while process.poll() is None:
            words = children.read_text().split()
            if words:
                return int(words[0]), process
            os.sched_yield()
        raise RuntimeError(f"{argv[0]} ended at once: {self.root / log_name}")
