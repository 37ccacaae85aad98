"""critest against the CRI server: one run in one mode, and what it is expected to skip."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

from tests.support.cri import CRICTL, CriServer, show_v1_cgroups_alone

UPSTREAM = ["registry.k8s.io", "k8s.gcr.io", "gcr.io"]
MODES = {
    "default": [],
    "websocket": ["--websocket-exec", "--websocket-attach", "--websocket-portforward"],
    "runc": ["--runtime-handler", "runc"],
    "crun": ["--runtime-handler", "crun"],  # the last: it may change what this run sees of cgroups
}
OCI_RUNTIMES = ("runc", "crun")
BINARIES = CRICTL.parent  # tests/tools/build-critest puts critest and ginkgo beside crictl


def _apparmor_missing():
    switch = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    return not switch.exists() or switch.read_text().strip() != "Y"


# When a group of skips.txt is skipped in a mode.
CONDITIONS = {
    "apparmor": lambda mode: _apparmor_missing(),
    "benchmark": lambda mode: True,
    "userns": lambda mode: mode in OCI_RUNTIMES,
}


def expected_skips(mode, missing=None):
    """{spec: reason} of skips.txt for a mode on this machine, or on one on which the named conditions hold."""
    skips, reason, holds = {}, None, False
    for line in (pathlib.Path(__file__).with_name("skips.txt")).read_text().splitlines():
        group = re.fullmatch(r"\[(\w+)\] (.+)", line)
        if group:
            holds = CONDITIONS[group[1]](mode) if missing is None else group[1] in missing
            reason = group[2]
        elif line and not line.startswith("#") and holds:
            skips[line] = reason
    return skips


@dataclasses.dataclass
class Outcome:
    """What one run of critest came to."""

    part: str
    seconds: float = 0
    passed: set = dataclasses.field(default_factory=set)
    failed: dict = dataclasses.field(default_factory=dict)  # spec: message
    skipped: dict = dataclasses.field(default_factory=dict)  # spec: critest's own words, which may be empty
    lacks: str = ""  # why it could not run

    @property
    def mode(self):
        return self.part.rsplit("-", 1)[0]

    def unexpected_skips(self, expected):
        return {spec: said for spec, said in self.skipped.items() if spec not in expected}

    def stale_skips(self, expected):
        """Expected, yet they ran."""
        return sorted(set(expected) & (self.passed | set(self.failed)))


def outcome_of(part, report):
    """Of ginkgo's JSON report (type Report of github.com/onsi/ginkgo/v2/types)."""
    outcome = Outcome(part)
    for suite in report:
        outcome.seconds += suite["RunTime"] / 1e9
        for spec in suite["SpecReports"]:
            name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
            message = spec.get("Failure", {}).get("Message", "")
            if spec["LeafNodeType"] != "It":  # the suite's own nodes; they count when they fail
                if spec["State"] not in ("passed", "skipped"):
                    outcome.failed[f"{spec['LeafNodeType']} {name}"] = message
            elif spec["State"] == "passed":
                outcome.passed.add(name)
            elif spec["State"] in ("skipped", "pending"):
                outcome.skipped[name] = message
            else:
                where = spec.get("Failure", {}).get("Location", {})
                outcome.failed[name] = f"{message}\n{where.get('FileName')}:{where.get('LineNumber')}"
    return outcome


def run_part(part, build, registry, logs):
    """part: MODE-PROCESSES. Leaves logs/PART.{critest,server}.log and PART.json."""
    mode, processes = part.rsplit("-", 1)
    with tempfile.TemporaryDirectory(prefix="critest-") as name:
        folder = pathlib.Path(name)
        mirrors = [word for host in UPSTREAM for word in ["--mirror", f"{host}=http://{registry.address}"]]
        handlers = []
        if mode in OCI_RUNTIMES:
            program = shutil.which(mode, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
            if program is None:
                return Outcome(part, lacks=f"no program {mode}")
            handlers = ["--runtime-handler", f"{mode}={program}"]
        if mode == "crun":
            show_v1_cgroups_alone()
        server = CriServer(build, folder / "skiff", *mirrors, *handlers, log=logs / f"{part}.server.log")
        server.start()
        try:
            parallel = [] if processes == "1" else [f"--parallel={processes}"]  # ginkgo takes offence at 1
            return _critest(part, server, [*parallel, *MODES[mode]], folder, logs)
        finally:
            server.remove_all()


def _critest(part, server, flags, folder, logs):
    # With more than one process critest runs ginkgo, which it looks for in PATH.
    environment = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    argv = [BINARIES / "critest", "--runtime-endpoint", server.endpoint, "--image-endpoint", server.endpoint,
            "--ginkgo.no-color", "--ginkgo.json-report=report.json", *flags]
    with open(logs / f"{part}.critest.log", "wb") as log:
        ended = subprocess.run(argv, cwd=folder, env=environment, stdout=log, stderr=log, timeout=1200)
    report = folder / "report.json"
    if not report.exists():
        return Outcome(part, failed={"critest itself": f"exit {ended.returncode} and no report: {log.name}"})
    shutil.copy(report, logs / f"{part}.json")
    outcome = outcome_of(part, json.loads(report.read_text()))
    if not outcome.failed and (ended.returncode != 0 or not outcome.passed):
        outcome.failed["critest itself"] = f"exit {ended.returncode}, {len(outcome.passed)} passed: {log.name}"
    return outcome
