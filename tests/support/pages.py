"""Pods whose web server says their name, so that who answers is known."""

import json


def page_pod(registry, name, labels=None, ports=(8080,), container=None, **spec):
    """The manifest. labels: app is the name where none are given; container, spec: what these have besides."""
    first, *others = ports
    servers = "".join(f"httpd -p {port} -h /www; " for port in others) + f"exec httpd -f -p {first} -h /www"
    web = {"name": "web", "image": f"{registry}/busybox:test",
           "command": ["sh", "-c", f"mkdir -p /www; echo {name} > /www/index.html; {servers}"], **(container or {})}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {"app": name}},
                       "spec": {"terminationGracePeriodSeconds": 0, "containers": [web], **spec}})
