"""Debian 12 machines in software emulation: systemd as PID 1, cgroup v2, a kernel of their own.

Code in them runs some ten times slower than outside; timeouts are chosen accordingly.
"""

import os
import pathlib
import select
import signal
import subprocess

from tests.support.machine import run
from tests.support.waiting import wait_for

NETNS = "skiff-vm"
HOST_ADDRESS = "10.77.0.1"
HOST_ADDRESS_6 = "fd00:77::1"


class Network:
    """The machines' bridge in a network namespace of the host, without a way out."""

    def up(self, machines=1):
        self.down()
        run("ip", "netns", "add", NETNS)
        # Without multicast snooping, which a bridge in emulation's company takes seconds to settle.
        for words in ["link set lo up", "link add br0 type bridge mcast_snooping 0", "link set br0 up",
                      f"addr add {HOST_ADDRESS}/24 dev br0", f"addr add {HOST_ADDRESS_6}/64 dev br0 nodad"]:
            run("ip", "-n", NETNS, *words.split())
        for number in range(1, machines + 1):
            run("ip", "netns", "exec", NETNS, "ip", "tuntap", "add", f"tap{number}", "mode", "tap")
            run("ip", "-n", NETNS, "link", "set", f"tap{number}", "master", "br0", "up")

    def down(self):
        run("ip", "netns", "del", NETNS, check=False)


class VirtualMachine:
    """processors: that the machine sees; more of them than this host has make it no faster."""

    def __init__(self, folder, number, processors=1):
        self.folder = pathlib.Path(folder)
        self.number = number
        self.processors = processors
        self.name = f"node{number}"
        self.address, self.address6 = f"10.77.0.1{number}", f"fd00:77::1{number}"
        self.disk = self.folder / f"{self.name}.qcow2"
        self.pid_file = self.folder / f"{self.name}.pid"

    @property
    def tap(self):
        """Its end of the wire, in NETNS: what passes there is all that the machine sees."""
        return f"tap{self.number}"

    def create(self):
        """A fresh disk on top of the base image."""
        self.disk.unlink(missing_ok=True)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", self.folder / "base.img", "-F", "raw", self.disk)

    def power_on(self):
        mac = f"52:54:00:77:00:1{self.number}"
        networks = [f"{self.address}::{HOST_ADDRESS}:255.255.255.0", f"[{self.address6}]::[{HOST_ADDRESS_6}]:64"]
        append = " ".join(["console=ttyS0 panic=-1 quiet mitigations=off audit=0 net.ifnames=0",
                           f"systemd.hostname={self.name}",
                           *(f"ip={network}:{self.name}:eth0:off" for network in networks)])
        run("ip", "netns", "exec", NETNS, "qemu-system-x86_64", "-daemonize", "-pidfile", self.pid_file,
            "-name", self.name, "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max",
            "-m", "1024", "-smp", self.processors, "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", self.folder / "vmlinuz", "-initrd", self.folder / "initrd", "-append", append,
            "-drive", f"file={self.disk},if=none,id=d0,format=qcow2", "-device", "virtio-blk-pci,drive=d0",
            "-netdev", f"tap,id=n0,ifname={self.tap},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=n0,mac={mac}", "-device", "virtio-rng-pci",
            "-serial", f"file:{self.folder}/{self.name}.console")

    def power_off_and_on(self):
        self.power_off()
        self.power_on()
        self.wait_up()

    def wait_up(self, seconds=180):
        """Returns once the machine takes commands; ssh itself tries to connect once a second."""
        wait_for(f"{self.name} to come up ({self.folder}/{self.name}.console)",
                 lambda: self.ssh("true", check=False, timeout=seconds).returncode == 0, seconds)

    def _pidfd(self):
        """Of its qemu; None when it is off."""
        try:
            return os.pidfd_open(int(self.pid_file.read_text()))
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None

    def power_off(self):
        """A power cut."""
        pidfd = self._pidfd()
        if pidfd is None:
            return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 30)
        os.close(pidfd)
        self.pid_file.unlink(missing_ok=True)

    def reboot(self):
        """In order: systemd stops everything first."""
        pidfd = self._pidfd()
        self.ssh("systemctl reboot", check=False)
        if not select.select([pidfd], [], [], 180)[0]:
            raise TimeoutError(f"{self.name} does not go down ({self.folder}/{self.name}.console)")
        os.close(pidfd)
        self.power_on()
        self.wait_up()

    def _ssh_command(self):
        return ["ip", "netns", "exec", NETNS, "ssh", "-q", "-i", str(self.folder / "id"),
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=30",
                "-o", "ConnectionAttempts=60",
                f"root@{self.address}"]

    # ---- as a node ----

    def install(self, package, kubectl):
        self.put(package, "/root/skiff.deb")
        self.put(kubectl, "/usr/local/bin/kubectl")
        self.ssh("chmod +x /usr/local/bin/kubectl && dpkg -i /root/skiff.deb")

    def join(self, control_plane, registry):
        """To the cluster of another machine, or its own, which runs the control plane; images come from the registry."""
        told = control_plane.ssh("skiff token create").stdout
        command = next(line for line in told.splitlines() if "skiff join" in line)
        self.ssh(f"{command.replace('sudo ', '')} --no-start")
        self.ssh(f"printf 'registries:\\n  - host: {registry}\\n    plainHttp: true\\n' >>/etc/skiff/agent.yaml")
        self.ssh("systemctl enable --now skiff-agent")

    def kubectl(self, words, **options):
        """Where the control plane is."""
        return self.ssh(f"kubectl --kubeconfig /etc/skiff/admin.kubeconfig {words}", **options)

    # ---- programs inside ----

    def ssh(self, command, check=True, timeout=300, **options):
        return run(*self._ssh_command(), command, check=check, timeout=timeout, **options)

    def put(self, source, target):
        with open(source, "rb") as data:
            subprocess.run([*self._ssh_command(), f"cat > '{target}'"], stdin=data, check=True, timeout=300)
