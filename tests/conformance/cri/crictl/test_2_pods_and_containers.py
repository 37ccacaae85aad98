"""A pod's life and a container's, as crictl shows them."""

import json

from tests.support.cri import container_config, pod_config
from tests.support.waiting import wait_for

LOOP = ["sh", "-c", "echo to stdout; echo to stderr >&2; echo last; trap 'exit 3' TERM; while :; do sleep 1000 & wait $!; done"]


def test_a_pod(crictl):
    assert crictl.shown("pods") == "POD ID CREATED STATE NAME NAMESPACE ATTEMPT RUNTIME"
    pod = crictl.pod("web", labels={"app": "x"}, annotations={"note": "y"})
    assert crictl("runp", crictl.folder / "web.json").strip() == pod, "asked again, the same answer"
    assert crictl.shown("pods").splitlines()[1] == "<web> <ago> Ready web default 0 (default)"
    assert crictl.shown("pods", "-v") == """\
ID: <web>
Name: web
UID: uid-web
Namespace: default
Status: Ready
Created: <time>
Labels:
app -> x
Annotations:
note -> y
Runtime: (default)"""
    status = crictl.json("inspectp", pod)
    address = status["status"]["network"]["ip"]
    assert status["status"]["linux"]["namespaces"]["options"] == {
        "ipc": "POD", "network": "POD", "pid": "POD", "targetId": ""}
    assert status["info"]["pid"] > 1 and address.startswith("10.")
    assert f"IP Addresses: {address}" in crictl("inspectp", "-o", "table", pod)
    other = crictl.pod("other", labels={"app": "z"})
    for filters, found in [(["--name", "^web$"], pod), (["--label", "app=z"], other), (["--id", pod[:12]], pod),
                           (["--latest"], other), (["-n", "1"], other), (["--state", "notready"], "")]:
        assert crictl("pods", "-q", *filters).strip() == found, filters
    assert crictl.refusal("rmp", pod) == 'pod sandbox "<web>" is running, please stop it first'
    assert crictl.shown("stopp", pod, other) == "Stopped sandbox <web>\nStopped sandbox <other>"
    assert crictl.shown("stopp", pod) == "Stopped sandbox <web>", "stopped is stopped"
    assert set(crictl("pods", "-q", "--state", "notready").split()) == {pod, other}
    assert crictl.shown("rmp", pod) == "Removed sandbox <web>"
    assert crictl.shown("rmp", "-a") == "Removed sandbox <other>"


def test_a_container(crictl, image_id):
    pod = crictl.pod("life")
    made = crictl.container(pod, "loop", LOOP, labels={"tier": "y"})
    again = crictl("create", pod, crictl.folder / "container-loop.json", crictl.folder / "life.json")
    assert again.strip() == made, "asked again, the same answer"
    header = "CONTAINER IMAGE CREATED STATE NAME ATTEMPT POD ID POD NAMESPACE"
    assert crictl.shown("ps") == header
    # crictl takes the pod's name from labels that kubelet sets.
    row = f"<loop> {crictl.busybox} <ago> Created loop 0 <life> unknown unknown"
    assert crictl.shown("ps", "-a") == f"{header}\n{row}"
    assert crictl.shown("start", made) == "<loop>"
    assert crictl.shown("start", made) == "<loop>"
    assert crictl.shown("ps") == f"{header}\n{row.replace('Created', 'Running')}"
    for filters in [["--name", "^loop$"], ["--label", "tier=y"], ["--image", crictl.busybox], ["--id", made[:9]],
                    ["-p", pod[:9]], ["--state", "running"], ["--latest"]]:
        assert crictl("ps", "-q", *filters).strip() == made, filters
    assert crictl("ps", "-q", "--name", "nosuch") == ""

    shown = crictl.json("inspect", made)
    status = shown["status"]
    assert status["state"] == "CONTAINER_RUNNING" and status["metadata"] == {"attempt": 0, "name": "loop"}
    assert status["image"]["userSpecifiedImage"] == crictl.busybox and status["imageId"] == image_id(crictl.busybox)
    assert status["logPath"] == f"{crictl.folder}/logs/life/loop/0.log" and status["labels"] == {"tier": "y"}
    assert status["user"]["linux"] == {"gid": "0", "supplementalGroups": ["0"], "uid": "0"}
    assert shown["info"]["sandboxID"] == pod and shown["info"]["pid"] > 1
    table = crictl.shown("inspect", "-o", "table", made)
    assert table.startswith("ID: <loop>\nName: loop\nState: CONTAINER_RUNNING\nCreated: <ago>\nStarted: <ago>")

    assert crictl.refusal("rm", made) == 'container "<loop>" is running, please stop it first'
    assert crictl.shown("stop", "-t", "10", made) == "<loop>"
    assert crictl.shown("stop", made) == "<loop>", "stopped is stopped"
    words = "{{.status.state}} {{.status.exitCode}} {{.status.reason}}"
    assert crictl("inspect", "-o", "go-template", "--template", words, made) == "CONTAINER_EXITED 3 Error\n"
    assert crictl("ps", "-aq", "--state", "exited").strip() == made
    assert crictl.shown("rm", made) == "<loop>"
    assert crictl.refusal("rm", made) == (
        'getting container status "<loop>": rpc error: code = NotFound desc = container "<loop>" not found')


