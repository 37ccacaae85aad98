"""Fixtures of the scenarios: a cluster of one node and one of three for the session, a namespace and a leak check for
each test."""

import json
import os
import pathlib
import subprocess
import threading

import pytest

from tests.support import images, leaks
from tests.support.cluster import TOP, Cluster

KUBECTL_VERSIONS = ["1.20", "1.32", "1.36"]
# Each of the processes that share the scenarios has clusters of its own.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["SKIFF_CLUSTER"] = f"s{os.environ['PYTEST_XDIST_WORKER'][2:]}{os.environ.get('SKIFF_CLUSTER', 'cen')}"[:4]
MANIFESTS = pathlib.Path(__file__).with_name("manifests")


def running_cluster(suffix="", nodes=1, with_images=True, warm=False, before_join=lambda cluster, node: None, **up):
    """A cluster with the tests' images, for as long as somebody waits for the next value. suffix: tells it from the other
    clusters of this process; warm: for tests with a leak check; the rest: as Cluster.up."""
    made = Cluster(os.environ.get("SKIFF_CLUSTER", "scen")[:6 - len(suffix)] + suffix,
                   build=os.environ.get("SKIFF_BUILD", TOP / "build" / "dev"))
    made.down()
    try:
        made.up(nodes, before_join=lambda node: before_join(made, node), **up)
        if with_images:
            images.push(made.registry_endpoint)
        if warm:
            warm_up(made)
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def cluster():
    yield from running_cluster(warm=True)


@pytest.fixture(scope="session")
def cluster3():
    """Three nodes, and with them the overlay."""
    yield from running_cluster("t", 3, warm=True, agent_settings="overlay: {mode: vxlan}\n")


def warm_up(cluster):
    """A first pod on each node, so that what a node makes once (folders, chains) is there before the first leak check."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "warm"},
           "spec": {"restartPolicy": "Never",
                    "containers": [{"name": "warm", "image": f"{cluster.registry}/busybox:test", "command": ["true"]}]}}
    for node in cluster.nodes:
        pod["spec"]["nodeName"] = node.name
        cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/warm", "--timeout=60s")
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

    def wait_value(self, path, value, *what, timeout="60s"):
        """Until a field has the value; with the newest kubectl, as the oldest cannot wait for that."""
        return self.cluster.kubectl("-n", self.namespace, "wait", f"--for=jsonpath={path}={value}", f"--timeout={timeout}",
                                    *what)

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


def clean_namespace(cluster, request):
    """A namespace that must leave nothing behind on any node."""
    name = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower().replace("test_", "")).strip("-")
    name = name[:50].rstrip("-")
    before = [leaks.snapshot(cluster, node) for node in cluster.nodes]
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--timeout=90s")
    for node, held in zip(cluster.nodes, before):
        assert leaks.settled_difference(held, cluster, node) == []


@pytest.fixture
def namespace(cluster, request):
    yield from clean_namespace(cluster, request)


@pytest.fixture
def namespace3(cluster3, request):
    yield from clean_namespace(cluster3, request)


@pytest.fixture(params=KUBECTL_VERSIONS)
def kube(request, cluster, namespace):
    """Every kubectl."""
    return Kube(cluster, request.param, namespace)


@pytest.fixture
def kube_new(cluster, namespace):
    """The newest kubectl, for what does not depend on its version."""
    return Kube(cluster, KUBECTL_VERSIONS[-1], namespace)


def kube_on(request):
    """The kubectl and the cluster that the parameter names; the cluster is in the result."""
    version, nodes = request.param.split("-on-")
    suffix = "" if nodes == "1" else "3"
    cluster = request.getfixturevalue("cluster" + suffix)
    return Kube(cluster, version, request.getfixturevalue("namespace" + suffix))


@pytest.fixture(params=["1.20-on-1", "1.32-on-1", "1.36-on-3"])
def kube_anywhere(request):
    """Every kubectl, the newest on three nodes."""
    return kube_on(request)


@pytest.fixture(params=["1.20-on-1", "1.36-on-3"])
def kube_sizes(request):
    """One node and three, for what takes its time; the oldest kubectl and the newest."""
    return kube_on(request)


@pytest.fixture
def kube3(cluster3, namespace3):
    """The newest kubectl, on three nodes."""
    return Kube(cluster3, KUBECTL_VERSIONS[-1], namespace3)
