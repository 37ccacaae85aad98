"""The images that critest pulls, under their upstream names, rebuilt from Debian packages.

The tests look upstream names up, so the runtime under test has mirrors of registry.k8s.io,
k8s.gcr.io and gcr.io on the local registry that these are pushed to.

    python3 -m tests.conformance.cri.images HOST:PORT      builds them and pushes them there
"""

import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[2]
STORE = TOP / "build" / "images" / "critest"

_spec = importlib.util.spec_from_file_location("images_build", TOP / "tests" / "images" / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n"
                  "default-user:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\nwww-data:x:33:\ndefault-user:x:1000:\nnogroup:x:65534:\n",
}
PREDEFINED_GROUP = {"etc/group": ACCOUNTS["etc/group"] + "group-defined-in-image:x:50000:default-user\n"}

NGINX = """\
daemon off; master_process on; worker_processes 1; pid /run/nginx.pid; error_log /dev/stderr;
events {{ worker_connections 64; }}
http {{ access_log /dev/stdout; server {{ listen {port}; root /var/www/html;
  location / {{ default_type text/html; return 200 "<h1>{text}</h1>\\n"; }} }} }}
"""


@functools.cache
def program(name):
    """A static program of programs/, compiled."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / name
        subprocess.run(["gcc", "-O1", "-static", "-o", out, HERE / "programs" / f"{name}.c"], check=True)
        return out.read_bytes()


def put(root, name, data, mode=0o644):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    path.chmod(mode)


def tar(fill):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        root.chmod(0o755)
        fill(root)
        return build.tar_of(root)


def busybox():
    """A static busybox of upstream's default configuration, from Debian's source package. Debian's own has a shell
    that prefers its applets to what is mounted over them, which a test does, and lacks pgrep and ipcs."""
    kept = STORE / "busybox"
    if kept.exists():
        return kept.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]
        mirror = subprocess.run(targets, check=True, capture_output=True, text=True).stdout.split()[0]
        (root / "sources.list").write_text(f"deb-src {mirror} bookworm main\n")
        (root / "lists" / "partial").mkdir(parents=True)
        options = ["-q", "-o", f"Dir::Etc::sourcelist={root}/sources.list", "-o", "Dir::Etc::sourceparts=-",
                   "-o", f"Dir::State::lists={root}/lists"]
        quiet = {"cwd": root, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["apt-get", *options, "update"], **quiet)
        subprocess.run(["apt-get", *options, "source", "--download-only", "busybox"], **quiet)
        subprocess.run(["tar", "-xf", next(root.glob("*.orig.tar.*"))], **quiet)
        quiet["cwd"] = next(root.glob("busybox-*/"))
        subprocess.run(["make", "defconfig"], **quiet)
        config = quiet["cwd"] / ".config"
        text = config.read_text().replace("# CONFIG_STATIC is not set", "CONFIG_STATIC=y")
        # tc does not compile against current kernel headers.
        config.write_text(text.replace("CONFIG_TC=y", "# CONFIG_TC is not set"))
        subprocess.run(["make", "-j2"], **{**quiet, "input": b"\n" * 100})
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes((quiet["cwd"] / "busybox").read_bytes())
    return kept.read_bytes()


@functools.cache
def shell_layer():
    """busybox with its applets as hard links, since a test masks /bin/ls alone."""

    def fill(root):
        put(root, "bin/busybox", busybox(), 0o755)
        applets = subprocess.run([root / "bin/busybox", "--list"], check=True, capture_output=True, text=True)
        for applet in applets.stdout.split():
            if applet != "busybox":
                os.link(root / "bin/busybox", root / "bin" / applet)
        for name, text in ACCOUNTS.items():
            put(root, name, text)
        for name in ["root", "home", "var/run", "run", "mnt"]:
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "tmp").mkdir()
        (root / "tmp").chmod(0o1777)

    return tar(fill)


@functools.cache
def nginx_layer(port, text):
    def fill(root):
        build.unpack(["libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g", "nginx", "busybox-static"], root)
        build.add_applets(root)
        for name, content in ACCOUNTS.items():
            put(root, name, content)
        put(root, "etc/nginx/nginx.conf", NGINX.format(port=port, text=text))
        for name in ["var/lib/nginx", "var/log/nginx", "run", "tmp"]:
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "var/run").symlink_to("../run")
        subprocess.run(["rm", "-rf", root / "usr/share"], check=True)

    return tar(fill)


def files_layer(files):
    return tar(lambda root: [put(root, name, data, mode) for name, (data, mode) in files.items()])


SHELL = {"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
SERVER = {**SHELL, "Cmd": ["nginx"]}


def catalogue():
    """(names, layers, configuration) of each image; names are repository:tag below the registry."""
    marker = lambda name: files_layer({f"test-{name}": (name, 0o644)})  # noqa: E731
    shell = shell_layer()
    yield [f"e2e-test-images/busybox:{tag}" for tag in ["1.29-2", "1.29-4", "1.36.1-1"]], [shell], SHELL
    welcome = nginx_layer(80, "Welcome to nginx!")
    yield [f"e2e-test-images/nginx:{tag}" for tag in ["1.14-2", "1.14-4"]], [welcome], SERVER
    page = files_layer({"www/index.html": ("<h1>It works!</h1>\n", 0o644)})
    serve = ["sh", "-c", "echo httpd starts; exec httpd -f -v -p 80 -h /www"]
    yield ["e2e-test-images/httpd:2.4.39-4"], [shell, page], {**SHELL, "Cmd": serve}
    hosted = nginx_layer(12003, "Welcome to nginx!")
    names = [f"k8s-staging-cri-tools/hostnet-nginx{suffix}:latest" for suffix in ["", "-amd64"]]
    yield names, [hosted], SERVER
    nnp = files_layer({"nnp": (program("nnp"), 0o4755)})
    yield ["e2e-test-images/nonewprivs:1.3"], [shell, nnp], {**SHELL, "Entrypoint": ["/nnp"], "Cmd": None}
    yield ["pause:3.9", "pause:3.10"], [files_layer({"pause": (program("nnp"), 0o755)})], {"Entrypoint": ["/pause"]}
    for name, user in [("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1004"),
                       ("username-group", "www-data:1004")]:
        yield [f"k8s-staging-cri-tools/test-image-user-{name}:latest"], [shell], {**SHELL, "User": user}
    groups = files_layer({name: (text, 0o644) for name, text in PREDEFINED_GROUP.items()})
    yield ["k8s-staging-cri-tools/test-image-predefined-group:latest"], [shell, groups], {**SHELL, "User": "1000"}
    for name in ["test-image-1", "test-image-2", "test-image-3", "test-image-latest", "test-image-digest"]:
        yield [f"k8s-staging-cri-tools/{name}:latest"], [shell, marker(name)], SHELL
    tags = [f"k8s-staging-cri-tools/test-image-tags:{tag}" for tag in "123"]
    yield tags, [shell, marker("tags")], SHELL
    for tag in ["test", "all"]:
        yield [f"k8s-staging-cri-tools/test-image-tag:{tag}"], [shell, marker(f"tag-{tag}")], SHELL


def build_all():
    """Builds every image, unless they are there. Needs apt's network."""
    index = STORE / "catalogue.json"
    stamp = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    if index.exists() and json.loads(index.read_text())["stamp"] == stamp:
        return
    entries = []
    for names, layers, config in catalogue():
        folder = hashlib.sha256(json.dumps([names, config]).encode() + b"".join(layers)).hexdigest()[:16]
        layout_of(STORE / folder, layers, config)
        entries.append({"names": names, "folder": folder})
    index.write_text(json.dumps({"stamp": stamp, "images": entries}))


def built():
    """What build_all made: a list of {"names": [...], "folder": ...}."""
    return json.loads((STORE / "catalogue.json").read_text())["images"]


def digest_of(name):
    """The digest of the manifest that name ("repository:tag") stands for."""
    folder = next(entry["folder"] for entry in built() if name in entry["names"])
    return build.Layout(STORE / folder).manifest()["digest"]


def push_all(registry):
    """Pushes what build_all made to registry ("host:port", plain HTTP)."""
    client = build.Registry(registry)
    for entry in built():
        for name in entry["names"]:
            client.push(name, build.Layout(STORE / entry["folder"]))


def layout_of(folder, layers, config):
    layout = build.Layout(folder)
    if (folder / "index.json").exists():
        return layout
    packed = [layout.put(build.gzip.compress(layer, 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
              for layer in layers]
    document = {"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": config,
                "rootfs": {"type": "layers", "diff_ids": [build.digest_of(layer) for layer in layers]}}
    descriptor = layout.put(json.dumps(document, sort_keys=True).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": descriptor, "layers": packed}
    layout.finish(layout.put(json.dumps(manifest, sort_keys=True).encode(), manifest["mediaType"]))
    return layout


if __name__ == "__main__":
    build_all()
    push_all(sys.argv[1])
