"""Scenario 22, without a registry: images come onto a node as archives."""

import json
import subprocess

import pytest

from tests.support.cluster import TOP

LAYOUT = TOP / "build" / "images" / "nginx-test"
NAME = "import.test/site:1"


@pytest.fixture
def skiff_image(cluster):
    """`skiff image ...` on the node; what the test imported is removed afterwards."""
    node = cluster.nodes[0]

    def run(*argv, **options):
        return node.run(cluster.binary("skiff"), "image", *argv, **options)

    yield run
    cluster.crictl(node, "rmi", NAME, check=False)


@pytest.fixture
def archive(cluster, tmp_path):
    """The layout as users pack one, with its name in the index."""
    folder = tmp_path / "layout"
    subprocess.run(["cp", "-r", LAYOUT, folder], check=True)
    index = json.loads((folder / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": NAME}
    (folder / "index.json").write_text(json.dumps(index))
    path = tmp_path / "site.tar"
    cluster.nodes[0].run("tar", "-C", folder, "-cf", path, ".")
    return path


def test_a_pod_runs_from_an_imported_image(kube_new, cluster, skiff_image, archive):
    assert NAME in skiff_image("import", archive).stdout
    assert NAME in skiff_image("list").stdout
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "site"},
           "spec": {"terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "web", "image": NAME, "imagePullPolicy": "Never"}]}}
    kube_new("apply", "-f", "-", input=json.dumps(pod))
    kube_new.wait("condition=Ready", "pod/site")
    address = kube_new.jsonpath("{.status.podIP}", "pod/site")
    assert "served by nginx" in cluster.nodes[0].run("curl", "-fsS", f"http://{address}/").stdout
    kube_new("delete", "pod", "site")


def test_from_a_pipe_with_a_name(cluster, skiff_image):
    node = cluster.nodes[0]
    program = cluster.binary("skiff")
    node.run("sh", "-c", f"tar -C {LAYOUT} -czf - . | {program} image import --name {NAME} -")
    listed = json.loads(cluster.crictl(node, "images", "-o", "json").stdout)["images"]
    assert [NAME] in [image["repoTags"] for image in listed]


def test_the_errors_say_what_to_do(cluster, skiff_image, tmp_path):
    def error(*argv):
        result = skiff_image(*argv, check=False)
        assert result.returncode == 1
        return result.stderr

    text = tmp_path / "notes.txt"
    text.write_text("no archive" * 1000)
    assert "notes.txt: not a whole tar archive" in error("import", text)
    empty = tmp_path / "empty.tar"
    cluster.nodes[0].run("tar", "-cf", empty, "-T", "/dev/null")
    assert "neither an OCI layout" in error("import", empty)
    assert "is a directory; import it with `tar" in error("import", LAYOUT)
    assert "systemctl start skiff-agent" in error("list", "--socket", "unix:///run/skiff/none.sock")
    # Another user is not let in.
    result = cluster.nodes[0].run("setpriv", "--reuid=65534", "--clear-groups", cluster.binary("skiff"), "image",
                                  "list", check=False)
    assert result.returncode == 1 and "run this as root" in result.stderr
