"""A pipeline's gate: a real run whose plan demands too much ends with 1, and its Markdown says why."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from .conftest import Bench

pytestmark = pytest.mark.slow

CELLS = """
[slo]
ttft_ms_p50 = 0.001
completed_ratio = 0.5

[[cells]]
transport = "sse"
"""


def test_an_unmet_limit_ends_with_1_and_says_why(bench: Bench) -> None:
    plan = bench.plan(CELLS)
    done = bench.run("run", plan, "--blocks", "2", "--json", "-", "--markdown", "why.md", "--junit", "gate.xml")
    bench.wait_until_nothing_runs()
    assert done.returncode == 1, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("tokenderby: slo "))
    assert line.startswith("tokenderby: slo unmet: SSE, ttft_ms_p50 at most 0.00100 ms: it is ")
    document = json.loads(done.stdout)
    assert document["verdict"]["passed"] is False
    assert {each["column"]: each["outcome"] for each in document["slo"]} == {
        "ttft_ms_p50": "unmet",
        "completed_ratio": "met",
    }
    markdown = (bench.folder / "why.md").read_text("utf-8")
    assert markdown.startswith("### Tokenderby: plan tiny, 1 of 2 limits not met\n")
    assert r"| unmet | SSE | ttft\_ms\_p50 at most 0.00100 ms | it is " in markdown
    assert len(ElementTree.parse(bench.folder / "gate.xml").getroot().findall(".//failure")) == 1
