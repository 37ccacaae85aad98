#!/usr/bin/env python3
"""Writes proto/k8s/**/*.proto, proto/k8s/fwd.h and proto/cri/runtime/v1/api.proto from the field
tables in proto/facts/ (format: proto/facts/README.md).

Run from the top of the tree after a change of the tables or of the subjects below; the result is
committed, so that a build needs no Python. A table's group becomes a package (GROUPS) and is split
into files by subject (SUBJECTS): each subject takes its root messages and everything these need
that no earlier subject has taken, which makes the imports acyclic by construction.
"""

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent

# Table heading -> (package below k8s, API group, version).
GROUPS = {
    "runtime": ("runtime", None, None),
    "intstr": ("intstr", None, None),
    "resource": ("resource", None, None),
    "meta/v1": ("meta.v1", "", "v1"),
    "core/v1": ("core.v1", "", "v1"),
    "apps/v1": ("apps.v1", "apps", "v1"),
    "batch/v1": ("batch.v1", "batch", "v1"),
    "discovery/v1": ("discovery.v1", "discovery.k8s.io", "v1"),
    "networking/v1": ("networking.v1", "networking.k8s.io", "v1"),
    "coordination/v1": ("coordination.v1", "coordination.k8s.io", "v1"),
    "policy/v1": ("policy.v1", "policy", "v1"),
    "rbac/v1": ("rbac.v1", "rbac.authorization.k8s.io", "v1"),
    "autoscaling/v1": ("autoscaling.v1", "autoscaling", "v1"),
    "authentication/v1": ("authentication.v1", "authentication.k8s.io", "v1"),
    "authorization/v1": ("authorization.v1", "authorization.k8s.io", "v1"),
    "events/v1": ("events.v1", "events.k8s.io", "v1"),
    "node/v1": ("node.v1", "node.k8s.io", "v1"),
    "apidiscovery/v2": ("apidiscovery.v2", "apidiscovery.k8s.io", "v2"),
    "extensions/v1beta1": ("extensions.v1beta1", "extensions", "v1beta1"),
    "apps/v1beta1": ("apps.v1beta1", "apps", "v1beta1"),
    "apps/v1beta2": ("apps.v1beta2", "apps", "v1beta2"),
}

# Whose kinds only the files that serve them name: they are not in fwd.h, which all else includes.
NOT_FORWARD = {"apps/v1beta1", "apps/v1beta2", "node/v1"}

# Heading -> ordered (file, comment, regular expression of its root messages). The last one of a
# heading takes the rest.
SUBJECTS = {
    "runtime": [("raw", "Untyped objects and the envelope of the Kubernetes protobuf wire.", ".*")],
    "intstr": [("int_or_string", "A port name or number, a count or a percentage.", ".*")],
    "resource": [("quantity", "An amount as text, such as 100m or 2Gi.", ".*")],
    "meta/v1": [
        ("time", "Points in time.", "Time|MicroTime|Timestamp|Duration"),
        ("object", "What every object and list carries.",
         "ObjectMeta|ListMeta|TypeMeta|LabelSelector|Condition|PartialObjectMetadata.*|List"),
        ("options", "Parameters of requests.", ".*Options"),
        ("discovery", "What the server serves.", "API.*|RootPaths"),
        ("status", "Answers that are not objects of their own, and the names of types.", ".*"),
    ],
    "core/v1": [
        ("reference", "References to objects and to keys in them.",
         ".*Reference|(ConfigMap|Secret|File)KeySelector|ObjectFieldSelector|ResourceFieldSelector"
         "|TopologySelector.*"),
        ("placement", "Where pods may run: node selectors, affinity, taints, spreading.",
         "NodeSelector.*|Affinity|Taint|Toleration|TopologySpreadConstraint"),
        ("claim", "Claims of persistent storage.", "PersistentVolumeClaim.*|ModifyVolumeStatus"),
        ("volume", "Volumes of a pod and where their content comes from.",
         "Volume|VolumeMount.*|VolumeDevice|VolumeProjection"),
        ("persistent_volume", "Persistent storage.", "PersistentVolume.*"),
        ("container", "Containers: environment, ports, probes, resources, security.",
         "Container|EphemeralContainer"),
        ("pod", "Pods.", "Pod|PodList|PodTemplate.*|Binding|PodStatusResult"),
        ("pod_options", "Parameters of a pod's, node's and service's connect requests.",
         ".*Options"),
        ("node", "Nodes.", "Node|NodeList|Node.*|AvoidPods|PreferAvoidPodsEntry|PodSignature"),
        ("service", "Services and their endpoints.", "Service|ServiceList|Endpoints|EndpointsList"),
        ("namespace", "Namespaces and their limits.",
         "Namespace.*|LimitRange.*|ResourceQuota.*"),
        ("config", "Configuration, secrets and identities.",
         "ConfigMap|ConfigMapList|Secret|SecretList|ServiceAccount.*"),
        ("event", "Events.", "Event.*"),
        ("rest", "Replication controllers and what is seldom used.", ".*"),
    ],
}

