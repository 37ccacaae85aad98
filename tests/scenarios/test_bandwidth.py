"""Annotations that limit a pod's bandwidth: in force on the node, gone with the pod, and refused with a clear word where
they make no sense. What they hold is measured by tests/integration/cni/bandwidth_test.cc."""

from tests.support.waiting import settled

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: slow
  annotations: {{kubernetes.io/ingress-bandwidth: "{ingress}", kubernetes.io/egress-bandwidth: 5M}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: web, image: "{registry}/busybox:test", command: [sleep, "1000"]}}]
"""


def test_limits_are_in_force_and_go_with_the_pod(kube_new, cluster):
    node = cluster.nodes[0]
    queues = lambda: node.run("tc", "qdisc").stdout
    kube_new("apply", "-f", "-", input=POD.format(ingress="10M", registry=cluster.registry))
    kube_new.wait("condition=Ready", "pod/slow")
    shown = queues()
    assert "rate 10Mbit" in shown and "rate 5Mbit" in shown and "ingress ffff:" in shown
    kube_new("delete", "pod", "slow")
    assert "tbf" not in settled(queues, lambda now: "tbf" not in now, 15)


def test_what_is_no_bandwidth_is_refused(kube_new, cluster):
    for wrong, why in (("fast", "is no quantity of bits per second"), ("10", "unreasonably small")):
        kube_new("apply", "-f", "-", input=POD.format(ingress=wrong, registry=cluster.registry))
        events = lambda: kube_new.out("get", "events", "--field-selector", "reason=FailedCreatePodSandBox",
                                      "-o", "jsonpath={.items[*].message}")
        told = settled(events, lambda text: why in text, 20)
        assert "annotation kubernetes.io/ingress-bandwidth" in told and why in told
        kube_new("delete", "pod", "slow")
