"""./dev demo: a one-node cluster that serves a real web server through a Service, shown step by step."""

import argparse
import json
import pathlib
import re
import subprocess
import sys

from tests.support import images
from tests.support.cluster import TOP, Cluster, describe
from tests.support.machine import run

MANIFEST = pathlib.Path(__file__).with_name("demo.yaml")


def show(title, text):
    print(f"\n\033[1m{title}\033[0m\n{text.rstrip()}", flush=True)


def ask_until_all_answered(node, url, wanted):
    """Asks through the virtual IP until `wanted` different pods have answered; who answered how often."""
    counts = {}
    for _ in range(100):
        answer = node.run("curl", "-fsS", "--max-time", "5", url).stdout
        pod = re.search(r"web-\S+", answer).group()
        counts[pod] = counts.get(pod, 0) + 1
        if len(counts) == wanted:
            return counts
    raise RuntimeError(f"{url}: after 100 requests only {sorted(counts)} have answered")


def demo(cluster):
    print("Starting a one-node cluster ...", flush=True)
    cluster.up(1)
    node = cluster.nodes[0]
    print("Making an image of a web server from Debian packages and pushing it to a local registry ...", flush=True)
    images.push(cluster.registry_endpoint)

    manifest = MANIFEST.read_text().replace("{registry}", cluster.registry)
    show("$ kubectl apply -f web.yaml", cluster.kubectl("apply", "-f", "-", input=manifest).stdout)
    show("$ kubectl rollout status deployment/web",
         cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s").stdout)
    show("$ kubectl get nodes,pods,svc -o wide", cluster.kubectl("get", "nodes,pods,svc", "-o", "wide").stdout)

    service = json.loads(cluster.kubectl("get", "service", "web", "-o", "json").stdout)["spec"]
    port = service["ports"][0]
    for title, url in [("virtual IP", f"http://{service['clusterIP']}:{port['port']}/"),
                       ("NodePort", f"http://{node.address}:{port['nodePort']}/")]:
        counts = ask_until_all_answered(node, url, 3)
        show(f"$ curl {url}   # the {title}, until all three pods have answered",
             "\n".join(f"{pod} answered {count} times" for pod, count in sorted(counts.items())))

    show("$ crictl pods", cluster.crictl(node, "pods").stdout)
    show("$ crictl ps", cluster.crictl(node, "ps").stdout)
    rules = node.run("nft", "list", "table", "ip", "skiff-proxy").stdout
    frontends = [line.strip() for line in rules.splitlines() if "default/web" in line]
    show("$ nft list table ip skiff-proxy   # what leads to the Service", "\n".join(frontends))


def main():
    parser = argparse.ArgumentParser(prog="dev demo")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--clean", action="store_true", help="remove the cluster at the end")
    arguments = parser.parse_args()
    for tool, folder in [("fetch-kubectl", "kubectl"), ("build-crictl", "crictl")]:
        run(TOP / "tests" / "tools" / tool, TOP / "build" / folder, timeout=1800)  # the first time: minutes
    cluster = Cluster(arguments.name)
    cluster.down()  # what an earlier demo left
    try:
        demo(cluster)
    except BaseException:
        print(f"dev: the demo failed; look into {cluster.root}/machines/*/*.log, then: "
              f"sudo ./dev down --name {cluster.name}", file=sys.stderr)
        raise
    if arguments.clean:
        cluster.down()
        print("\nRemoved again.")
        return
    show("It is yours now:", "")
    describe(cluster)
    kubectl = TOP / "build" / "kubectl" / "1.36" / "kubectl"
    print(f"\n{kubectl} get all\n{kubectl} scale deployment web --replicas=10"
          f"\nsudo ./dev down --name {cluster.name}   # removes all of it")


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
        sys.exit(f"dev: {error}")
