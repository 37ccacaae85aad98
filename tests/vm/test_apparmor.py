"""AppArmor on a node whose kernel has it: which profile containers run under, with each way to ask for one."""

import json

import pytest

from tests.support.waiting import settled

ANNOTATION = "container.apparmor.security.beta.kubernetes.io/c"
DEFAULT = "skiff-default (enforce)"
LOADED = "tests-no-writes"
PROFILE = f"profile {LOADED} flags=(attach_disconnected) {{ file, network, capability, signal, deny /tmp/** w, }}"
HANDLERS = {"crun": "/usr/bin/crun", "runc": "/usr/sbin/runc"}
LOCALHOST = {"type": "Localhost", "localhostProfile": LOADED}

# name: (what the container says of itself, the pod's profile, its annotation), and what it must run under.
PODS = {
    "nothing": (({}, None, None), DEFAULT),
    "privileged": (({"privileged": True}, None, None), "unconfined"),
    "default": (({"appArmorProfile": {"type": "RuntimeDefault"}}, None, None), DEFAULT),
    "unconfined": (({"appArmorProfile": {"type": "Unconfined"}}, None, None), "unconfined"),
    "localhost": (({"appArmorProfile": LOCALHOST}, None, None), f"{LOADED} (enforce)"),
    "of-the-pod": (({}, LOCALHOST, None), f"{LOADED} (enforce)"),
    "own-over-pods": (({"appArmorProfile": {"type": "RuntimeDefault"}}, LOCALHOST, None), DEFAULT),
    "annotated": (({}, None, f"localhost/{LOADED}"), f"{LOADED} (enforce)"),
    "annotated-unconfined": (({}, None, "unconfined"), "unconfined"),
    "strong": (({"capabilities": {"add": ["SYS_ADMIN"]}, "seccompProfile": {"type": "Unconfined"}}, None, None), DEFAULT),
}


def pod(name, registry, context=None, shared=None, annotation=None, **spec):
    security = {"appArmorProfile": shared} if shared else {}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "annotations": {ANNOTATION: annotation} if annotation else {}},
            "spec": {"terminationGracePeriodSeconds": 0, "securityContext": security, **spec, "containers": [
                {"name": "c", "image": f"{registry}/busybox:test", "command": ["sleep", "1000000"],
                 "securityContext": context or {}}]}}


def apply(node, *objects):
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    node.kubectl(f"apply -f - <<'END'\n{document}\nEND")


def wait_ready(node, pods):
    node.kubectl(f"wait --for=condition=Ready --timeout=240s {' '.join(f'pod/{name}' for name in pods)}")


def profiles(node, name):
    """Of the container's first program, and of one that exec starts."""
    return node.kubectl(f"exec {name} -- cat /proc/1/attr/current /proc/self/attr/current").stdout.splitlines()


@pytest.fixture(scope="module")
def pods(node, registry):
    node.ssh(f"apparmor_parser -r <<'END'\n{PROFILE}\nEND")
    apply(node, *(pod(name, registry, *words) for name, (words, _) in PODS.items()))
    wait_ready(node, PODS)
    return node


def test_each_runs_under_what_it_asks_for(pods):
    """And so does what is executed in it."""
    assert {name: profiles(pods, name) for name in PODS} == {name: [under] * 2 for name, (_, under) in PODS.items()}


def test_annotations_and_fields_say_the_same(pods):
    """Who reads a pod finds either."""
    told = json.loads(pods.kubectl("get pod localhost annotated -o json").stdout)["items"]
    for seen in told:
        assert seen["metadata"]["annotations"][ANNOTATION] == f"localhost/{LOADED}"
        assert seen["spec"]["containers"][0]["securityContext"]["appArmorProfile"] == LOCALHOST
    wrong = json.dumps(pod("wrong", "registry.test", annotation="mine"))
    refused = pods.kubectl(f"apply -f - <<'END'\n{wrong}\nEND", check=False)
    assert refused.returncode != 0 and 'invalid AppArmor profile name: "mine"' in refused.stderr


def test_profiles_are_in_force(pods):
    """The one that was loaded; and the default: no mounts, whatever the capabilities, and no reaching into the node."""
    denied = pods.kubectl("exec localhost -- touch /tmp/x", check=False)
    assert "Permission denied" in denied.stderr
    pods.kubectl("exec nothing -- touch /tmp/x")
    for command in ["mount -t tmpfs none /tmp", "sh -c 'echo 1 > /proc/sys/vm/swappiness'"]:
        denied = pods.kubectl(f"exec strong -- {command}", check=False)
        assert denied.returncode != 0 and ("denied" in denied.stderr or "Read-only" in denied.stderr), (command, denied)
    # What a container does to itself goes on: its processes signal each other and look at each other.
    script = "sleep 1000 & kill $!; wait $!; echo $?; readlink /proc/1/exe"
    assert pods.kubectl(f"exec nothing -- sh -c '{script}'").stdout.split() == ["143", "/usr/bin/busybox"]


def test_a_profile_that_is_not_loaded_is_named(pods, registry):
    """In the pod's status; once it is loaded, the pod runs."""
    profile = {"type": "Localhost", "localhostProfile": "tests-late"}
    apply(pods, pod("late", registry, {"appArmorProfile": profile}))
    waiting = "get pod late -o jsonpath='{.status.containerStatuses[0].state.waiting}'"
    seen = settled(lambda: pods.kubectl(waiting).stdout, lambda text: "tests-late" in text, 60)
    assert "CreateContainerError" in seen and "is not loaded on this node" in seen, seen
    pods.ssh(f"apparmor_parser -r <<'END'\n{PROFILE.replace(LOADED, 'tests-late')}\nEND")
    wait_ready(pods, ["late"])
    assert profiles(pods, "late") == ["tests-late (enforce)"] * 2


def test_a_default_that_was_removed_comes_back(pods, registry):
    """As aa-remove-unknown does: it knows the profiles of files alone."""
    pods.kubectl("delete pod nothing default own-over-pods strong --wait=true --timeout=120s")
    pods.ssh("printf skiff-default >/sys/kernel/security/apparmor/.remove")
    apply(pods, pod("again", registry))
    wait_ready(pods, ["again"])
    assert profiles(pods, "again") == [DEFAULT] * 2


def test_containers_of_other_runtimes(pods, registry):
    lines = "".join(f"  - name: {name}\\n    path: {path}\\n" for name, path in HANDLERS.items())
    pods.ssh(f"printf 'runtimeHandlers:\\n{lines}' >>/etc/skiff/agent.yaml && systemctl restart skiff-agent")
    for name in HANDLERS:
        apply(pods, {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name},
              pod(name, registry, runtimeClassName=name),
              pod(f"{name}-localhost", registry, {"appArmorProfile": LOCALHOST}, runtimeClassName=name))
    wait_ready(pods, [name + suffix for name in HANDLERS for suffix in ("", "-localhost")])
    for name in HANDLERS:
        assert profiles(pods, name) == [DEFAULT] * 2
        assert profiles(pods, f"{name}-localhost") == [f"{LOADED} (enforce)"] * 2
