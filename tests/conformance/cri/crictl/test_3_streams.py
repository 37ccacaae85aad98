"""exec, attach and port-forward by crictl, over SPDY and over WebSocket."""

import fcntl
import os
import pty
import re
import select
import socket
import struct
import subprocess
import termios
import urllib.request

import pytest

from tests.support.waiting import wait_for

TRANSPORTS = ["spdy", "websocket"]


@pytest.fixture
def shell(crictl, tmp_path):
    pod = crictl.pod("shell", log_directory=str(tmp_path))
    made = crictl.container(pod, "echo", ["sh", "-c", "while read line; do echo got $line; done; echo end"], stdin=True,
                            stdin_once=True)
    crictl("start", made)
    return made


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_exec(crictl, shell, transport):
    by = ["exec", "--transport", transport]
    result = crictl.attempt(*by, shell, "sh", "-c", "echo out; echo err >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n", "err\n")
    result = crictl.attempt(*by, "-i", shell, "wc", "-c", input="x" * 300_000)
    assert (result.returncode, result.stdout) == (0, "300000\n"), result
    where = "execing command in container <echo>: "
    assert crictl.refusal(*by, shell, "sh", "-c", "exit 7") == f"{where}command terminated with exit code 7"
    assert "executable file not found in $PATH" in crictl.refusal(*by, shell, "nosuch")


def test_exec_sync(crictl, shell):
    result = crictl.attempt("exec", "-s", shell, "sh", "-c", "echo out; echo err >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n\nerr\n\n", "")
    where = "execing command in container <echo> synchronously: "
    assert crictl.refusal("exec", "-s", shell, "sh", "-c", "echo err >&2; exit 7") == (
        f"{where}command 'sh -c echo err >&2; exit 7' exited with 7: err")
    assert crictl.refusal("exec", "-s", "--timeout", "1", shell, "sleep", "100") == (
        f'{where}command timed out: "sleep 100" timed out after 1s')
    assert "executable file not found in $PATH" in crictl.refusal("exec", "-s", shell, "nosuch")
    assert "permission denied" in crictl.refusal("exec", "-s", shell, "/etc/passwd").lower()


def test_exec_by_filter(crictl, shell):
    assert crictl("exec", "-q", "--name", "^echo$", "hostname") == "shell\n"
    assert crictl.shown("exec", "--name", "^echo$", "hostname") == "<echo>:\nshell"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_exec_with_a_terminal(crictl, shell, transport):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    script = 'tty; until [ "$(stty size)" = "33 99" ]; do :; done; read line; echo got $line; exit 6'
    command = crictl.server.crictl_command("exec", "-it", "--transport", transport, shell, "sh", "-c", script)
    os.write(ours, b"typed\n")
    ended = subprocess.run(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=20)
    assert "exit code 6" in ended.stderr
    shown = ""
    while "got typed" not in shown and select.select([ours], [], [], 5)[0]:  # the kernel carries it over in its own time
        shown += os.read(ours, 4096).decode()
    os.close(ours)
    os.close(theirs)
    assert re.search(r"/dev/pts/\d+\r", shown) and "got typed\r\n" in shown, shown


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attach(crictl, shell, transport):
    result = crictl.attempt("attach", "-i", "--transport", transport, shell, input="one\ntwo\n")
    assert result.returncode == 0 and result.stdout == "got one\ngot two\nend\n", result
    wait_for("its end", lambda: crictl.json("inspect", shell)["status"]["state"] == "CONTAINER_EXITED")
    assert "is not running" in crictl.refusal("attach", shell)
    assert crictl("logs", shell) == "got one\ngot two\nend\n", "what went to a client is in the log too"


def get(url):
    """The page, or nothing when nobody answers."""
    try:
        return urllib.request.urlopen(url, timeout=10).read().decode()
    except OSError:
        return ""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_port_forward(crictl, transport):
    pod = crictl.pod("web")
    crictl("start", crictl.container(pod, "nginx", [], image=crictl.nginx))
    address = crictl.json("inspectp", pod)["status"]["network"]["ip"]
    page = "web\nserved by nginx\n"
    wait_for("nginx listens", lambda: get(f"http://{address}/") == page)
    with crictl.background("port-forward", "--transport", transport, pod, "18080:80", "18081:81") as forward:
        for line in forward.stdout:
            if "Forwarding from 127.0.0.1:18081" in line:
                break
        assert get("http://127.0.0.1:18080/") == page
        with socket.create_connection(("127.0.0.1", 18081), timeout=10) as nobody:
            assert nobody.recv(1) == b"", "nothing listens there"
        # client-go gives the whole forwarding up when a port refuses.
        said = forward.communicate(timeout=20)[0]
        assert re.search("forwarding 18081 -> 81: .*port 81: .*refused", said, re.IGNORECASE), said
