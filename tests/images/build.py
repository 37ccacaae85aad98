#!/usr/bin/python3
"""Makes the images that tests and the demo run, from Debian packages, and pushes them to a registry.

    tests/images/build.py [--push HOST:PORT]

Each image is a folder in OCI image layout under build/images; what exists is kept. Contents are
deterministic: the same packages give the same digests. Nothing is installed on this machine.
"""

import argparse
import fcntl
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
OUT = TOP / "build" / "images"

NGINX_CONF = """\
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr;
events { worker_connections 512; }
http {
  include /etc/nginx/mime.types;
  access_log /dev/stdout;
  server {
    listen 80;
    listen [::]:80;
    root /var/www/html;
    # Who answers: the pod's name is its hostname.
    location = / { default_type text/plain; return 200 "$hostname\\nserved by nginx\\n"; }
  }
}
"""

ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/sh\n"
                  "nobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n",
}

# An image: packages unpacked in a layer each list, files on top, and the configuration.
BUSYBOX_LAYER = {"packages": ["busybox-static"], "files": ACCOUNTS, "applets": True}
NO_DOCS = ["usr/share/doc", "usr/share/man", "usr/share/locale"]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The C library and what libsystemd, which several programs are linked to, is linked to.
SYSTEM_LIBRARIES = ["libc6", "libc-bin", "libcap2", "libgcc-s1", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5",
                    "libssl3", "libstdc++6", "libsystemd0", "libzstd1", "zlib1g"]
SYSTEM_LAYER = {"packages": SYSTEM_LIBRARIES, "without": NO_DOCS}
# A sandbox of a runtime that takes its pause program from an image.
IMAGES = {
    "pause:test": {
        "layers": [BUSYBOX_LAYER],
        "config": {"Entrypoint": ["/bin/sleep", "2147483647"]},
    },
    "busybox:test": {
        "layers": [BUSYBOX_LAYER],
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]},
    },
    # With the C library's resolver: a static busybox has none that works.
    "resolver:test": {
        "layers": [BUSYBOX_LAYER, {"packages": ["libc6", "libc-bin"], "without": ["usr/share/doc", "usr/share/man"]}],
        "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]},
    },
    "nginx:test": {
        "layers": [
            BUSYBOX_LAYER,
            {"packages": ["libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g", "nginx", "nginx-common"],
             "files": {"etc/nginx/nginx.conf": NGINX_CONF},
             "folders": ["var/lib/nginx", "var/log/nginx", "var/www/html", "run"],
             "without": ["usr/share/doc", "usr/share/man", "usr/share/locale", "etc/nginx/sites-enabled"]},
        ],
        "config": {"Entrypoint": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT",
                   "ExposedPorts": {"80/tcp": {}}, "Env": [PATH]},
    },
    # Server, sentinel (redis-server --sentinel) and client.
    "redis:test": {
        "layers": [
            BUSYBOX_LAYER, SYSTEM_LAYER,
            {"packages": ["libatomic1", "libjemalloc2", "liblzf1", "redis-server", "redis-tools"], "folders": ["data"],
             "without": NO_DOCS},
        ],
        "config": {"Entrypoint": ["redis-server"], "WorkingDir": "/data", "ExposedPorts": {"6379/tcp": {}},
                   "Env": [PATH]},
    },
    "haproxy:test": {
        "layers": [
            BUSYBOX_LAYER, SYSTEM_LAYER,
            {"packages": ["haproxy", "libcrypt1", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1",
                          "libpcre2-8-0"],
             "without": NO_DOCS},
        ],
        "config": {"Entrypoint": ["haproxy", "-db", "-f"], "Cmd": ["/etc/haproxy/haproxy.cfg"], "StopSignal": "SIGUSR1",
                   "Env": [PATH]},
    },
    # Python with Flask and a client of Redis; the program comes with the pod.
    "flask:test": {
        "layers": [
            BUSYBOX_LAYER, SYSTEM_LAYER,
            {"packages": ["libbz2-1.0", "libexpat1", "libffi8", "libpython3.11-minimal", "libpython3.11-stdlib", "libuuid1",
                          "media-types", "python3-async-timeout", "python3-click", "python3-deprecated", "python3-flask",
                          "python3-itsdangerous", "python3-jinja2", "python3-markupsafe", "python3-minimal",
                          "python3-packaging", "python3-redis", "python3-werkzeug", "python3-wrapt",
                          "python3.11-minimal"],
             "without": NO_DOCS},
        ],
        "config": {"Entrypoint": ["python3"], "Env": [PATH, "PYTHONUNBUFFERED=1"]},
    },
}


