"""./dev bench NAME [--json]: figures, beside a peer's where there is one.

    pods     from creating a pod at the API to seeing it Running: p50 and p95, one at a time, ten at once
    cri      our CRI server beside containerd with runc and with crun; `dev bench cri --help` has its own options
    memory   resident memory (PSS) of each daemon, idle and per pod
"""

import argparse
import json
import sys

from tests.bench import cri, memory, pods
from tests.support import images
from tests.support.cluster import TOP, Cluster
from tests.support.machine import run

BENCHES = {"pods": pods.figures, "memory": memory.figures}


def report(figures, as_json):
    if not as_json:
        print(f"{'figure':48} {'value':>10} unit")
    for figure in figures:
        if as_json:
            print(json.dumps(figure), flush=True)
        else:
            peer = f"   (peer: {figure['peer']})" if "peer" in figure else ""
            print(f"{figure['name']:48} {figure['value']:>10} {figure['unit']}{peer}", flush=True)


def main():
    if sys.argv[1:2] == ["cri"]:
        cri.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(prog="dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*BENCHES, "cri", "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    arguments = parser.parse_args()
    run(TOP / "tests" / "tools" / "fetch-kubectl", TOP / "build" / "kubectl")
    cluster = Cluster("bench")
    cluster.down()
    try:
        cluster.up(1)
        images.push(cluster.registry)
        for name in BENCHES if arguments.name == "all" else [arguments.name]:
            report(BENCHES[name](cluster), arguments.json)
    finally:
        cluster.down()
    if arguments.name == "all":
        cri.main(["--json"] if arguments.json else [])


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"dev: {error}")
