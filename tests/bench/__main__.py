"""./dev bench NAME [--json]: figures, beside a peer's where there is one.

    pods     from creating a pod at the API to seeing it Running: p50 and p95, one at a time, ten at once
    cri      our CRI server beside containerd with runc and with crun; `dev bench cri --help` has its own options
    logs     how fast a container may write its log, with no line lost or doubled: a part of cri, and as that
    network  pods' traffic on one node and across two, beside bare devices
    memory   memory of each daemon: idle, at 10 and at 100 pods, and when they have gone
    dns      questions that the cluster DNS answers, by kind, beside CoreDNS; `dev bench dns --help` has its own options
    proxy    writing the rules of services beside 1000 and 10000 others; its own options follow
"""

import argparse
import json
import os
import sys

from tests.bench import cri, dns, memory, network, pods
from tests.support import images
from tests.support.cluster import TOP, Cluster
from tests.support.machine import run

BENCHES = {"pods": pods.figures, "network": network.figures, "memory": memory.figures}
NODES = {"network": 2}  # one, of others
PROXY_BENCH = TOP / "build" / "release" / "bin" / "skiff-proxy-bench"


def report(figures, as_json):
    if not as_json:
        print(f"{'figure':48} {'value':>10} unit")
    for figure in figures:
        if as_json:
            print(json.dumps(figure), flush=True)
        else:
            peer = f"   ({figure['peer']}: {figure['peer_is']})" if "peer" in figure else ""
            print(f"{figure['name']:48} {figure['value']:>10} {figure['unit']}{peer}", flush=True)


def on_a_cluster(name, as_json):
    cluster = Cluster("bench")
    cluster.down()
    try:
        cluster.up(NODES.get(name, 1))
        images.push(cluster.registry_endpoint)
        report(BENCHES[name](cluster), as_json)
    finally:
        cluster.down()


def run_proxy(options):
    os.execv(PROXY_BENCH, [PROXY_BENCH, *options])


def main():
    if sys.argv[1:2] == ["cri"]:
        cri.main(sys.argv[2:])
        return
    if sys.argv[1:2] == ["dns"]:
        dns.main(report, sys.argv[2:])
        return
    if sys.argv[1:2] == ["logs"]:
        sys.exit(cri.main(["--parts", "logs", "--runtimes", "skiff,containerd+runc", *sys.argv[2:]]))
    if sys.argv[1:2] == ["proxy"]:
        run_proxy(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*BENCHES, "cri", "dns", "logs", "proxy", "all"])
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    arguments = parser.parse_args()
    run(TOP / "tests" / "tools" / "fetch-kubectl", TOP / "build" / "kubectl")
    for name in BENCHES if arguments.name == "all" else [arguments.name]:
        on_a_cluster(name, arguments.json)
    if arguments.name == "all":
        cri.main(["--json"] if arguments.json else [])
        dns.main(report, ["--json"] if arguments.json else [])
        run_proxy(["--json"] if arguments.json else [])


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError) as error:
        sys.exit(f"dev: {error}")
