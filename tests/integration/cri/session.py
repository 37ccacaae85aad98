"""A scripted crictl session against the CRI server alone, on the real kernel, with a leak check around it.

    python3 -m tests.integration.cri.session --build DIR

Needs root, docker-registry, openssl and crictl (tests/tools/build-crictl build/crictl). Runs in network and mount namespaces of its own.
"""

import argparse
import concurrent.futures
import crypt
import json
import pathlib
import subprocess
import sys
import tempfile

from tests.images import build as image_build
from tests.support.cri import CRICTL, CriServer, Registry, container_config, enter, pod_config, run
from tests.support.waiting import wait_for

PLAIN, SECURE = 5001, 5002


class Registries:
    """docker-registry twice over one storage: plain, and with TLS and a login."""

    def __init__(self, folder):
        self.folder = folder
        ca, key = folder / "ca.crt", folder / "key.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", ca)
        login = folder / "htpasswd"
        login.write_text("user:" + crypt.crypt("password", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) + "\n")
        self.ca = ca
        self.plain = Registry(folder, PLAIN)
        self.secure = Registry(folder, SECURE, http=f", tls: {{certificate: {ca}, key: {key}}}",
                               auth=f"auth: {{htpasswd: {{realm: test, path: {login}}}}}\n")
        registry = image_build.Registry(self.plain.address)
        for name, recipe in image_build.IMAGES.items():
            registry.push(name, image_build.build(name, recipe, {}))

    def stop(self):
        self.plain.stop()
        self.secure.stop()


# ---- the session ----

def images(server, _folder):
    plain, secure = f"127.0.0.1:{PLAIN}", f"127.0.0.1:{SECURE}"
    server.crictl("pull", f"{plain}/busybox:test")
    server.crictl("pull", f"{plain}/nginx:test")
    missing = server.crictl("pull", f"{plain}/busybox:absent", check=False)
    assert "NotFound" in missing.stderr and "MANIFEST_UNKNOWN" in missing.stderr, missing.stderr
    refused = server.crictl("pull", f"{secure}/busybox:test", check=False)
    assert "Unauthenticated" in refused.stderr, refused.stderr
    refused = server.crictl("pull", "--creds", "user:wrong", f"{secure}/busybox:test", check=False)
    assert "Unauthenticated" in refused.stderr, refused.stderr
    server.crictl("pull", "--creds", "user:password", f"{secure}/busybox:test")
    away = server.crictl("pull", "127.0.0.1:1/busybox", check=False)
    assert "RegistryUnavailable" in away.stderr, away.stderr
    listed = json.loads(server.crictl("images", "-o", "json").stdout)["images"]
    busybox = next(image for image in listed if f"{plain}/busybox:test" in image["repoTags"])
    assert f"{secure}/busybox:test" in busybox["repoTags"], "one image under two names"
    assert json.loads(server.crictl("inspecti", f"{plain}/nginx:test").stdout)["status"]["id"]
    used = json.loads(server.crictl("imagefsinfo").stdout)["status"]["imageFilesystems"][0]
    assert int(used["usedBytes"]["value"]) > 1_000_000


def pod(server, folder):
    config = pod_config(folder, "web", dns_config={"servers": ["10.96.0.10"], "searches": ["svc.cluster.local"]})
    sandbox = server.crictl("runp", config).stdout.strip()
    assert server.crictl("pods", "-q", "--state", "ready").stdout.strip() == sandbox
    address = json.loads(server.crictl("inspectp", sandbox).stdout)["status"]["network"]["ip"]
    nginx = server.crictl("create", sandbox, container_config(folder, "nginx", f"127.0.0.1:{PLAIN}/nginx:test"),
                          config).stdout.strip()
    assert server.crictl("ps", "-aq", "--state", "created").stdout.strip() == nginx
    server.crictl("start", nginx)
    wait_for("nginx answers", lambda: "web" in run("curl", "-s", f"http://{address}/", check=False).stdout)
    shell = server.crictl("create", sandbox,
                          container_config(folder, "shell", f"127.0.0.1:{PLAIN}/busybox:test",
                                           ["sh", "-c", "echo to stdout; echo to stderr >&2; exec sleep 1000"],
                                           stdin=True),
                          config).stdout.strip()
    server.crictl("start", shell)
    return sandbox, nginx, shell