def test_run(crictl):
    config = container_config(crictl.folder, "quick", crictl.busybox, ["sh", "-c", "exit 4"])
    made = crictl.id("quick", "run", config, pod_config(crictl.folder, "runner"))
    wait_for("its end", lambda: crictl("ps", "-aq", "--state", "exited").strip() == made)
    status = crictl.json("inspect", made)["status"]
    assert (status["exitCode"], status["reason"]) == (4, "Error")
    assert crictl.shown("rm", "-a") == "<quick>"
    assert '"PodSandboxConfig"' in crictl("run", "jsonschema", "--pod")
    assert crictl.shown("stop", "-a") == "No running containers found."


def test_logs(crictl):
    pod = crictl.pod("talks")
    own_pids = {"security_context": {"namespace_options": {"pid": 1}}}  # CONTAINER
    made = crictl.container(pod, "talker", LOOP, linux=own_pids)
    crictl("start", made)
    wait_for("the log", lambda: "last" in crictl("logs", made))
    logs = crictl.attempt("logs", made)
    assert (logs.stdout, logs.stderr) == ("to stdout\nlast\n", "to stderr\n")
    last = crictl.attempt("logs", "--tail", "1", made)
    assert last.stdout + last.stderr in ("last\n", "to stderr\n"), "two pipes have no order"
    assert crictl("logs", "--limit-bytes", "4", made) == "to s"
    assert crictl("logs", "--stream", "stderr", made) == ""
    assert crictl.shown("logs", "-t", "--stream", "stdout", made) == "<time> to stdout\n<time> last"
    assert crictl("logs", "--since", "1h", made) == "to stdout\nlast\n"
    assert crictl.refusal("logs", "-p", made) == "previous terminated container talker not found"
    log = crictl.folder / "logs" / "talks" / "talker" / "0.log"
    log.rename(log.with_suffix(".old"))
    assert "Container logs reopened" in crictl.attempt("logs", "-r", made).stderr and log.exists()
    with crictl.background("logs", "-f", made) as follow:
        crictl("exec", made, "sh", "-c", "echo added >/proc/1/fd/1")
        crictl("stop", made)
        assert follow.communicate(timeout=20)[0].strip() == "added", "follows to the container's end"


