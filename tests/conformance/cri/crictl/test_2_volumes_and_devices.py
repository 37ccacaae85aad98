"""Image volumes, CDI devices and user namespaces, asked for in the configurations that crictl passes on."""

import json

RANGE = [{"container_id": 0, "host_id": 1_000_000, "length": 65536}]
USERNS = {"userns_options": {"mode": 0, "uids": RANGE, "gids": RANGE}}
SLEEP = ["sleep", "1000"]


def user_namespace(crictl):
    """Whether the machine has what user namespaces need, as Status says."""
    return crictl.json("info")["runtimeHandlers"][0]["features"].get("user_namespaces", False)


def image_mount(crictl, target, sub_path="", **more):
    return {"container_path": target, "image": {"image": crictl.nginx}, "image_sub_path": sub_path, "readonly": True,
            **more}


def test_image_volumes(crictl):
    pod = crictl.pod("volumes")
    reader = crictl.container(pod, "reader", SLEEP, mounts=[image_mount(crictl, "/image"),
                                                            image_mount(crictl, "/conf", "etc/nginx")])
    crictl("start", reader)
    # Of the upper layer, of the lower, and of a part.
    for path in ["/image/usr/sbin/nginx", "/image/bin/busybox", "/conf/nginx.conf"]:
        crictl("exec", "-s", reader, "test", "-s", path)
    for path in ["/image/new", "/conf/new"]:
        assert "Read-only file system" in crictl.attempt("exec", "-s", reader, "touch", path).stderr
    assert "ermission denied" in crictl.attempt("exec", "-s", reader, "/image/bin/busybox", "true").stderr
    mounts = crictl.json("inspect", reader)["status"]["mounts"]
    assert {mount["image"]["image"] for mount in mounts} == {crictl.nginx}
    crictl.server.kill()
    crictl.server.start()
    crictl("exec", "-s", reader, "test", "-s", "/image/usr/sbin/nginx")
    missing = crictl.folder / "container-missing.json"
    missing.write_text(json.dumps({"metadata": {"name": "missing"}, "image": {"image": crictl.busybox},
                                   "linux": {}, "mounts": [image_mount(crictl, "/image", "no/such")]}))
    assert "no/such" in crictl.refusal("create", pod, missing, crictl.folder / "volumes.json")


def test_cdi_devices(crictl):
    folder = crictl.server.root / "cdi"
    folder.mkdir(exist_ok=True)
    (folder / "vendor.yaml").write_text("""\
cdiVersion: "0.6.0"
kind: vendor.com/thing
containerEdits: {env: [VENDOR=yes]}
devices:
- name: one
  containerEdits:
    env: [THING=one]
    deviceNodes: [{path: /dev/thing, hostPath: /dev/zero, permissions: r}]
    mounts: [{hostPath: /proc/version, containerPath: /etc/thing, options: [ro, bind]}]
""")
    pod = crictl.pod("devices")
    user = crictl.container(pod, "user", SLEEP, CDI_devices=[{"name": "vendor.com/thing=one"}])
    crictl("start", user)
    seen = crictl("exec", "-s", user, "sh", "-c",
                  "echo $VENDOR $THING; head -c 3 /dev/thing | wc -c; head -c 5 /etc/thing")
    assert seen.split() == ["yes", "one", "3", "Linux"], seen
    unknown = crictl.folder / "container-unknown.json"
    unknown.write_text(json.dumps({"metadata": {"name": "unknown"}, "image": {"image": crictl.busybox}, "linux": {},
                                   "CDI_devices": [{"name": "vendor.com/thing=two"}]}))
    refused = crictl.refusal("create", pod, unknown, crictl.folder / "devices.json")
    assert "unknown device" in refused and "vendor.com/thing=two" in refused, refused


def test_user_namespace(crictl):
    security = {"security_context": {"namespace_options": USERNS}}
    if not user_namespace(crictl):
        pod = crictl.folder / "mapped.json"
        pod.write_text(json.dumps({"metadata": {"name": "mapped", "namespace": "default", "uid": "u"},
                                   "linux": security}))
        assert "user namespaces" in crictl.refusal("runp", pod)
        return
    pod = crictl.pod("mapped", linux=security)
    status = crictl.json("inspectp", pod)["status"]
    assert status["linux"]["namespaces"]["options"]["usernsOptions"]["uids"][0]["hostId"] == 1_000_000
    mapping = {"uidMappings": RANGE, "gidMappings": RANGE}
    inside = crictl.container(pod, "inside", SLEEP, linux=security, mounts=[image_mount(crictl, "/image", **mapping)])
    crictl("start", inside)
    crictl.server.kill()
    crictl.server.start()
    seen = crictl("exec", "-s", inside, "sh", "-c",
                  "cat /proc/self/uid_map; stat -c %u /bin /image/bin /etc/hosts /etc/resolv.conf; ip -o -4 addr show eth0")
    lines = seen.splitlines()
    assert lines[0].split() == ["0", "1000000", "65536"] and lines[1:5] == ["0"] * 4, seen
    assert status["network"]["ip"] in lines[5]
    other = {"security_context": {"namespace_options": {"userns_options": {
        "mode": 0, "uids": [{**RANGE[0], "host_id": 2_000_000}], "gids": [{**RANGE[0], "host_id": 2_000_000}]}}}}
    differs = crictl.folder / "container-differs.json"
    differs.write_text(json.dumps({"metadata": {"name": "differs"}, "image": {"image": crictl.busybox}, "linux": other}))
    assert "differ from its pod sandbox's" in crictl.refusal("create", pod, differs, crictl.folder / "mapped.json")
