"""Scenario 21, logs and exec: through a node that accepts no connection."""

import os
import pty
import select
import subprocess

BUSY = ["sh", "-c", "trap exit TERM; for i in 1 2 3 4 5; do echo line $i; echo err $i >&2; done; "
        "while :; do sleep 1000 & wait $!; done"]


def _start(kube, cluster, name="busy", command=BUSY, *options):
    kube("run", name, f"--image={cluster.registry}/busybox:test", *options, "--", *command)
    kube.wait("condition=Ready", f"pod/{name}")


def test_logs(kube, cluster):
    _start(kube, cluster)
    everything = kube.out("logs", "busy").splitlines()
    assert sorted(everything) == sorted([f"line {i}" for i in range(1, 6)] + [f"err {i}" for i in range(1, 6)])
    assert len(kube.out("logs", "busy", "--tail=3").splitlines()) == 3
    assert kube.out("logs", "busy", "--limit-bytes=4") == everything[0][:4]
    stamped = kube.out("logs", "busy", "--timestamps").splitlines()
    assert all(line[:2] == "20" and line.split(" ", 1)[1] in everything for line in stamped)
    assert kube.out("logs", "busy", "--since=1h").splitlines() == everything
    wrong = kube("logs", "busy", "-c", "none", check=False)
    assert wrong.returncode == 1 and "container none is not valid for pod busy" in wrong.stderr


def test_logs_previous(kube_new, cluster):
    kube = kube_new
    kube("run", "again", f"--image={cluster.registry}/busybox:test", "--", "sh", "-c",
         "if [ -e /proc/1/none ]; then :; fi; echo I am $HOSTNAME; exit 3")
    kube.wait("jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/again")
    assert "I am again" in kube.out("logs", "again", "--previous")
    last = kube.jsonpath("{.status.containerStatuses[0].lastState.terminated}", "pod/again")
    assert '"exitCode":3' in last and '"reason":"Error"' in last
    kube("delete", "pod", "again", "--grace-period=1")


def test_exec(kube, cluster):
    _start(kube, cluster)
    assert kube.out("exec", "busy", "--", "echo", "hello") == "hello"
    failed = kube("exec", "busy", "--", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (failed.returncode, failed.stdout, "err\n" in failed.stderr) == (7, "out\n", True)
    assert kube("exec", "-i", "busy", "--", "cat", input="through stdin\n").stdout == "through stdin\n"
    big = "x" * 999 + "\n"
    assert kube("exec", "-i", "busy", "--", "wc", "-c", input=big * 3000).stdout.strip() == "3000000"
    missing = kube("exec", "busy", "--", "no-such-program", check=False)
    assert missing.returncode != 0 and "no-such-program" in missing.stderr
    absent = kube("exec", "nobody", "--", "true", check=False)
    assert absent.returncode == 1 and 'pods "nobody" not found' in absent.stderr


def test_exec_on_a_terminal(kube, cluster):
    _start(kube, cluster)
    command = cluster.kubectl_command("-n", kube.namespace, "exec", "-it", "busy", "--", "sh", version=kube.version)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        _expect(ours, b"# ")
        os.write(ours, b"tty && echo $((6*7))\n")
        assert b"/dev/pts/" in _expect(ours, b"42\r\n")
        os.write(ours, b"exit 5\n")
        assert process.wait(20) == 5
    os.close(ours)


def _expect(fd, wanted, seconds=20):
    """What the terminal shows until `wanted` is among it."""
    seen = b""
    while wanted not in seen:
        assert select.select([fd], [], [], seconds)[0], f"no {wanted!r} within {seconds} s; seen: {seen!r}"
        seen += os.read(fd, 65536)
    return seen
