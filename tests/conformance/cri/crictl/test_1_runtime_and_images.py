"""What crictl says of the runtime, of images, and of itself."""

import re


def test_version(crictl):
    shown = crictl.shown("version").splitlines()
    assert shown[0] == "Version: 0.1.0" and shown[1] == "RuntimeName: skiff" and shown[3] == "RuntimeApiVersion: v1"
    assert re.fullmatch(r"RuntimeVersion: \d+\.\d+\.\d+", shown[2])


def test_info(crictl):
    info = crictl.json("info")
    assert {c["type"]: c["status"] for c in info["status"]["conditions"]} == {"RuntimeReady": True, "NetworkReady": True}
    assert {"", "skiff"} <= {handler.get("name", "") for handler in info["runtimeHandlers"]}
    assert all(handler["features"]["recursive_read_only_mounts"] for handler in info["runtimeHandlers"]
               if handler.get("name", "") in ("", "skiff"))
    assert info["features"]["supplemental_groups_policy"] is True
    assert info["config"]["cgroupV2"] in (True, False)
    assert "config" not in crictl.json("info", "-q")


def test_runtime_config(crictl):
    assert crictl.shown("runtime-config") == "cgroup driver: CGROUPFS"


def test_update_runtime_config(crictl):
    crictl("update-runtime-config", "--pod-cidr", "10.90.0.0/24")
    pod = crictl.pod("renumbered")
    assert crictl.json("inspectp", pod)["status"]["network"]["ip"].startswith("10.90.0.")
    crictl("update-runtime-config", "--pod-cidr", "")  # names nothing, changes nothing
    assert crictl.json("inspectp", crictl.pod("also"))["status"]["network"]["ip"].startswith("10.90.0.")
    crictl("rmp", "-f", "-a")
    crictl("update-runtime-config", "--pod-cidr", "10.89.0.0/24")
    assert crictl.refusal("update-runtime-config", "--pod-cidr", "nonsense") == (
        'update runtime config: rpc error: code = InvalidArgument desc = pod CIDR: "nonsense" is not a CIDR (address/length)')


def test_pull_and_images(crictl, image_id):
    busybox = image_id(crictl.busybox)
    assert crictl("pull", crictl.busybox) == f"Image is up to date for {busybox}\n"
    repository = crictl.busybox.rsplit(":", 1)[0]
    [line] = crictl.shown("images", crictl.busybox).splitlines()[1:]
    assert re.fullmatch(rf"{repository} test {busybox[7:20]} [\d.]+MB", line)
    assert set(crictl("images", "-q").split()) == {busybox, image_id(crictl.nginx)}
    [image] = crictl.json("images", "-o", "json", crictl.busybox)["images"]
    assert image["repoTags"] == [crictl.busybox] and 1e6 < int(image["size"]) < 1e7
    assert re.fullmatch(rf"{repository}@sha256:[0-9a-f]{{64}}", image["repoDigests"][0])
    by_digest = image["repoDigests"][0]
    assert crictl("pull", by_digest) == f"Image is up to date for {busybox}\n"
    assert crictl.json("inspecti", by_digest)["status"]["id"] == busybox
    assert crictl.json("inspecti", busybox[7:19])["status"]["id"] == busybox, "by the start of its id"
    assert "RepoTags: " + crictl.busybox in crictl("images", "-v")
    assert crictl.shown("images", "nosuch") == "IMAGE TAG IMAGE ID SIZE"


def test_inspecti(crictl):
    image = crictl.json("inspecti", crictl.nginx)
    assert image["status"]["repoTags"] == [crictl.nginx] and image["status"]["pinned"] is False
    assert image["info"]["imageSpec"]["os"] == "linux"
    assert image["info"]["imageSpec"]["config"]["Entrypoint"] == ["nginx", "-g", "daemon off;"]
    assert crictl("inspecti", "-o", "go-template", "--template", "{{.status.pinned}}", crictl.nginx) == "false\n"
    assert crictl.refusal("inspecti", "nosuch") == 'no such image "nosuch" present'


def test_rmi(crictl):
    by_tag = crictl.nginx
    assert crictl("rmi", by_tag) == f"Deleted: {by_tag}\n"
    assert crictl.refusal("rmi", by_tag) == f"no such image {by_tag}"
    assert by_tag not in crictl("images", "-o", "json")
    crictl("pull", by_tag)
    pod = crictl.pod("uses")
    crictl.container(pod, "user", ["sleep", "1000"])
    crictl("rmi", "--prune")
    assert [image["repoTags"] for image in crictl.json("images", "-o", "json")["images"]] == [[crictl.busybox]]
    crictl("pull", by_tag)


def test_imagefsinfo(crictl):
    status = crictl.json("imagefsinfo")["status"]
    for kind in ["imageFilesystems", "containerFilesystems"]:
        [filesystem] = status[kind]
        assert filesystem["fsId"]["mountpoint"] == f"{crictl.server.root}/images"
        assert int(filesystem["usedBytes"]["value"]) > 1e6 and int(filesystem["inodesUsed"]["value"]) > 10
    assert "Mountpoint[0]: <folder>/skiff/images" in crictl.shown("imagefsinfo", "-o", "table")


def test_refused_pulls(crictl):
    assert crictl.refusal("pull", "no such/name") == (
        'pulling image: rpc error: code = InvalidArgument desc = invalid image reference "no such/name": bad repository name')
    registry, absent = crictl.busybox.split("/")[0], crictl.busybox.replace(":test", ":absent")
    assert crictl.refusal("pull", absent) == (
        f"pulling image: rpc error: code = NotFound desc = {absent} at {registry}: not found "
        "(HTTP 404: MANIFEST_UNKNOWN: manifest unknown)")
    unknown = f"{registry}/busybox@sha256:{'0' * 64}"
    assert f"code = NotFound desc = {unknown} at {registry}" in crictl.refusal("pull", unknown)
    assert "code = Unavailable desc = RegistryUnavailable" in crictl.refusal("pull", "127.0.0.1:1/busybox")


def test_config(crictl, with_config):
    """crictl's own configuration file; the server is not asked."""
    crictl.used.add("config")
    with_config("config", "--set", f"runtime-endpoint={crictl.server.endpoint}")
    assert with_config("config", "--get", "runtime-endpoint").stdout.strip() == crictl.server.endpoint
    assert re.search(r"^timeout +10$", with_config("config", "--list").stdout, re.MULTILINE)
    assert "RuntimeName:  skiff" in with_config("version").stdout
    refused = with_config("config", "--set", "nosuch=1", check=False)
    assert refused.returncode == 1 and "no configuration option named nosuch" in refused.stderr


def test_help_and_completion(crictl):
    assert crictl("help").startswith("NAME:\n   crictl - client for CRI")
    assert "Fetch the logs of a container" in crictl("help", "logs")
    assert "complete -F _crictl crictl" in crictl("completion")
    assert "#compdef crictl" in crictl("completion", "zsh")
    assert crictl.attempt("nosuchcommand").returncode == 3
    crictl.used.remove("nosuchcommand")