def looking_inside(server, nginx, shell):
    wait_for("the log", lambda: "to stderr" in server.crictl("logs", shell).stderr)
    assert server.crictl("logs", shell).stdout == "to stdout\n"
    resolv = server.crictl("exec", "-s", shell, "cat", "/etc/resolv.conf").stdout
    assert resolv.split() == ["search", "svc.cluster.local", "nameserver", "10.96.0.10"], resolv
    assert server.crictl("exec", shell, "hostname").stdout == "web\n"
    for transport in ["spdy", "websocket"]:
        answer = server.crictl("exec", "-i", "--transport", transport, shell, "wc", "-c", input="x" * 300_000)
        assert answer.stdout == "300000\n" and "Unknown stream" not in answer.stderr, answer
        failed = server.crictl("exec", "--transport", transport, shell, "sh", "-c", "exit 7", check=False)
        assert "exit code 7" in failed.stderr, failed.stderr
    absent = server.crictl("exec", shell, "/no/such/program", check=False)
    assert "No such file" in absent.stderr, absent.stderr
    slow = server.crictl("exec", "-s", "--timeout", "1", shell, "sleep", "100", check=False)
    assert "DeadlineExceeded" in slow.stderr, slow.stderr
    assert json.loads(server.crictl("inspect", shell).stdout)["status"]["state"] == "CONTAINER_RUNNING"
    assert len(json.loads(server.crictl("stats", "-o", "json").stdout)["stats"]) == 2
    assert server.crictl("statsp", "-o", "json").stdout
    server.crictl("update", "--memory", "100000000", nginx)
    assert server.crictl("info").stdout and "skiff" in server.crictl("version").stdout


def runs_on_node(*words):
    """Whether a process with exactly this command line runs, in whatever namespaces."""
    wanted = b"".join(word.encode() + b"\0" for word in words)
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes() == wanted:
                return True
        except OSError:
            continue  # it has just ended
    return False


def streams_under_load(server, sandbox, shell, folder):
    """Much data, many sessions, clients that vanish: over both transports."""
    much = "".join(f"{number:09d}\n" for number in range(1_000_000))  # 10 MB
    for transport in ["spdy", "websocket"]:
        through = server.crictl("exec", "-i", "--transport", transport, shell, "cat", input=much)
        assert through.stdout == much, f"{transport}: {len(through.stdout)} of {len(much)} bytes came back"
        # The other way round: the command ends before its output is read.
        out = server.crictl("exec", "--transport", transport, shell, "seq", "-w", "0", "999999").stdout
        assert len(out) == 7_000_000, f"{transport}: {len(out)} bytes"
        vanishing = subprocess.Popen(server.crictl_command("exec", "-i", "--transport", transport, shell, "sleep", "4711"),
                                     stdin=subprocess.PIPE)
        wait_for("the exec", lambda: runs_on_node("sleep", "4711"))
        vanishing.kill()
        vanishing.wait()
        wait_for("the end of what a vanished client ran", lambda: not runs_on_node("sleep", "4711"))
    some = much[:1_000_000]
    many = [subprocess.Popen(server.crictl_command("exec", "-i", "--transport", transport, shell, "cat"),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for transport in ["spdy", "websocket"] * 4]
    with concurrent.futures.ThreadPoolExecutor(len(many)) as pool:
        for client, answer in zip(many, pool.map(lambda one: one.communicate(some, timeout=60)[0], many)):
            assert (client.returncode, answer == some) == (0, True), (client.args, client.returncode, len(answer))
    config = folder / "web.json"
    for number, transport in enumerate(["spdy", "websocket"]):
        once = server.crictl("create", sandbox,
                             container_config(folder, f"once{number}", f"127.0.0.1:{PLAIN}/busybox:test", ["cat"],
                                              stdin=True, stdin_once=True), config).stdout.strip()
        server.crictl("start", once)
        attached = server.crictl("attach", "-i", "--transport", transport, once, input=some)
        assert attached.stdout == some, f"{transport}: {len(attached.stdout)} of {len(some)} bytes came back"
        status = lambda: json.loads(server.crictl("inspect", once).stdout)["status"]  # noqa: E731, B023
        wait_for("the end of its input ends it", lambda: status()["state"] == "CONTAINER_EXITED")
        assert status()["exitCode"] == 0, status()
        server.crictl("rm", once)
        port = 18080 + number
        forward = subprocess.Popen(server.crictl_command("port-forward", "--transport", transport, sandbox, f"{port}:80"),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the forwarded port", lambda: "web" in run(
            "curl", "-s", f"http://127.0.0.1:{port}/", check=False).stdout)  # noqa: B023
        for _ in range(20):
            assert "web" in run("curl", "-s", f"http://127.0.0.1:{port}/").stdout
        forward.terminate()
        forward.wait()
    descriptors = pathlib.Path(f"/proc/{server.process.pid}/fd")
    wait_for("the sessions' descriptors are closed", lambda: len(list(descriptors.iterdir())) < 150)


