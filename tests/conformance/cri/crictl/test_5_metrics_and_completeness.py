"""Metrics, and that no subcommand of this crictl was left out."""

import re

import pytest


def test_metrics(crictl):
    pod = crictl.pod("metered")
    crictl("start", crictl.container(pod, "sleeper", ["sleep", "1000"]))
    descriptors = {d["name"]: d for d in crictl.json("metricdescs")["descriptors"]}
    assert "container_memory_working_set_bytes" in descriptors and all(d["help"] for d in descriptors.values())
    [metrics] = [m for m in crictl.json("metricsp")["podMetrics"] if m["podSandboxId"] == pod]
    [container] = metrics["containerMetrics"]
    for metric in [*metrics["metrics"], *container["metrics"]]:
        assert len(metric["labelValues"]) == len(descriptors[metric["name"]]["labelKeys"]), metric


def test_every_subcommand_was_run(crictl, request):
    if request.config.option.keyword or len({item.path for item in request.session.items}) < 5:
        pytest.skip("only a part of the session was run")
    help_text = crictl("help")
    listed = re.findall(r"^   ([a-z-]+)(?:,.*?)?  ", help_text.split("COMMANDS:")[1].split("GLOBAL OPTIONS:")[0], re.MULTILINE)
    assert len(listed) > 30 and sorted(set(listed) - crictl.used) == []