def test_update(crictl):
    pod = crictl.pod("sized")
    made = crictl.container(pod, "sleeper", ["sleep", "1000"])
    crictl("start", made)
    limits = {"cpu-share": 512, "cpu-quota": 20000, "cpu-period": 100000, "memory": 50_000_000}
    flags = [word for name, value in limits.items() for word in (f"--{name}", value)]
    assert crictl.shown("update", *flags, made) == "<sleeper>"
    linux = crictl.json("inspect", made)["status"]["resources"]["linux"]
    assert [linux[field] for field in ["cpuShares", "cpuQuota", "cpuPeriod", "memoryLimitInBytes"]] == [
        str(value) for value in limits.values()]
    held = crictl("exec", made, "sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes "
                                            "2>/dev/null || true").split()
    assert held == [str(50_000_000 // 4096 * 4096)]
    refused = "updating container resources for \"<sleeper>\": rpc error: code = InvalidArgument desc = "
    assert crictl.refusal("update", "--cpu-share", "-5", made) == (
        f"{refused}resources: CPU shares and period must not be negative")
    assert crictl.refusal("update", "--oom-score-adj", "5000", made) == (
        f"{refused}resources: oom_score_adj is outside of -1000 to 1000")
    assert crictl.refusal("update", "--cpuset-cpus", "9999", made).startswith(refused)


def test_stats(crictl):
    pod = crictl.pod("measured", labels={"app": "m"})
    made = crictl.container(pod, "burner", ["sh", "-c", "while :; do :; done"])
    crictl("start", made)
    head, row = crictl.shown("stats").splitlines()
    assert head == "CONTAINER NAME CPU % MEM DISK INODES SWAP" and row.startswith("<burner> burner ")
    assert float(row.split()[2]) > 1, "percent of a core over crictl's sample of a second"
    [stats] = crictl.json("stats", "-o", "json", "--id", made[:12])["stats"]
    assert stats["attributes"]["id"] == made and int(stats["memory"]["workingSetBytes"]["value"]) > 4096
    assert int(stats["cpu"]["usageCoreNanoSeconds"]["value"]) > 1e7
    assert stats["writableLayer"]["fsId"]["mountpoint"].startswith(f"{crictl.server.root}/images/")
    head, row = crictl.shown("statsp").splitlines()
    assert head == "POD POD ID CPU % MEM" and row.startswith("measured <measured> ")
    [stats] = crictl.json("statsp", "-o", "json", "--label", "app=m")["stats"]
    assert stats["linux"]["network"]["defaultInterface"]["name"] == "eth0"
    assert [c["attributes"]["id"] for c in stats["linux"]["containers"]] == [made]
    assert crictl.json("stats", "-o", "json", "--id", "0123456789ab")["stats"] == []


def test_events(crictl):
    with crictl.background("events") as events:
        decoder, buffer, seen = json.JSONDecoder(), "", []

        def next_event():
            nonlocal buffer
            while True:
                buffer = buffer.lstrip()
                try:
                    event, end = decoder.raw_decode(buffer)
                    buffer = buffer[end:]
                    return event
                except json.JSONDecodeError:
                    line = events.stdout.readline()
                    assert line, f"crictl events ended; {seen}"
                    buffer += line

        # Nothing says that crictl has begun to listen but an event: pods come and go until one is seen.
        warm = crictl.pod("overture")
        crictl("rmp", "-f", warm)
        pod = crictl.pod("watched")
        made = crictl.container(pod, "short", ["sh", "-c", "exit 7"])
        crictl("start", made)
        wait_for("its end", lambda: crictl("ps", "-aq", "--state", "exited").strip() == made)
        crictl("rmp", "-f", pod)
        while (seen[-1:] or [None]) != [(pod, "DELETED")]:
            event = next_event()
            if event["containerId"] in (pod, made):
                seen.append((event["containerId"], event["containerEventType"].split("_")[1]))
                if seen[-1] == (made, "STOPPED"):
                    assert event["containersStatuses"][0]["exitCode"] == 7
    kinds = ["CREATED", "STARTED", "STOPPED", "DELETED"]
    assert [kind for subject, kind in seen if subject == made] == kinds
    assert [kind for subject, kind in seen if subject == pod] == kinds
