"""The conformance of the CRI server: critest in each of its modes, crictl with every subcommand, and an upstream kubelet
that lives on it.

    python3 -m tests.conformance.cri [--build DIR] [PART...]

PART is "crictl", "kubelet", or MODE-PROCESSES of critest (default-1, default-4, websocket-1, websocket-4, runc-1,
runc-4, crun-1, crun-4); without one, all of them. A spec that fails, or is skipped without being in skips.txt, fails the run;
one of skips.txt that ran is reported. Logs go to DIR/conformance.

Needs root, docker-registry, and crictl, critest and ginkgo in build/crictl (`./dev conformance` sees to it); "kubelet"
builds that, which takes minutes the first time.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.conformance.cri import critest, images
from tests.conformance.cri.kubelet.node import KUBELET
from tests.images import build as image_build
from tests.support.cri import TOP, Registry, enter

HERE = pathlib.Path(__file__).resolve().parent
PORT = 5000
# Of pytest, each in a folder of its name, with more words for it: the kubelet's tests build on each other.
SESSIONS = {"crictl": [], "kubelet": ["-x"]}
PARTS = list(SESSIONS) + [f"{mode}-{processes}" for mode in critest.MODES for processes in (1, 4)]


def indented(text):
    return "\n".join(f"      {line}" for line in text.strip().splitlines())


def report(outcome):
    """Prints what one run came to; whether it is as it should be."""
    expected = critest.expected_skips(outcome.mode)
    if outcome.lacks:
        print(f"{outcome.part}: not run: {outcome.lacks}", flush=True)
        return os.environ.get("NEEDS_STRICT", "0") != "1"
    print(f"{outcome.part}: {len(outcome.passed)} passed, {len(outcome.failed)} failed, {len(outcome.skipped)} skipped "
          f"in {outcome.seconds:.0f} s", flush=True)
    for spec, message in outcome.failed.items():
        print(f"  FAILED {spec}\n{indented(message)}")
    unexpected = outcome.unexpected_skips(expected)
    for spec, said in unexpected.items():
        print(f"  SKIPPED, and skips.txt does not expect it: {spec}\n{indented(said)}")
    for spec in outcome.stale_skips(expected):
        print(f"  RAN, though skips.txt expects a skip: {spec}")
    return not outcome.failed and not unexpected


def table(outcomes):
    """The results as docs/cri.md has them."""
    yield "| mode | processes | passed | failed | skipped | seconds |"
    yield "|---|---|---|---|---|---|"
    for outcome in outcomes:
        processes = outcome.part.rsplit("-", 1)[1]
        cells = ["", "", "", outcome.lacks] if outcome.lacks else [
            len(outcome.passed), len(outcome.failed), len(outcome.skipped), f"{outcome.seconds:.0f}"]
        yield "| " + " | ".join(map(str, [outcome.mode, processes, *cells])) + " |"
    yield ""
    skipped = {}  # reason: specs
    for outcome in outcomes:
        for spec, reason in critest.expected_skips(outcome.mode).items():
            if spec in outcome.skipped:
                skipped.setdefault(reason, {})[spec] = True
    for reason, specs in skipped.items():
        yield f"{len(specs)} skipped: {reason}"
        yield from (f"- {spec}" for spec in specs)


def session(name, build, logs):
    """Whether the session's tests pass; what pytest says is the report. Each has namespaces of its own: the kubelet's
    changes much of what it sees."""
    argv = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=240",
            "--basetemp", logs / name, *SESSIONS[name], HERE / name]
    return subprocess.run(argv, env={**os.environ, "SKIFF_BUILD": str(build)}, timeout=1200).returncode == 0


def inside(build, parts, folder):
    logs = build / "conformance"
    logs.mkdir(exist_ok=True)
    good = all([session(name, build, logs) for name in SESSIONS if name in parts])
    # crun's come last: they change the mount namespace.
    parts = sorted((part for part in parts if part not in SESSIONS), key=lambda part: part.startswith("crun-"))
    if not parts:
        return 0 if good else 1
    registry = Registry(folder, PORT)
    outcomes = []
    try:
        images.push_all(registry.address)
        for part in parts:
            outcomes.append(critest.run_part(part, build, registry, logs))
            good = report(outcomes[-1]) and good
    finally:
        registry.stop()
    print("\n" + "\n".join(table(outcomes)))
    return 0 if good else 1


def prepare(parts):
    """Images and programs, while the network is there."""
    for name, recipe in image_build.IMAGES.items():
        image_build.build(name, recipe, {})
    if "kubelet" in parts:
        subprocess.run([TOP / "tests" / "tools" / "build-kubelet", KUBELET.parent], check=True)
    if set(parts) - set(SESSIONS):
        images.build_all()
        subprocess.run([TOP / "tests" / "tools" / "build-critest", critest.BINARIES, images.digest_of(
            "k8s-staging-cri-tools/test-image-digest:latest")], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build" / "release")
    parser.add_argument("--inside", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", metavar="PART")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {' '.join(unknown)} ({' '.join(PARTS)})")
    build = arguments.build.resolve()
    if arguments.inside:
        return inside(build, arguments.parts, arguments.inside)
    parts = arguments.parts or PARTS
    prepare(parts)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        return enter("tests.conformance.cri", "--build", build, "--inside", folder, *parts)


if __name__ == "__main__":
    sys.exit(main())