# Kinds that carry no metadata, and messages that carry metadata but are no kinds.
PLAIN_KINDS = {
    "meta/v1": {"APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "CreateOptions",
                "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions",
                "ApplyOptions", "TableOptions", "Status"},
    "core/v1": {"NodeProxyOptions", "PodAttachOptions", "PodExecOptions", "PodLogOptions",
                "PodPortForwardOptions", "PodProxyOptions", "ServiceProxyOptions",
                "SerializedReference"},
    "extensions/v1beta1": {"DeploymentRollback"},
}
NOT_KINDS = {"PodTemplateSpec", "PersistentVolumeClaimTemplate", "JobTemplateSpec"}
# Kinds of the meta package that belong to a group of their own.
META_GROUP = {"PartialObjectMetadata", "PartialObjectMetadataList", "TableOptions"}

# Constants the tables' defaults refer to.
REFERENCES = {"AzureDataDiskCachingReadWrite": "ReadWrite", "AzureSharedBlobDisk": "Shared"}

TYPES = {"string", "bytes", "bool", "int32", "int64", "uint32", "uint64", "double", "float"}


class Field:
    def __init__(self, number, name, type_, words):
        self.number, self.name, self.type = number, name, type_
        self.words = words

    def marker(self, key):
        """The values of `key=value` markers, in order."""
        return [w[len(key) + 1:] for w in self.words if w.startswith(key + "=")]


class Message:
    def __init__(self, group, name):
        self.group, self.name, self.fields = group, name, []


def parse_kubernetes(path):
    """Heading -> {message name: Message}, and full upstream package -> heading."""
    tables, packages, heading, message = {}, {}, None, None
    for line in path.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:].strip()
            tables[heading] = {}
        elif line.startswith("package "):
            packages[line.split()[1]] = heading
        elif line.startswith("message "):
            message = tables[heading][line.split()[1]] = Message(heading, line.split()[1])
        elif line.strip():
            match = re.fullmatch(r"  (\d+) (\w+): (map<[^>]*>|\S+)(.*)", line)
            if not match:
                sys.exit(f"{path}: cannot read {line!r}")
            message.fields.append(
                Field(int(match[1]), match[2], match[3], match[4].split()))
    return tables, packages


def snake(name):
    """hostIPs -> host_ips, setHostnameAsFQDN -> set_hostname_as_fqdn."""
    name = re.sub(r"([A-Z]+)([A-Z](?!s(?:[A-Z]|$))[a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def camel(name):
    """The JSON name protoc gives a field by itself."""
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), name)


def named_types(type_):
    """The message types in a field type, as written in the table."""
    inner = re.fullmatch(r"map<\w+, (.*)>", type_)
    type_ = inner[1] if inner else type_
    return [] if type_ in TYPES else [type_]


