#!/usr/bin/env python3
"""House rules as a test: what docs/HACKING.md asks of every source file.

Prints one line a finding, `path:line: what`, and exits 1 when there is any.
"""

import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70

# Who may include whom (docs/ARCHITECTURE.md). A folder may always include itself.
ARROWS = {
    "base": set(),
    "proto": {"base"},
    "runtime": {"base", "proto"},
    "cni": {"base", "proto"},
    "cri": {"base", "proto", "runtime", "cni"},
    "agent": {"base", "proto"},
    "control-plane": {"base", "proto"},
    "cli": {"base", "proto"},
}
# The one place where the agent meets its runtime.
WIRING = {"agent/daemon": {"cri", "cni", "runtime"}}

BANNED = [
    (re.compile(r"\bstd::regex\b"), "std::regex: write a small parser"),
    (re.compile(r"(?<![\w:.>])(?:std::)?system\("), "system(): use base/os/spawn.h"),
    (re.compile(r"\bsleep_for\b|\busleep\(|(?<![\w.>])sleep\("), "a sleep: wait for an event"),
    (re.compile(r"(?<!_)\bstrerror\("), "strerror: use ErrnoText"),
    (re.compile(r"\bstd::c(?:out|err)\b"), "iostream output: use base/log.h"),
]
# Programs whose output is what they are for.
MAY_PRINT = ("cli/", "tests/", "tools/")


def tracked_sources():
    listed = subprocess.run(
        ["git", "ls-files", "*.h", "*.cc", "*.c"], cwd=TOP, check=True, capture_output=True, text=True
    )
    return [name for name in listed.stdout.split() if (TOP / name).exists()]


def strip_comments_and_strings(text):
    """The same text with comments and literals blanked; positions and newlines stay."""
    pattern = re.compile(
        r'R"(?P<tag>[^()\\ ]*)\(.*?\)(?P=tag)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S
    )
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def check_size(name, text):
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        yield 1, f"{lines} lines; the limit is {MAX_FILE_LINES}: split it by noun"


def check_functions(name, code):
    """Bodies that open after a parameter list, outermost in their namespace or class."""
    lines = code.split("\n")
    start, depth_at_start, depth = None, 0, 0
    for number, line in enumerate(lines, 1):
        opens_body = re.search(r"\)\s*(?:const|noexcept|override|final|->\s*[\w:<>,&* ]+|\s)*\{\s*$", line)
        keyword = re.match(r"\s*(?:\}\s*)?(?:else\s+)?(?:if|for|while|switch|catch|do|TEST\w*)\b", line)
        if start is None and opens_body and not keyword:
            start, depth_at_start = number, depth
        depth += line.count("{") - line.count("}")
        if start is not None and depth <= depth_at_start:
            length = number - start + 1
            if length > MAX_FUNCTION_LINES:
                yield start, f"a function of {length} lines; the limit is {MAX_FUNCTION_LINES}"
            start = None


def check_includes(name, text):
    folder = name.split("/", 1)[0]
    if folder not in ARROWS:
        return
    allowed = ARROWS[folder] | {folder}
    for place, extra in WIRING.items():
        if name.startswith(place + "/"):
            allowed = allowed | extra
    if re.search(r"_test\.cc$", name):
        allowed = allowed | {"tests"}
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'#include "([\w-]+)/', line)
        if match and match.group(1) in {*ARROWS, "tests"} and match.group(1) not in allowed:
            yield number, f"{folder}/ must not include {match.group(1)}/ (docs/ARCHITECTURE.md)"


def check_banned(name, text, code):
    """A line is let through where a comment on it, or on the next, says `tidy: WHY`."""
    whole = text.split("\n")
    for number, line in enumerate(code.split("\n"), 1):
        if any("// tidy: " in near for near in whole[number - 1 : number + 1]):
            continue
        for pattern, why in BANNED:
            if "iostream" in why and name.startswith(MAY_PRINT):
                continue
            if pattern.search(line):
                yield number, why


def check_braced_try(code):
    """TRY(...) as a later element of a braced initializer: GCC 12 does not destroy the elements before it when it
    returns."""
    opened = []
    for match in re.finditer(r"[(){}\[\]]|\bTRY\(", code):
        if match.group() == "TRY(":
            if opened and code[opened[-1]] == "{" and _has_comma(code[opened[-1] + 1 : match.start()]):
                line = code.count("\n", 0, match.start()) + 1
                yield line, "TRY after another element of a braced initializer: take it before, by a line of its own"
            opened.append(match.end() - 1)
        elif match.group() in "({[":
            opened.append(match.start())
        elif opened:
            opened.pop()


def _has_comma(text):
    """Between two elements, and in no statement."""
    while (flat := re.sub(r"\([^()]*\)|\{[^{}]*\}|\[[^\[\]]*\]|<[^<>;]*>", "", text)) != text:
        text = flat
    return "," in text and ";" not in text


def check_header(name, text):
    if name.endswith(".h") and "#pragma once" not in text:
        yield 1, "a header without #pragma once"


def check_built(names):
    """Every source is named in a CMakeLists.txt of its folder or one above it."""
    for name in names:
        path = TOP / name
        if path.suffix == ".h" or "/programs/" in name:  # programs in test images have scripts of their own
            continue
        for folder in path.parents:
            lists = folder / "CMakeLists.txt"
            if lists.exists():
                text = lists.read_text()
                relative = str(path.relative_to(folder))
                target = path.stem.removesuffix("_fuzz")  # skiff_fuzz(TARGET ...)
                if relative in text or re.search(rf"\b{re.escape(target)}\b", text):
                    break
            if folder == TOP:
                yield name, 1, "in no CMakeLists.txt: it is never built"
                break


# The points that tests/integration/cri/recovery_loop_test.cc fails and is killed at; it fails itself where it does not
# reach one of them.
FAILPOINTS = "tests/integration/cri/failpoints.txt"


def check_failpoints(texts):
    listed = set((TOP / FAILPOINTS).read_text().splitlines())
    found = {}
    for name, text in texts.items():
        if name.startswith("tests/"):
            continue
        for number, line in enumerate(text.split("\n"), 1):
            for point in re.findall(r'failpoint::Reach\("([^"]+)"', "" if line.lstrip().startswith("//") else line):
                if point in found:
                    yield name, number, f'failpoint "{point}" is in {found[point]} too: a name is one place'
                found[point] = name
                if point not in listed:
                    yield name, number, f'failpoint "{point}" has no test: {FAILPOINTS}'
    for point in sorted(listed - set(found)):
        yield FAILPOINTS, 1, f'there is no failpoint "{point}"'


def main():
    names = tracked_sources()
    texts = {}
    findings = []
    for name in names:
        texts[name] = text = (TOP / name).read_text()
        code = strip_comments_and_strings(text)
        checks = [check_size(name, text), check_includes(name, text), check_header(name, text)]
        checks += [check_functions(name, code), check_banned(name, text, code)]
        checks.append(check_braced_try(code))
        findings += [(name, line, what) for check in checks for line, what in check]
    findings += check_built(names)
    findings += check_failpoints(texts)
    for name, line, what in sorted(findings):
        print(f"{name}:{line}: {what}")
    print(f"tidy: {len(names)} files, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
