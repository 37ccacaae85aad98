#!/usr/bin/python3
"""Counts what passes a machine's interface, until it is told to end.

    capture.py INTERFACE ADDRESS...

Says "ready" once it listens. On SIGTERM it prints, as JSON, how many frames it has seen that are about one of the
addresses (IP or ARP, in the clear or inside an overlay's packet) and how many fragments of IP packets.
"""

import ipaddress
import json
import os
import pathlib
import signal
import socket
import struct
import sys
from contextlib import contextmanager

from tests.support.waiting import wait_for

ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
VXLAN_PORTS = {4789, 8472}
VXLAN_HEADERS = 16  # UDP's and its own
IPV6_FRAGMENT = 44


def parse(frame):
    """The addresses that a frame is about, and whether it is a fragment."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    if kind == ETH_P_ARP and len(frame) >= 42:
        return {frame[28:32], frame[38:42]}, False
    if kind == ETH_P_IP and len(frame) >= 34:
        offset = struct.unpack_from("!H", frame, 20)[0]
        found, fragment = {frame[26:30], frame[30:34]}, bool(offset & 0x3FFF)  # more to come, or not the first
        protocol, payload = frame[23], frame[14 + (frame[14] & 15) * 4:]
    elif kind == ETH_P_IPV6 and len(frame) >= 54:
        found, fragment = {frame[22:38], frame[38:54]}, frame[20] == IPV6_FRAGMENT
        protocol, payload = frame[20], frame[54:]
    else:
        return set(), False
    if protocol == socket.IPPROTO_UDP and not fragment and len(payload) >= VXLAN_HEADERS + 14:
        if struct.unpack_from("!H", payload, 2)[0] in VXLAN_PORTS:
            inside, inner_fragment = parse(payload[VXLAN_HEADERS:])
            return found | inside, inner_fragment
    return found, fragment


def main():
    interface, wanted = sys.argv[1], {ipaddress.ip_address(address).packed for address in sys.argv[2:]}
    seen = {"frames": 0, "fragments": 0}
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    listener.bind((interface, 0))

    def end(*_):
        print(json.dumps(seen), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while True:
        addresses, fragment = parse(listener.recv(65536))
        seen["frames"] += bool(addresses & wanted)
        seen["fragments"] += fragment


@contextmanager
def capturing(machine, interface, addresses):
    """A dict that holds the counts once the block has ended."""
    log = machine.root / "capture.log"
    log.unlink(missing_ok=True)
    top = pathlib.Path(__file__).resolve().parents[2]
    pid, process = machine.start(log.name, sys.executable, "-m", "tests.support.capture", interface, *addresses,
                                 env={"PYTHONPATH": str(top)})
    wait_for("the capture to listen", lambda: "ready" in log.read_text())
    seen = {}
    try:
        yield seen
    finally:
        os.kill(pid, signal.SIGTERM)
        process.wait(10)
    seen.update(json.loads(log.read_text().splitlines()[-1]))


if __name__ == "__main__":
    main()
