"""How fast a container may write its log: lines of a hundred bytes, as fast as they are taken; a part of `dev bench cri`.

    ./dev bench logs [--json] [--runtimes skiff,containerd+runc]

Every line is then looked for in the log: each once, in order.
"""

import datetime
import json
import pathlib
import re
import subprocess

from tests.bench.runtimes import IMAGE
from tests.support.cri import CRICTL, container_config, pod_config, run
from tests.support.waiting import wait_for

ROUNDS = 16
ROUND_MEGABYTES = 64
LINE_BYTES = 100


def lines_file(folder):
    """ROUND_MEGABYTES of numbered lines."""
    path = folder / "lines"
    with open(path, "w") as file:
        for number in range(ROUND_MEGABYTES * 1_000_000 // LINE_BYTES):
            file.write(f"{number:09d} ".ljust(LINE_BYTES - 1, ".") + "\n")
    return path


def seconds_of(status):
    start, end = (datetime.datetime.fromisoformat(status[key][:26].rstrip("Z") + "+00:00")
                  for key in ["startedAt", "finishedAt"])
    return (end - start).total_seconds()


def compared(log, lines):
    """Whether the log holds the lines ROUNDS times over, and nothing else."""
    script = 'cut -d" " -f4- "$1" | cmp - <(for ((i = 0; i < $3; i++)); do cat "$2"; done)'
    return subprocess.run(["bash", "-c", script, "compare", log, lines, str(ROUNDS)], timeout=600).returncode == 0


def cpu_seconds(pids):
    """Of processes, with what they have done so far; one that has ended counts for nothing."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0]) / 1e9
    return total


def peak_mib(pid):
    return int(re.search(r"^VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1)) / 1024


def logs(runtime):
    def crictl(*argv):
        return run(CRICTL, "-r", runtime.endpoint, "-i", runtime.endpoint, "-c", "/dev/null", *argv).stdout

    def status():
        return json.loads(crictl("inspect", container))["status"]

    lines = lines_file(runtime.folder)
    config = pod_config(runtime.folder, "loud", linux={"cgroup_parent": f"/{runtime.cgroup.name}/pods/loud"})
    pod = crictl("runp", config).strip()
    script = f"i=0; while [ $i -lt {ROUNDS} ]; do cat /lines; i=$((i + 1)); done"
    container = crictl("create", pod, container_config(
        runtime.folder, "loud", IMAGE, ["sh", "-c", script],
        mounts=[{"container_path": "/lines", "host_path": str(lines), "readonly": True}]), config).strip()
    writers = [runtime.process.pid, *runtime.supervisors()]
    before = cpu_seconds(writers)
    crictl("start", container)
    wait_for("its end", lambda: status()["state"] == "CONTAINER_EXITED", 300)
    ended = status()
    if ended["exitCode"] != 0:
        raise RuntimeError(f"{runtime.name}: {ended}")
    spent = cpu_seconds(writers) - before
    peak = max(map(peak_mib, writers[1:]))
    log = runtime.folder / "logs" / "loud" / "loud" / "0.log"
    if not compared(log, lines):
        raise RuntimeError(f"{runtime.name}: lines are lost, doubled or out of order")
    log.unlink()
    crictl("rmp", "-f", pod)
    megabytes = ROUNDS * ROUND_MEGABYTES
    yield {"name": "a container's log, 100 bytes a line", "value": round(megabytes / seconds_of(ended)), "unit": "MB/s"}
    yield {"name": "CPU of daemon and supervisor a GB of log", "value": round(spent * 1000 / megabytes, 3), "unit": "s"}
    yield {"name": "memory of the supervisor at most", "value": round(peak, 3), "unit": "MiB"}
