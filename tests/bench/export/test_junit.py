"""JUnit XML: the structure that Ant's and Jenkins' schemas share, and what is failed or skipped in it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from support.outcomes import lost, raced, troubled

from bench.analysis.findings.comparison import compare
from bench.analysis.findings.gates import gates
from bench.analysis.measures.groups import measure
from bench.analysis.synthetic import Caricature, synthetic_run
from bench.export.junit import comparison_junit, run_junit
from bench.store import RunFolder

SUITE = {"id", "package", "name", "timestamp", "hostname", "tests", "failures", "errors", "skipped", "time"}
FATES = ("failure", "error", "skipped")


def document_of(folder: RunFolder) -> ElementTree.Element:
    measured = measure(folder)
    return checked(run_junit(measured, gates(measured)))


def checked(data: bytes) -> ElementTree.Element:
    """The document, after a look at all that the schemas ask for."""
    root = ElementTree.fromstring(data)
    assert (root.tag, root.attrib) == ("testsuites", {})
    for number, suite in enumerate(root):
        assert (suite.tag, set(suite.attrib), suite.get("id")) == ("testsuite", SUITE, str(number))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
        parts = [part.tag for part in suite]
        cases = parts.count("testcase")
        assert parts == ["properties", *["testcase"] * cases, "system-out", "system-err"]
        assert int(suite.get("tests", "")) == cases
        for fate, counter in zip(FATES, ("failures", "errors", "skipped"), strict=True):
            assert int(suite.get(counter, "")) == len(suite.findall(f"testcase/{fate}"))
        for case in suite.iter("testcase"):
            assert set(case.attrib) == {"name", "classname", "time"}
            assert all(each.tag in FATES and each.get("message") for each in case)
            assert len(case) <= 1
    return root


def fates(root: ElementTree.Element) -> dict[tuple[str, str], str]:
    return {
        (case.get("classname", ""), case.get("name", "").partition(" ")[0]): case[0].tag if len(case) else "passed"
        for case in root.iter("testcase")
    }


def test_limits_and_cells_are_tests(tmp_path: Path) -> None:
    root = document_of(raced(tmp_path, {"completed_ratio": 0.6, "ttft_ms_p99": 1}))
    found = fates(root)
    assert found["SSE", "completed_ratio"] == "passed"
    assert found["WebSocket", "completed_ratio"] == "failure"
    assert found["WebSocket", "ttft_ms_p99"] == "skipped"
    assert found["SSE (A/A copy)", "measured"] == "passed"
    (suite,) = root
    assert suite.get("name") == "synthetic: direct"
    message = root.find(".//failure[@message]")
    assert message is not None
    assert "percentage points below the limit" in message.get("message", "")


def test_void_failed_and_hostile_cells(tmp_path: Path) -> None:
    root = document_of(troubled(tmp_path))
    found = fates(root)
    assert found["SSE", "measured"] == found["SSE", "ttft_ms_p50"] == "skipped"
    assert found["Chunked", "measured"] == "error"
    message = next(each.get("message", "") for each in root.iterfind(".//testcase[@classname='SSE']/skipped"))
    assert "<img src=x> @someone" in message
    assert "\ufffd" in message  # for what XML cannot hold


def test_nothing_through_is_a_failure(tmp_path: Path) -> None:
    found = fates(document_of(lost(tmp_path)))
    assert (found["WebSocket", "measured"], found["SSE", "measured"]) == ("failure", "passed")


def test_a_regression_is_a_failure(tmp_path: Path) -> None:
    def run(delay_ms: float, seed: int) -> RunFolder:
        field = (Caricature("sse", delay_ms=delay_ms), Caricature("sse", "copy=aa", delay_ms=delay_ms))
        return synthetic_run(tmp_path, blocks=8, messages=30, tokens=20, field=field, seed=seed)

    fast, slow = run(0.5, 1), run(1.0, 2)
    root = checked(comparison_junit(compare(fast, slow)))
    worse = {case.get("name") for case in root.iter("testcase") if len(case)}
    assert {"token delay p50", "token delay p95"} <= worse
    assert "messages completed" not in worse
    assert checked(comparison_junit(compare(slow, fast))).findall(".//failure") == []
