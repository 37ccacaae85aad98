"""What a pod's life needs of its runtime, asked by an upstream kubelet: static pods from a folder, no API server.

The tests build on each other: the pods of the first live through the restarts of kubelet and runtime in the middle, and
the last one takes them all away and looks for what is left.
"""

import json
import pathlib
import re

import pytest

from tests.conformance.cri.kubelet.node import ADDRESS, container_status, is_ready
from tests.conformance.cri.kubelet.websocket import STDERR, STDIN, STDOUT
from tests.support.cri import CGROUPS, run
from tests.support.waiting import wait_for

SERVE = """
trap 'echo bye > /state/bye; exit 0' TERM
echo "$GREETING from $POD_NAME at $POD_IP"
mkdir -p /state/www && cat /state/greeting > /state/www/index.html
httpd -f -p 8080 -h /state/www &
wait
"""


def of(kubelet, image, command, **more):
    return {"image": getattr(kubelet, image), "command": ["sh", "-c", command], **more}


def field(name, path):
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.fixture(scope="session")
def before(kubelet):
    """What the machine held before the first pod."""
    return kubelet.runtime.holdings()


def test_a_pod_with_init_container_probes_and_limits(kubelet, before):
    state = kubelet.folder / "state"
    state.mkdir()
    web = of(kubelet, "busybox", SERVE, name="app",
             env=[{"name": "GREETING", "value": "hello"}, field("POD_NAME", "metadata.name"), field("POD_IP", "status.podIP")],
             ports=[{"containerPort": 8080, "hostPort": 18080}],
             resources={"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
             startupProbe={"exec": {"command": ["test", "-e", "/state/www/index.html"]}, "periodSeconds": 1},
             livenessProbe={"exec": {"command": ["wget", "-qO-", "http://127.0.0.1:8080/"]}, "periodSeconds": 1},
             readinessProbe={"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
             lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo stopping > /state/hook"]}}},
             volumeMounts=[{"name": "state", "mountPath": "/state"}, {"name": "scratch", "mountPath": "/scratch"}])
    prepare = of(kubelet, "busybox", "echo prepared > /state/greeting; cat /etc/hostname; echo done > /dev/termination-log",
                 name="prepare", volumeMounts=[{"name": "state", "mountPath": "/state"}])
    kubelet.apply("web", {"initContainers": [prepare], "containers": [web], "terminationGracePeriodSeconds": 10,
                          "volumes": [{"name": "state", "hostPath": {"path": str(state)}},
                                      {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]})
    wait_for("the pod to be ready", lambda: is_ready(kubelet.pod("web")), 60)
    pod = kubelet.pod("web")
    prepared = container_status(pod, "prepare")["state"]["terminated"]
    assert (prepared["exitCode"], prepared["reason"], prepared["message"]) == (0, "Completed", "done\n"), prepared
    address = pod["status"]["podIP"]
    assert address.startswith("10.89.0."), pod["status"]
    for url in [f"http://{address}:8080/", f"http://{ADDRESS}:18080/"]:
        assert run("curl", "-s", url).stdout == "prepared\n"
    uid = pod["metadata"]["uid"]
    logs = pathlib.Path(f"/var/log/pods/default_web-node1_{uid}")
    [line] = (logs / "app" / "0.log").read_text().splitlines()
    assert re.fullmatch(rf"\S+Z stdout F hello from web-node1 at {address}", line), line
    assert (logs / "prepare" / "0.log").read_text().endswith(" stdout F web-node1\n")
    assert kubelet.logs("web", "app") == f"hello from web-node1 at {address}\n"
    assert [path.name for path in pathlib.Path("/var/log/containers").glob("web-node1_default_app-*")]


def inside(kubelet, pod, container, *argv):
    command = kubelet.command(pod, container, argv)
    status = command.finish()
    assert status["status"] == "Success", (status, command.output)
    return command.output[STDOUT].decode()


def test_limits_are_in_the_kernel(kubelet):
    uid = kubelet.pod("web")["metadata"]["uid"]
    slices = [path for path in CGROUPS.glob(f"**/{kubelet.runtime.cgroup}/kubepods/burstable/pod{uid}") if path.is_dir()]
    assert slices, "the pod's cgroup is below the kubelet's"
    limit = inside(kubelet, "web", "app", "sh", "-c",
                   "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max")
    assert int(limit) == 64 << 20
    quota = inside(kubelet, "web", "app", "sh", "-c",
                   "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max")
    assert int(quota) == 50000
    assert "size=1024k" in inside(kubelet, "web", "app", "grep", " /scratch ", "/proc/mounts")


def test_exec_through_the_kubelet(kubelet):
    command = kubelet.command("web", "app", ["sh", "-c", "tr a-z A-Z; echo aside >&2; exit 3"], stdin=True)
    text = b"line\n" * 10_000
    for at in range(0, len(text), 30_000):
        command.send(STDIN, text[at:at + 30_000])
    command.end_input()
    status = command.finish()
    assert status["reason"] == "NonZeroExitCode" and status["details"]["causes"][0]["message"] == "3", status
    assert (command.output[STDOUT], command.output[STDERR]) == (text.upper(), b"aside\n")
    terminal = kubelet.command("web", "app", ["tty"], tty=True)
    assert terminal.finish()["status"] == "Success" and terminal.output[STDOUT] == b"/dev/pts/0\r\n"


def test_restarts_after_an_exit_and_after_a_failed_probe(kubelet):
    kubelet.apply("again", {"containers": [
        of(kubelet, "busybox", "echo run; sleep 1; exit 3", name="exits"),
        of(kubelet, "busybox", "trap 'exit 0' TERM; sleep 1000 & wait", name="ails",
           livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1})]})
    wait_for("both to have been restarted", lambda: all(
        container_status(kubelet.pod("again"), name).get("restartCount", 0) >= 1 for name in ["exits", "ails"]), 60)
    pod = kubelet.pod("again")
    last = {name: container_status(pod, name)["lastState"]["terminated"] for name in ["exits", "ails"]}
    assert (last["exits"]["exitCode"], last["exits"]["reason"]) == (3, "Error"), last
    assert last["ails"]["exitCode"] == 0, last
    assert kubelet.logs("again", "exits", previous="true") == "run\n"
    uid = pod["metadata"]["uid"]
    assert sorted(path.name for path in pathlib.Path(f"/var/log/pods/default_again-node1_{uid}/exits").iterdir())[-1] != "0.log"


def test_kubelet_rotates_logs_and_nothing_is_lost(kubelet):
    count = 200_000
    kubelet.apply("loud", {"restartPolicy": "Never", "containers": [
        of(kubelet, "busybox", f"seq 1 {count // 2}; sleep 8; seq {count // 2 + 1} {count}", name="app")]})
    wait_for("its end", lambda: (kubelet.pod("loud") or {}).get("status", {}).get("phase") == "Succeeded", 120)
    folder = pathlib.Path(f"/var/log/pods/default_loud-node1_{kubelet.pod('loud')['metadata']['uid']}/app")
    rotated = sorted(path for path in folder.iterdir() if path.name != "0.log")
    assert rotated, "the kubelet has rotated the log while it was written"
    text = "".join(run("zcat", "-f", path).stdout for path in [*rotated, folder / "0.log"])
    assert [int(line.rsplit(" ", 1)[1]) for line in text.splitlines()] == list(range(1, count + 1))


def test_a_pod_with_a_user_namespace(kubelet):
    script = ("id -u; cut -c1-100 /proc/self/uid_map; echo mine > /data/file; stat -c %u:%g /data/file; "
              "trap 'exit 5' TERM; sleep 1000 & wait")
    kubelet.apply("mapped", {"hostUsers": False, "terminationGracePeriodSeconds": 1, "volumes": [
        {"name": "data", "emptyDir": {}}], "containers": [
            of(kubelet, "busybox", script, name="app", volumeMounts=[{"name": "data", "mountPath": "/data"}])]})
    wait_for("its output", lambda: container_status(kubelet.pod("mapped"), "app").get("state", {}).get("running")
             and len(kubelet.logs("mapped", "app").splitlines()) == 3, 60)
    user, mapping, owner = kubelet.logs("mapped", "app").splitlines()
    inner, outer, length = map(int, mapping.split())
    assert (user, inner, length, owner) == ("0", 0, 65536, "0:0") and outer >= 65536, (user, mapping, owner)
    uid = kubelet.pod("mapped")["metadata"]["uid"]
    made = pathlib.Path(f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/data/file").stat()
    assert (made.st_uid, made.st_gid) == (0, 0), "the volume's files are root's on the node: its mount is id-mapped"


def test_figures(kubelet):
    def summary():
        pods = json.loads(kubelet.get("/stats/summary"))["pods"]
        mine = [pod for pod in pods if pod["podRef"]["name"] == "web-node1"]
        apps = [one for pod in mine for one in pod.get("containers", []) if one["name"] == "app"]
        return apps and apps[0].get("memory", {}).get("workingSetBytes", 0) > 0 and "usageNanoCores" in apps[0].get("cpu", {})
    wait_for("the figures of the pod", summary, 60)


def identity(kubelet, name):
    """What a restart of kubelet or runtime must leave as it is."""
    pod = kubelet.pod(name) or {"status": {}}
    return [(one["containerID"], one["restartCount"], one["state"].get("running")) for one in
            pod["status"].get("containerStatuses", [])] + [pod["status"].get("podIP")]


def restarted_kubelet(kubelet, **gates):
    was = {name: identity(kubelet, name) for name in ["web", "mapped"]}
    kubelet.stop()
    kubelet.start(**gates)
    wait_for("the pods to be ready again", lambda: all(is_ready(kubelet.pod(name)) for name in was), 60)
    assert {name: identity(kubelet, name) for name in was} == was


def end_is_noticed(kubelet, count):
    inside(kubelet, "mapped", "app", "kill", "1")
    wait_for("the container's restart", lambda: container_status(
        kubelet.pod("mapped"), "app").get("restartCount") == count, 60)
    assert container_status(kubelet.pod("mapped"), "app")["lastState"]["terminated"]["exitCode"] == 5


def test_a_restarted_kubelet_adopts_its_pods(kubelet):
    restarted_kubelet(kubelet)


def test_a_kubelet_that_follows_events(kubelet):
    restarted_kubelet(kubelet, EventedPLEG=True)
    end_is_noticed(kubelet, 1)  # such a kubelet asks by itself each 5 minutes only
    restarted_kubelet(kubelet)


def test_a_restarted_runtime_keeps_its_pods(kubelet):
    was = {name: identity(kubelet, name) for name in ["web", "mapped"]}
    kubelet.runtime.kill()
    kubelet.runtime.start()
    assert inside(kubelet, "web", "app", "echo", "still here") == "still here\n"
    wait_for("the pods to be ready", lambda: all(is_ready(kubelet.pod(name)) for name in was), 60)
    assert {name: identity(kubelet, name) for name in was} == was
    end_is_noticed(kubelet, 2)


def test_a_deleted_manifest_ends_its_pod(kubelet, before):
    state, uids = kubelet.folder / "state", [pod["metadata"]["uid"] for pod in kubelet.pods().values()]
    for name in kubelet.pods():
        kubelet.delete(name)
    # Dead containers and sandboxes go with the kubelet's next garbage collection, each minute.
    wait_for("no sandbox to be left", lambda: kubelet.runtime.crictl("pods", "-q").stdout == "", 200)
    assert (state / "hook").read_text() == "stopping\n" and (state / "bye").read_text() == "bye\n"
    assert kubelet.runtime.crictl("ps", "-aq").stdout == ""
    left = lambda: [uid for uid in uids if pathlib.Path(f"/var/lib/kubelet/pods/{uid}").exists()]  # noqa: E731
    wait_for("the pods' folders to be gone", lambda: not left(), 120)
    own = r"cgroups: .*/kubepods(/besteffort|/burstable)?"  # the kubelet's, which it makes by and by and keeps
    assert [thing for thing in kubelet.runtime.leaked(before, 1) if not re.fullmatch(own, thing)] == []
