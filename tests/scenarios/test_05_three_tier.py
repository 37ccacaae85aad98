"""Scenario 5: a Flask application that counts in Redis, behind Nginx; a folder of manifests from apply to delete."""

import os
import pathlib

from tests.scenarios.conftest import MANIFESTS

DEPLOYMENTS = ["redis", "flaskapp", "nginx"]


def written_folder(kube, folder):
    """The manifests with this cluster's registry in them."""
    for manifest in (MANIFESTS / "three-tier").iterdir():
        text = manifest.read_text().replace("{registry}", kube.cluster.registry)
        (folder / manifest.name).write_text(text)
    return str(folder)


def visits(kube, urls, count):
    """What `count` visits through each of the URLs answer: [count, pod's address, pod's name]."""
    script = f"for url in {' '.join(urls)}; do for i in $(seq {count}); do curl -fsS --max-time 5 $url || exit 1; done; done"
    answers = kube.cluster.control_plane.run("sh", "-c", script).stdout.splitlines()
    return [answer.split() for answer in answers]


def test_three_tiers(kube_sizes, tmp_path):
    kube = kube_sizes
    folder = written_folder(kube, tmp_path)
    kube("apply", "-f", folder)
    for name in DEPLOYMENTS:
        kube("rollout", "status", f"deployment/{name}", "--timeout=90s")
    port = kube.jsonpath("{.spec.ports[0].nodePort}", "service", "nginx")
    urls = [f"http://{node.address}:{port}/" for node in kube.cluster.nodes]

    # By every node's port the one counter rises; the names of the tiers are known to each other by DNS.
    answers = visits(kube, urls, 3)
    assert [int(answer[0]) for answer in answers] == list(range(1, 3 * len(urls) + 1))
    assert len({answer[1] for answer in answers}) == 1

    # The mounted file is one of those that the image has in that folder.
    nginx = kube.jsonpath("{.items[0].metadata.name}", "pods", "-l", "app=nginx")
    assert "mime.types" in kube.out("exec", nginx, "--", "ls", "/etc/nginx")
    assert "proxy_pass" in kube.out("exec", nginx, "--", "cat", "/etc/nginx/nginx.conf")

    # kubectl apply of what is there changes nothing.
    again = kube.out("apply", "-f", folder).splitlines()
    assert len(again) == 8 and all(line.endswith("unchanged") for line in again), again

    edit_to_three(kube, tmp_path)
    pods = set(kube.jsonpath("{.items[*].status.podIP}", "pods", "-l", "app=flaskapp").split())
    answers = []
    while {answer[1] for answer in answers} != pods and len(answers) < 500:
        answers += visits(kube, urls, 30 // len(urls))
    assert len(pods) == 3 and {answer[1] for answer in answers} == pods
    assert len({answer[0] for answer in answers}) == len(answers), "each visit counts once"

    kube("delete", "-f", folder, "--timeout=60s")
    kube.wait_gone("pod", "--all")
    assert kube.out("get", "deployments,services,pods", "-o", "name") == ""


def edit_to_three(kube, folder):
    """As a user does, in an editor."""
    editor = pathlib.Path(folder) / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/^  replicas: 1$/  replicas: 3/' \"$1\"\n")
    editor.chmod(0o755)
    edited = kube.out("edit", "deployment", "flaskapp", env={**os.environ, "EDITOR": str(editor)})
    assert edited.endswith("edited"), edited
    kube("rollout", "status", "deployment/flaskapp", "--timeout=60s")
