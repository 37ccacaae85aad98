"""How fast a container may write its log: lines of a hundred bytes or so, as fast as they are taken.

    python3 -m tests.bench logs [--build DIR] [--megabytes N] [--json]

Every line is then looked for in the log: each once, in order. Runs in network and mount namespaces of its own.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.images import build as image_build
from tests.support.cri import TOP, CriServer, Registry, container_config, enter, pod_config
from tests.support.waiting import wait_for

PORT = 5006
IMAGE = f"127.0.0.1:{PORT}/busybox:test"
ROUND_MEGABYTES = 64
LINE_BYTES = 100


def lines_file(folder):
    """ROUND_MEGABYTES of numbered lines."""
    path = folder / "lines"
    count = ROUND_MEGABYTES * 1_000_000 // LINE_BYTES
    with open(path, "w") as file:
        for number in range(count):
            file.write(f"{number:09d} ".ljust(LINE_BYTES - 1, ".") + "\n")
    return path


def seconds_of(status):
    start, end = (datetime.datetime.fromisoformat(status[key][:26].rstrip("Z") + "+00:00")
                  for key in ["startedAt", "finishedAt"])
    return (end - start).total_seconds()


def compared(log, lines, rounds):
    """Whether the log holds the lines that many times over, and nothing else."""
    script = 'cut -d" " -f4- "$1" | cmp - <(for ((i = 0; i < $3; i++)); do cat "$2"; done)'
    return subprocess.run(["bash", "-c", script, "compare", log, lines, str(rounds)], timeout=600).returncode == 0


def inside(build, folder, megabytes, as_json):
    folder = pathlib.Path(folder)
    registry = Registry(folder, PORT)
    server = CriServer(build, folder / "skiff")
    server.start()
    try:
        image_build.Registry(registry.address).push(
            "busybox:test", image_build.build("busybox:test", image_build.IMAGES["busybox:test"], {}))
        server.crictl("pull", IMAGE)
        lines, rounds = lines_file(folder), max(megabytes // ROUND_MEGABYTES, 1)
        config = pod_config(folder, "loud")
        pod = server.crictl("runp", config).stdout.strip()
        script = f"i=0; while [ $i -lt {rounds} ]; do cat /lines; i=$((i + 1)); done"
        container = server.crictl("create", pod, container_config(
            folder, "loud", IMAGE, ["sh", "-c", script],
            mounts=[{"container_path": "/lines", "host_path": str(lines), "readonly": True}]), config).stdout.strip()
        server.crictl("start", container)
        status = lambda: json.loads(server.crictl("inspect", container).stdout)["status"]  # noqa: E731
        wait_for("its end", lambda: status()["state"] == "CONTAINER_EXITED", 300)
        assert status()["exitCode"] == 0, status()
        rate = rounds * ROUND_MEGABYTES / seconds_of(status())
        log = folder / "logs" / "loud" / "loud" / "0.log"
        assert compared(log, lines, rounds), "lines are lost, doubled or out of order"
    finally:
        server.remove_all()
        registry.stop()
    if as_json:
        print(json.dumps({"name": "log", "value": round(rate), "unit": "MB/s"}))
    else:
        print(f"a container's log: {rate:.0f} MB/s over {rounds * ROUND_MEGABYTES} MB, no line lost or doubled")
    return 0


def main(argv):
    parser = argparse.ArgumentParser(prog="dev bench logs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build" / "release")
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    build = arguments.build.resolve()
    if arguments.inside:
        return inside(build, arguments.inside, arguments.megabytes, arguments.json)
    image_build.build("busybox:test", image_build.IMAGES["busybox:test"], {})
    with tempfile.TemporaryDirectory(prefix="logs-", dir=os.environ.get("TMPDIR")) as folder:
        return enter("tests.bench.logs", "--build", build, "--megabytes", arguments.megabytes, "--inside", folder,
                     *(["--json"] if arguments.json else []))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
