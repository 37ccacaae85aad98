"""What crictl gets for wrong input: the code, the words, the exit code."""

import pytest

from tests.support.cri import container_config, pod_config

CONTAINER = 'rpc error: code = NotFound desc = container "nosuch" not found'
POD = 'rpc error: code = NotFound desc = pod sandbox "nosuch" not found'


@pytest.mark.parametrize("argv, said", [
    (["inspect"], f"get the status of containers: get container status: {CONTAINER}"),
    (["start"], f'starting the container "nosuch": {CONTAINER}'),
    (["rm"], f'getting container status "nosuch": {CONTAINER}'),
    (["logs"], CONTAINER),
    (["update", "--memory", "1000000"], f'updating container resources for "nosuch": {CONTAINER}'),
    (["attach"], f"attaching running container failed: {CONTAINER}"),
    (["inspectp"], f"get the status of pod sandboxes: get pod sandbox status: {POD}"),
    (["rmp"], f'getting sandbox status of pod "nosuch": {POD}'),
    (["rmi"], "no such image nosuch"),
])
def test_unknown_id(crictl, argv, said):
    assert crictl.refusal(*argv, "nosuch") == said


def test_unknown_id_with_more_words(crictl):
    crictl.pod("real")
    assert crictl.refusal("exec", "nosuch", "true") == f"execing command in container nosuch: {CONTAINER}"
    assert crictl.refusal("exec", "-s", "nosuch", "true") == f"execing command in container nosuch synchronously: {CONTAINER}"
    assert crictl.refusal("port-forward", "nosuch", "1:1") == f"port forward: {POD}"
    container = container_config(crictl.folder, "x", crictl.busybox)
    assert crictl.refusal("create", "nosuch", container, crictl.folder / "real.json") == f"creating container: {POD}"
    assert crictl.shown("stop", "nosuch") == "nosuch", "what is gone is stopped"
    assert crictl.shown("stopp", "nosuch") == "Stopped sandbox nosuch"


def test_ambiguous_prefix(crictl):
    pod = crictl.pod("crowd")
    first = {}
    while True:
        made = crictl.container(pod, f"c{len(first)}", ["true"])
        if made[0] in first:
            break
        first[made[0]] = made
    for argv in [["inspect"], ["start"], ["stop"], ["rm"], ["logs"]]:
        said = crictl.refusal(*argv, made[0])
        assert "code = InvalidArgument" in said and f'container id prefix "{made[0]}" is ambiguous' in said, said
    shared = next(i for i in range(64) if made[i] != first[made[0]][i])
    assert crictl.json("inspect", made[:shared + 1])["status"]["id"] == made


def test_wrong_state(crictl):
    pod = crictl.pod("ended")
    made = crictl.container(pod, "done", ["true"])
    assert crictl.refusal("exec", "-s", made, "true").endswith("code = FailedPrecondition desc = container <done> is not running")
    crictl("start", made)
    crictl("stop", made)
    why = "rpc error: code = FailedPrecondition desc = container <done> "
    assert crictl.refusal("start", made) == f'starting the container "<done>": {why}has exited'
    assert crictl.refusal("exec", made, "true") == f"execing command in container <done>: {why}is not running"
    assert crictl.refusal("update", "--memory", "50000000", made).endswith(f"{why}has exited")
    assert crictl.refusal("logs", "-r", made) == f"reopen container logs: {why}is not running"
    assert crictl.refusal("checkpoint", "--export", crictl.folder / "x.tar", made).endswith(
        "code = Unimplemented desc = checkpointing needs criu, which this runtime does not use")
    crictl("stopp", pod)
    container = container_config(crictl.folder, "late", crictl.busybox)
    stopped = "rpc error: code = FailedPrecondition desc = pod sandbox <ended> is not ready"
    assert crictl.refusal("create", pod, container, crictl.folder / "ended.json") == f"creating container: {stopped}"
    assert crictl.refusal("port-forward", pod, "1:1") == f"port forward: {stopped}"


def test_wrong_configuration(crictl):
    pod = crictl.pod("host")
    file = crictl.folder / "host.json"
    create = ["create", pod]
    absent = container_config(crictl.folder, "absent", "nosuch:1")
    assert crictl.refusal(*create, absent, file) == (
        'creating container: rpc error: code = NotFound desc = no image "nosuch:1" on this node')
    for name, config, said in [
        ("mount", {"mounts": [{"host_path": "relative", "container_path": "/x"}]}, "relative"),
        ("score", {"linux": {"resources": {"oom_score_adj": 2000}}}, "oom_score_adj"),
        ("capability", {"linux": {"security_context": {"capabilities": {"add_capabilities": ["NOSUCH"]}}}}, "NOSUCH"),
    ]:
        refused = crictl.refusal(*create, container_config(crictl.folder, name, crictl.busybox, **config), file)
        assert "code = InvalidArgument" in refused and said in refused, refused
    assert crictl.refusal(*create, "/nonexistent.json", file) == "creating container: config at /nonexistent.json not found"
    assert crictl.refusal("runp", "-r", "nosuch", pod_config(crictl.folder, "h")) == (
        'run pod sandbox: rpc error: code = NotFound desc = no runtime handler named "nosuch"')
    bad = pod_config(crictl.folder, "bad", linux={"cgroup_parent": "not-absolute"})
    assert "code = InvalidArgument" in crictl.refusal("runp", bad)
    assert "code = InvalidArgument" in crictl.refusal("runp", pod_config(crictl.folder, "long", hostname="x" * 64))
    bad.write_text('{"metadata": {}}')
    assert "name or namespace is not in metadata" in crictl.refusal("runp", bad)
    bad.write_text("{nonsense")
    assert "error converting YAML to JSON" in crictl.refusal("runp", bad)
    other = pod_config(crictl.folder, "host", labels={"another": "content"})
    assert "code = AlreadyExists" in crictl.refusal("runp", other)


def test_wrong_flags(crictl):
    assert crictl.refusal("ps", "--state", "nosuch").endswith("--state should be one of created, running, exited or unknown")
    assert crictl.attempt("ps", "--nosuchflag").stdout.startswith("Incorrect Usage: flag provided but not defined")
    for command in ["inspect", "start", "stopp", "rm", "rmp", "logs"]:
        assert crictl.attempt(command).stdout + crictl.attempt(command).stderr != ""
    assert crictl.refusal("checkpoint", "x").startswith("cannot checkpoint a container without specifying")


def test_no_server(crictl):
    gone = ["-r", "unix:///nonexistent.sock", "-i", "unix:///nonexistent.sock", "--timeout", "1s"]
    result = crictl.server.crictl(*gone, "version", check=False)
    assert result.returncode == 1 and "validate service connection" in result.stderr