class Generator:
    def __init__(self, tables, packages):
        self.tables, self.packages = tables, packages
        self.file_of = {}  # (heading, message) -> file stem below proto/k8s
        self.files = {}    # file stem -> (comment, [Message])
        for heading in GROUPS:
            self.split(heading)

    def resolve(self, heading, type_):
        """(heading, message name) of a type name written in a table."""
        if not type_.startswith("."):
            return heading, type_
        package, name = type_[1:].rsplit(".", 1)
        return self.packages[package], name

    def split(self, heading):
        folder = GROUPS[heading][0].replace(".", "/")
        subjects = SUBJECTS.get(
            heading, [(heading.split("/")[0], f"The kinds of {heading}.", ".*")])
        for stem, comment, pattern in subjects:
            path = f"{folder}/{stem}"
            taken = self.files[path] = (comment, [])
            for name in self.tables[heading]:
                if re.fullmatch(pattern, name):
                    self.take(heading, name, path, taken[1])
            if not taken[1]:
                sys.exit(f"subject {path} is empty")

    def take(self, heading, name, path, messages):
        if (heading, name) in self.file_of:
            return
        self.file_of[heading, name] = path
        message = self.tables[heading][name]
        messages.append(message)
        for field in message.fields:
            for type_ in named_types(field.type):
                used = self.resolve(heading, type_)
                if used[0] == heading:
                    self.take(*used, path, messages)

    def type_text(self, heading, type_):
        match = re.fullmatch(r"map<(\w+), (.*)>", type_)
        if match:
            return f"map<{match[1]}, {self.type_text(heading, match[2])}>"
        if type_ in TYPES:
            return type_
        group, name = self.resolve(heading, type_)
        return name if group == heading else f"k8s.{GROUPS[group][0]}.{name}"

    def field_text(self, heading, field):
        json = (field.marker("json") or [field.name])[0]
        name = snake(field.name if json == "-" else json)
        options = []
        if json != "-" and camel(name) != json:
            options.append(f'json_name = "{json}"')
        for flag, option in (("json-inline", "inline"), ("pointer", "pointer"),
                             ("omitempty", "omitempty")):
            if flag in field.words:
                options.append(f"({option}) = true")
        for key, option in (("patchStrategy", "patch_strategy"),
                            ("patchMergeKey", "patch_merge_key"), ("listType", "list_type"),
                            ("listMapKey", "list_map_key"), ("mapType", "map_type"),
                            ("structType", "struct_type")):
            options += [f'({option}) = "{value}"' for value in field.marker(key)]
        for value in field.marker("default"):
            match = re.fullmatch(r"ref\((\w+)\)", value)
            value = f'"{REFERENCES[match[1]]}"' if match else value
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            options.append(f'(default_json) = "{quoted}"')
        label = "" if field.type.startswith("map<") else \
            ("repeated " if "repeated" in field.words else "optional ")
        text = f"  {label}{self.type_text(heading, field.type)} {name} = {field.number}"
        return wrap(text, options)

    def kind_text(self, message):
        heading = message.group
        _, group, version = GROUPS[heading]
        metadata = [f for f in message.fields if f.name == "metadata"]
        is_kind = bool(metadata) and message.name not in NOT_KINDS
        if not is_kind and message.name not in PLAIN_KINDS.get(heading, ()):
            return ""
        if heading == "meta/v1" and message.name in META_GROUP:
            group = "meta.k8s.io"
        text = f'group: "{group}" ' if group else ""
        return f'  option (gvk) = {{{text}version: "{version}" kind: "{message.name}"}};\n'

    def imports(self, path, messages):
        needed = set()
        for message in messages:
            for field in message.fields:
                for type_ in named_types(field.type):
                    needed.add(self.file_of[self.resolve(message.group, type_)])
        return list(needed - {path})

    def file_text(self, path):
        comment, messages = self.files[path]
        package = GROUPS[messages[0].group][0]
        out = [f"// {comment}\n// Generated by tools/gen_proto.py from proto/facts; do not edit.\n"
               f'syntax = "proto2";\n\npackage k8s.{package};\n']
        body = "".join(self.message_text(m) for m in sorted(messages, key=lambda m: m.name))
        imports = self.imports(path, messages) + (["options"] if "(" in body else [])
        out += ["\n"] if imports else []
        out += [f'import "proto/k8s/{name}.proto";\n' for name in sorted(imports)]
        return "".join(out) + body

    def message_text(self, message):
        fields = "".join(self.field_text(message.group, field)
                         for field in sorted(message.fields, key=lambda f: f.number))
        return f"\nmessage {message.name} {{\n{self.kind_text(message)}{fields}}}\n"

    def forward_declarations(self):
        out = ["// The names of all Kubernetes messages, for headers that only pass them on.\n"
               "// Generated by tools/gen_proto.py from proto/facts; do not edit.\n#pragma once\n"]
        for heading in GROUPS:
            if heading in NOT_FORWARD:
                continue
            package = GROUPS[heading][0].replace(".", "::")
            out.append(f"\nnamespace k8s::{package} {{\n")
            out += [f"class {name};\n" for name in sorted(self.tables[heading])]
            out.append(f"}}  // namespace k8s::{package}\n")
        return "".join(out)