def killed_server(server, sandbox, shell):
    """kill -9 takes nothing down, and the next server knows it all."""
    before = json.loads(server.crictl("inspect", shell).stdout)
    server.kill()
    server.start()
    after = json.loads(server.crictl("inspect", shell).stdout)
    assert before == after, (before, after)
    assert server.crictl("exec", shell, "echo", "still here").stdout == "still here\n"
    assert server.crictl("pods", "-q", "--state", "ready").stdout.strip() == sandbox


def shipped_server(server, build, sandbox, shell, folder):
    """`skiff-agent --runtime-only` takes over what the tests' server ran, and hands it back."""
    server.kill()
    config = folder / "agent.yaml"
    config.write_text(f"runDir: {server.root}\nstateDir: {server.root}\nlibexecDir: {build}/bin\n"
                      f"defaultCgroupParent: /{server.cgroup}\npodCidr: 10.89.0.0/24\n"
                      f"cni: {{confDir: {server.root}/cni-net.d}}\n")
    agent = subprocess.Popen([build / "bin" / "skiff-agent", "--runtime-only", "--config", config])
    try:
        wait_for("the agent to serve CRI", lambda: server.crictl("version", check=False).returncode == 0)
        assert server.crictl("pods", "-q", "--state", "ready").stdout.strip() == sandbox
        assert server.crictl("exec", shell, "echo", "still here").stdout == "still here\n"
        pod = server.crictl("runp", pod_config(folder, "shipped")).stdout.strip()
        server.crictl("rmp", "-f", pod)
    finally:
        agent.terminate()
        ended = agent.wait(timeout=20)
    assert ended == 0, ended
    server.start()
    assert server.crictl("exec", shell, "echo", "still here").stdout == "still here\n"


def ending(server, sandbox, nginx, shell):
    server.crictl("stop", "-t", "5", nginx)
    status = json.loads(server.crictl("inspect", nginx).stdout)["status"]
    assert (status["exitCode"], status["reason"]) == (0, "Completed"), status
    server.crictl("rm", nginx)
    server.crictl("stopp", sandbox)
    server.crictl("stopp", sandbox)
    status = json.loads(server.crictl("inspect", shell).stdout)["status"]
    assert status["state"] == "CONTAINER_EXITED" and status["exitCode"] == 137, status
    server.crictl("rmp", sandbox)
    assert server.crictl("ps", "-aq").stdout == "" and server.crictl("pods", "-q").stdout == ""


def out_of_memory(server, folder):
    config = pod_config(folder, "greedy")
    sandbox = server.crictl("runp", config).stdout.strip()
    greedy = container_config(folder, "greedy", f"127.0.0.1:{PLAIN}/busybox:test",
                              ["sh", "-c", "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"],
                              linux={"resources": {"memory_limit_in_bytes": 16 << 20}})
    container = server.crictl("create", sandbox, greedy, config).stdout.strip()
    server.crictl("start", container)
    status = lambda: json.loads(server.crictl("inspect", container).stdout)["status"]  # noqa: E731
    wait_for("the end", lambda: status()["state"] == "CONTAINER_EXITED")
    assert (status()["reason"], status()["exitCode"]) == ("OOMKilled", 137), status()
    server.crictl("rmp", "-f", sandbox)


def inside(build, folder):
    registries = Registries(folder)
    server = CriServer(build, folder / "skiff", "--ca", f"127.0.0.1:{SECURE}={registries.ca}")
    server.start()
    try:
        images(server, folder)
        # The bridge stays when the last pod goes.
        warm = server.crictl("runp", pod_config(folder, "warm")).stdout.strip()
        server.crictl("rmp", "-f", warm)
        before = server.holdings()
        sandbox, nginx, shell = pod(server, folder)
        looking_inside(server, nginx, shell)
        streams_under_load(server, sandbox, shell, folder)
        killed_server(server, sandbox, shell)
        shipped_server(server, build, sandbox, shell, folder)
        ending(server, sandbox, nginx, shell)
        out_of_memory(server, folder)
        assert server.leaked(before) == []
        server.crictl("rmi", "--all")
        assert not list((server.root / "images" / "layers").iterdir())
    finally:
        server.remove_all()
        registries.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.build.resolve(), arguments.inside)
        print("the session went as it should")
        return 0
    for needed in [CRICTL, "/usr/bin/docker-registry"]:
        if not pathlib.Path(needed).exists():
            print(f"skipped: there is no {needed}")
            return 77
    for name, recipe in image_build.IMAGES.items():
        image_build.build(name, recipe, {})
    with tempfile.TemporaryDirectory(prefix="cri-session-") as folder:
        return enter("tests.integration.cri.session", "--build", arguments.build, "--inside", folder)


if __name__ == "__main__":
    sys.exit(main())