# ---- building ----

def unpack(packages, root):
    """The packages' files below root. Debian's merged /usr is kept: /bin and /lib are links into it."""
    for link in ["bin", "sbin", "lib", "lib64"]:
        (root / "usr" / link).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(f"usr/{link}")
    with tempfile.TemporaryDirectory() as downloads:
        subprocess.run(["apt-get", "download", "-q", *packages], cwd=downloads, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        for package in sorted(pathlib.Path(downloads).glob("*.deb")):
            # Through tar, so that members of ./bin land behind the link instead of replacing it.
            data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], input=data, check=True)


def add_applets(root):
    busybox = root / "usr" / "bin" / "busybox"
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        target = root / "usr" / "bin" / applet
        if not target.exists():
            target.symlink_to("busybox")


def build_layer(layer):
    """The layer as an uncompressed tar."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        unpack(layer["packages"], root)
        if layer.get("applets"):
            add_applets(root)
        for name in [*layer.get("folders", []), "tmp", "root", "etc"]:
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        for name, text in layer.get("files", {}).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in layer.get("without", []):
            subprocess.run(["rm", "-rf", root / name], check=True)
        return tar_of(root)


def tar_of(root):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            info = tar.gettarinfo(path, arcname=str(path.relative_to(root)))
            info.mtime, info.uname, info.gname = 0, "", ""
            with open(path, "rb") if info.isreg() else io.BytesIO() as data:
                tar.addfile(info, data if info.isreg() else None)
    return buffer.getvalue()


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layout:
    """A folder in OCI image layout (image-layout.md of the OCI image specification)."""

    def __init__(self, folder):
        self.folder = folder

    def put(self, data, media_type):
        digest = digest_of(data)
        path = self.blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def blob(self, digest):
        return self.folder / "blobs" / digest.replace(":", "/")

    def finish(self, manifest):
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (self.folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))

    def manifest(self):
        return json.loads((self.folder / "index.json").read_text())["manifests"][0]


def build(name, recipe, built_layers):
    folder = OUT / name.replace(":", "-")
    layout = Layout(folder)
    if (folder / "index.json").exists():
        return layout
    layers, diff_ids = [], []
    for layer in recipe["layers"]:
        key = json.dumps(layer, sort_keys=True)
        if key not in built_layers:
            built_layers[key] = build_layer(layer)
        tar = built_layers[key]
        diff_ids.append(digest_of(tar))
        layers.append(layout.put(gzip.compress(tar, 6, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip"))
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    config = {"architecture": machine, "os": "linux", "created": "1970-01-01T00:00:00Z", "config": recipe["config"],
              "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    config_descriptor = layout.put(json.dumps(config, sort_keys=True).encode(),
                                   "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config_descriptor, "layers": layers}
    layout.finish(layout.put(json.dumps(manifest, sort_keys=True).encode(), manifest["mediaType"]))
    return layout


# ---- pushing (OCI distribution specification) ----

class Registry:
    def __init__(self, address):
        self.address = address

    def request(self, method, path, body=None, headers=None, accept=(200, 201, 202)):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
        if response.status not in accept:
            raise RuntimeError(f"{method} http://{self.address}{path}: {response.status} {text[:300]!r}")
        return response

    def push_blob(self, repository, descriptor, data):
        digest = descriptor["digest"]
        if self.request("HEAD", f"/v2/{repository}/blobs/{digest}", accept=(200, 404)).status == 200:
            return
        where = self.request("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        where = where.split(self.address, 1)[-1]
        where += ("&" if "?" in where else "?") + f"digest={digest}"
        self.request("PUT", where, data, {"Content-Type": "application/octet-stream"})

    def push(self, name, layout):
        repository, tag = name.rsplit(":", 1)
        descriptor = layout.manifest()
        manifest = layout.blob(descriptor["digest"]).read_bytes()
        document = json.loads(manifest)
        for blob in [*document["layers"], document["config"]]:
            self.push_blob(repository, blob, layout.blob(blob["digest"]).read_bytes())
        self.request("PUT", f"/v2/{repository}/manifests/{tag}", manifest, {"Content-Type": descriptor["mediaType"]})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--push", metavar="HOST:PORT", help="a registry that speaks plain HTTP")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    built_layers = {}
    with open(OUT / ".lock", "w") as lock:  # the next one finds them built
        fcntl.flock(lock, fcntl.LOCK_EX)
        layouts = {name: build(name, recipe, built_layers) for name, recipe in IMAGES.items()}
    if arguments.push:
        for name, layout in layouts.items():
            Registry(arguments.push).push(name, layout)


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"build.py: {error}")