def wrap(text, options):
    """A field with its options, broken before column 100."""
    if not options:
        return f"{text};\n"
    line = f"{text} [{', '.join(options)}];\n"
    if len(line) <= 100:
        return line
    lines, current = [f"{text} [\n"], "   "
    for index, option in enumerate(options):
        piece = f" {option}" + ("," if index + 1 < len(options) else "")
        if len(current + piece) > 96:
            lines.append(current + "\n")
            current = "   "
        current += piece
    return "".join(lines) + current + "];\n"


def cri_text(path):
    """The CRI service: proto3, one file, as the table has it."""
    out = ["// The container runtime interface, as a kubelet and crictl call it.\n"
           "// Generated by tools/gen_proto.py from proto/facts; do not edit.\n"
           'syntax = "proto3";\n\npackage runtime.v1;\n']
    block = None
    for line in path.read_text().splitlines():
        if not line.strip():
            if block:
                out.append("}\n")
            block = None
        elif match := re.fullmatch(r"(service|message|enum) (\w+)", line):
            block = match[1]
            out.append(f"\n{block} {match[2]} {{\n")
        elif match := re.fullmatch(r"enum (\w+)\.(\w+)", line):
            # The table opens the message, leaves it and goes on below its nested enum.
            block = "nested"
            del out[out.index(f"\nmessage {match[1]} {{\n"):]
            out.append(f"\nmessage {match[1]} {{\n  enum {match[2]} {{\n")
        elif match := re.fullmatch(r"  rpc (\w+): (\w+) -> (stream )?(\w+)", line):
            out.append(f"  rpc {match[1]}({match[2]}) returns ({match[3] or ''}{match[4]});\n")
        elif match := re.fullmatch(r"  (\w+) = (\d+)", line):
            indent = "    " if block == "nested" else "  "
            out.append(f"{indent}{match[1]} = {match[2]};\n")
        elif match := re.fullmatch(r"  (\d+) (\w+): (map<[^>]*>|\S+)( repeated)?(.*)", line):
            if block == "nested":
                out.append("  }\n")
                block = "message"
            label = "repeated " if match[4] else ""
            deprecated = " [deprecated = true]" if "deprecated" in match[5] else ""
            out.append(f"  {label}{match[3]} {match[2]} = {match[1]}{deprecated};\n")
        elif not line.startswith(("##", "package ")):
            sys.exit(f"{path}: cannot read {line!r}")
    if block:
        out.append("}\n")
    return "".join(out)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main():
    tables, packages = {}, {}
    for name in ("k8s-meta.txt", "k8s-api.txt"):
        more_tables, more_packages = parse_kubernetes(TOP / "proto/facts" / name)
        tables.update(more_tables)
        packages.update(more_packages)
    generator = Generator(tables, packages)
    for path in generator.files:
        write(TOP / f"proto/k8s/{path}.proto", generator.file_text(path))
    write(TOP / "proto/k8s/fwd.h", generator.forward_declarations())
    write(TOP / "proto/cri/runtime/v1/api.proto", cri_text(TOP / "proto/facts/cri-v1.txt"))


main()
