"""Scenario 3: Redis with Sentinel, and an application that reaches it through two HAProxys in its own pod."""

import json

READS, WRITES = 6379, 16379


def in_app(kube, script, timeout=60):
    return kube.out("exec", "app", "-c", "app", "--", "timeout", str(timeout), "sh", "-c", script)


def writes(kube, port, count):
    """How many of so many writes, each on a connection of its own, went through; the others met a replica."""
    script = f"for i in $(seq {count}); do redis-cli -p {port} set key $i 2>&1; done"
    answers = in_app(kube, script).splitlines()
    answers = [answer for answer in answers if answer]
    good = answers.count("OK")
    refused = len([answer for answer in answers if answer.startswith("READONLY")])
    assert good + refused == count, answers
    return good


def servers_seen(kube, count):
    script = f"for i in $(seq {count}); do redis-cli -p {READS} info server | grep run_id; done"
    return set(in_app(kube, script).split())


def masters(kube):
    """The pods whose server says that it is a master."""
    pods = json.loads(kube.out("get", "pods", "-l", "app=redis", "-o", "json"))["items"]
    found = []
    for pod in pods:
        role = kube("exec", pod["metadata"]["name"], "--", "redis-cli", "info", "replication", check=False).stdout
        found += [pod["metadata"]["name"]] if "role:master" in role else []
    return found


def wait_steady(kube):
    """Until the writes' ambassador has found all three servers and knows which is the master, and that has two replicas
    that are up to date. (HAProxy takes a server that DNS has just named for a good one until its first check.)"""
    status = "wget -q -O - 'http://127.0.0.1:8404/;csv' | grep ^writes,node"
    replicas = f"redis-cli -p {WRITES} info replication"
    in_app(kube, f"until {status} | grep -c ',UP,' | grep -qx 1 && {status} | grep -c ',DOWN,' | grep -qx 2 && "
                 f"{replicas} | grep -q connected_slaves:2; do sleep 0.1; done")


def wait_sentinels(kube):
    """Until the sentinels know of each other and of the replicas: then they can elect a master."""
    ask = "redis-cli -h redis-sentinel -p 26379 sentinel master main"
    script = f"until {ask} 2>/dev/null | grep -A1 -x num-other-sentinels | grep -qx 2 && " \
             f"{ask} | grep -A1 -x num-slaves | grep -qx 2; do sleep 0.1; done"
    in_app(kube, script)


def test_ambassadors(kube_sizes):
    kube = kube_sizes
    kube.apply("ambassador.yaml", namespace=kube.namespace)
    for controller in ["redis", "redis-sentinel"]:
        kube.wait_value("{.status.readyReplicas}", 3, f"rc/{controller}", timeout="90s")
    kube.wait("condition=Ready", "pod/app")
    # The controller has taken the first master over and made two pods more.
    assert kube.jsonpath("{.metadata.ownerReferences[0].name}", "pod", "redis-first") == "redis"
    assert masters(kube) == ["redis-first"]

    wait_steady(kube)
    assert writes(kube, WRITES, 50) == 50
    # By the Service one of three is met: 40 of 120 on the average, and hardly ever 26 less or more.
    assert 14 <= writes(kube, READS, 120) <= 66
    # 40 connections that all miss one of three: once in four million times.
    assert len(servers_seen(kube, 40)) == 3

    in_app(kube, f"redis-cli -p {WRITES} set written before")
    wait_sentinels(kube)
    kube("delete", "pod", "redis-first")
    kube.wait_value("{.status.readyReplicas}", 3, "rc/redis")
    wait_steady(kube)
    assert len(masters(kube)) == 1 and "redis-first" not in masters(kube)
    assert writes(kube, WRITES, 50) == 50
    assert 14 <= writes(kube, READS, 120) <= 66
    assert in_app(kube, f"redis-cli -p {READS} get written") == "before", "what was written before the master went"
