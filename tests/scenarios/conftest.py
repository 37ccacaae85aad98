"""Fixtures of the scenarios: one cluster for the session, a namespace and a leak check for each test."""

import os
import pathlib
import subprocess
import threading

import pytest

from tests.support import images, leaks
from tests.support.cluster import TOP, Cluster

KUBECTL_VERSIONS = ["1.20", "1.32", "1.36"]
MANIFESTS = pathlib.Path(__file__).with_name("manifests")


@pytest.fixture(scope="session")
def cluster():
    made = Cluster(os.environ.get("SKIFF_CLUSTER", "scen"), build=os.environ.get("SKIFF_BUILD", TOP / "build" / "dev"))
    made.down()
    try:
        made.up()
        images.push(made.registry)
        warm_up(made)
        yield made
    finally:
        made.down()


def warm_up(cluster):
    """A first pod, so that what the node makes once (folders, chains) is there before the first leak check."""
    image = f"--image={cluster.registry}/busybox:test"
    cluster.kubectl("run", "warm", image, "--restart=Never", "--", "true")
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/warm", "--timeout=60s")
    node = cluster.nodes[0]
    uid = cluster.kubectl("get", "pod", "warm", "-o", "jsonpath={.metadata.uid}").stdout
    marks = [uid, *cluster.crictl(node, "pods", "-q").stdout.split()]
    cluster.kubectl("delete", "pod", "warm", "--timeout=60s")
    leaks.wait_gone(marks, cluster, node)


class Kube:
    """kubectl of one version in one namespace."""

    def __init__(self, cluster, version, namespace):
        self.cluster, self.version, self.namespace = cluster, version, namespace

    def __call__(self, *argv, check=True, **options):
        return self.cluster.kubectl("-n", self.namespace, *argv, version=self.version, check=check, **options)

    def out(self, *argv, **options):
        return self(*argv, **options).stdout.strip()

    def apply(self, manifest, **values):
        """Applies manifests/MANIFEST with {name}s replaced."""
        text = (MANIFESTS / manifest).read_text()
        for name, value in {"registry": self.cluster.registry, **values}.items():
            text = text.replace("{" + name + "}", str(value))
        return self("apply", "-f", "-", input=text)

    def wait(self, condition, *what, timeout="60s"):
        return self("wait", f"--for={condition}", f"--timeout={timeout}", *what)

    def wait_gone(self, *what):
        """Waits until there is none; old kubectls call it an error when there is none from the start."""
        result = self("wait", "--for=delete", "--timeout=60s", *what, check=False)
        assert result.returncode == 0 or "no matching resources found" in result.stderr, result.stderr

    def read_until(self, marker, *argv, seconds=30, on_line=None):
        """What a command that runs on prints, up to the line with the marker; it is then ended.

        on_line: {text: command}, run once when a line with the text shows up.
        """
        on_line = dict(on_line or {})
        command = self.cluster.kubectl_command("-n", self.namespace, *argv, version=self.version)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            seen = []
            for line in process.stdout:
                seen.append(line)
                for text in [text for text in on_line if text in line]:
                    subprocess.run(on_line.pop(text), check=True, capture_output=True)
                if marker in line:
                    break
            timer.cancel()
            process.kill()
        return "".join(seen)

    def jsonpath(self, path, *what):
        return self.out("get", *what, "-o", f"jsonpath={path}")


@pytest.fixture
def namespace(cluster, request):
    """A namespace that must leave nothing behind on the node."""
    name = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower().replace("test_", "")).strip("-")
    name = name[:50].rstrip("-")
    node = cluster.nodes[0]
    before = leaks.snapshot(cluster, node)
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--timeout=90s")
    assert leaks.settled_difference(before, cluster, node) == []


@pytest.fixture(params=KUBECTL_VERSIONS)
def kube(request, cluster, namespace):
    """Every kubectl."""
    return Kube(cluster, request.param, namespace)


@pytest.fixture
def kube_new(cluster, namespace):
    """The newest kubectl, for what does not depend on its version."""
    return Kube(cluster, KUBECTL_VERSIONS[-1], namespace)
