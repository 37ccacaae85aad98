"""A web server of a machine's own, beside those of its pods."""

import contextlib
import os
import signal

from tests.support.waiting import wait_for

# Not `python3 -m http.server`, which looks its own name up before it listens: ten seconds without a name server.
PROGRAM = """
import http.server, socketserver, sys
socketserver.TCPServer(("", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@contextlib.contextmanager
def serving(machine, port):
    """At the port of all the machine's IPv4 addresses, for as long as the context lasts."""
    pid, process = machine.start(f"serving-{port}.log", "python3", "-c", PROGRAM, port)
    try:
        wait_for(f"{machine.name} to listen on {port}", lambda: f":{port} " in machine.run("ss", "-Hltn").stdout)
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        process.wait(20)
