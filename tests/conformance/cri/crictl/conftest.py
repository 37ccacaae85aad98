"""crictl's session: one CRI server for all of these tests, in the namespaces that __main__.py makes.

    python3 -m tests.conformance.cri --build DIR crictl
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest

from tests.images import build as image_build
from tests.support.cri import CRICTL, TOP, CriServer, Registry, container_config, pod_config, run

PORT = 5003
# What differs from run to run, and what stands for it in what a test expects.
TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( \+0000 UTC|Z)"
AGO = r"(Less than a second|\d+ seconds?|About a minute|\d+ minutes) ago"


class Crictl:
    """crictl against the server; remembers which subcommands ran."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.used = set()
        self.names = {}  # id: what stands for it

    def attempt(self, *argv, **options):
        self.used.add(argv[0])
        return self.server.crictl(*argv, check=False, **options)

    def __call__(self, *argv, **options):
        """Its standard output; it must succeed."""
        result = self.attempt(*argv, **options)
        assert result.returncode == 0, f"crictl {shlex.join(map(str, argv))}: {result.stderr}"
        return result.stdout

    @contextlib.contextmanager
    def background(self, *argv):
        """crictl as a process that runs while the block does; its errors are in its output."""
        self.used.add(argv[0])
        with subprocess.Popen(self.server.crictl_command(*argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def id(self, name, *argv):
        """Runs what prints an id, which is NAME from here on."""
        made = self(*argv).strip()
        assert re.fullmatch("[0-9a-f]{64}", made), made
        self.names[made] = name
        return made

    def json(self, *argv):
        return json.loads(self(*argv))

    def shown(self, *argv):
        """Its output, with what differs from run to run replaced and runs of spaces made one."""
        return self.normal(self(*argv))

    def normal(self, text):
        for real, name in self.names.items():
            text = text.replace(real, f"<{name}>").replace(real[:13], f"<{name}>")
        text = re.sub(TIME, "<time>", text)
        text = re.sub(AGO, "<ago>", text)
        text = text.replace("\x1b[2J\x1b[H", "").replace(str(self.folder), "<folder>")
        return "\n".join(re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines())

    def refusal(self, *argv, code=1):
        """What it says when it fails, as it must."""
        result = self.attempt(*argv)
        assert result.returncode == code, (argv, result)
        fatal = re.search(r'level=fatal msg="((?:[^"\\]|\\.)*)"', result.stderr)
        said = json.loads(f'"{fatal[1]}"') if fatal else result.stderr.splitlines()[-1]
        return self.normal(said)

    def pod(self, name, **config):
        """A pod sandbox that runs; its id. Its configuration is the file NAME.json."""
        return self.id(name, "runp", pod_config(self.folder, name, **config))

    def container(self, pod, name, command, image=None, **config):
        """A container that is created."""
        pod_file = self.folder / f"{self.names[pod]}.json"
        return self.id(name, "create", pod, container_config(
            self.folder, name, image or self.busybox, command, **config), pod_file)


@pytest.fixture(scope="session")
def crictl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crictl")
    registry = Registry(folder, PORT)
    client = image_build.Registry(registry.address)
    for name, recipe in image_build.IMAGES.items():
        client.push(name, image_build.build(name, recipe, {}))
    build = pathlib.Path(os.environ.get("SKIFF_BUILD", TOP / "build" / "release")).resolve()
    server = CriServer(build, folder / "skiff", log=folder / "server.log")
    server.start()
    session = Crictl(server, folder)
    session.busybox, session.nginx = f"{registry.address}/busybox:test", f"{registry.address}/nginx:test"
    try:
        session("pull", session.busybox)
        session("pull", session.nginx)
        session("rmp", "-f", session.pod("warm"))  # the bridge stays when the last pod goes
        yield session
    finally:
        server.remove_all()
        registry.stop()


@pytest.fixture(autouse=True)
def nothing_left(crictl):
    """Every test removes its pods with crictl, and then the machine holds what it held before."""
    before = crictl.server.holdings()
    yield
    crictl("rmp", "-a", "-f")
    assert crictl.server.leaked(before) == []


@pytest.fixture
def image_id(crictl):
    return lambda name: crictl.json("inspecti", name)["status"]["id"]


@pytest.fixture
def with_config(tmp_path):
    """crictl with a configuration file of its own."""

    def call(*argv, check=True):
        config = tmp_path / "crictl.yaml"
        if not config.exists():
            config.write_text("timeout: 10\n")
        return run(CRICTL, "--config", config, *argv, check=check)

    return call
