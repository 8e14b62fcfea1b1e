"""A run's outcome, or a comparison's, as JUnit XML: what every CI system shows as a list of tests.

The structure is that of Jenkins' and Ant's schemas. A cell is a test: it fails to run ("error"), gets nothing
through though nothing stands in between ("failure"), or is void ("skipped"). So is every limit of the plan: one that is
unmet, or not shown to be met, is a failure; one that nobody can judge is skipped with its reason, and the command's
exit code is 1 all the same. In a comparison every number is a test, and a regression a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal
from xml.etree import ElementTree

from bench.analysis.findings.comparison import Change, Comparison
from bench.analysis.findings.failures import fault_lines
from bench.analysis.findings.gates import Gate
from bench.analysis.findings.races import group_title
from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import METRICS
from bench.export.changes import change_row
from bench.run_record import Run
from servers.foreign_text import printable

Fate = Literal["passed", "failure", "error", "skipped"]


@dataclass(frozen=True)
class Test:
    """One test as JUnit knows it."""

    suite: str
    cell: str
    name: str
    fate: Fate = "passed"
    message: str = ""
    seconds: float = 0.0


def run_junit(measured: Measurements, judged: Sequence[Gate]) -> bytes:
    """The document of a run: a suite for each group of cells that race against each other."""
    lost = fault_lines(measured)
    tests = [test for cell in measured.cells for test in _of_cell(cell, judged, lost.get(cell.key, ""))]
    return _document(measured.run, tests)


def comparison_junit(comparison: Comparison) -> bytes:
    """The document of a comparison, one suite."""
    return _document(comparison.b, [_of_change(change) for change in comparison.changes])


def _of_cell(cell: MeasuredCell, judged: Sequence[Gate], fault: str) -> Iterable[Test]:
    suite, title = group_title(cell.key.group) or "direct", cell.key.title
    seconds = sum(record.seconds for record in cell.records)
    fate, message = _fate_of_cell(cell, fault)
    yield Test(suite, title, "measured", fate, message, seconds)
    for gate in (gate for gate in judged if gate.key == cell.key):
        yield Test(suite, title, gate.demand, _fate_of_gate(gate), gate.sentence if gate.outcome != "met" else "")


def _fate_of_cell(cell: MeasuredCell, fault: str) -> tuple[Fate, str]:
    why = "; ".join(sorted({reason for record in cell.records for reason in record.reasons}))
    if any(record.status == "failed" for record in cell.records):
        return "error", why
    if fault:
        return "failure", fault
    return ("passed", "") if cell.is_valid else ("skipped", why or "not measured")


def _fate_of_gate(gate: Gate) -> Fate:
    fates: dict[str, Fate] = {"met": "passed", "unknown": "skipped"}
    return fates.get(gate.outcome, "failure")


def _of_change(change: Change) -> Test:
    _, title, before, after, ratio, _ = change_row(change)
    bad = change.judgement == "regression"
    message = f"{title}: {before} became {after}, {ratio}" if bad else ""
    return Test("comparison", change.key.title, METRICS[change.column].title, "failure" if bad else "passed", message)


def _document(run: Run, tests: Iterable[Test]) -> bytes:
    ordered = sorted(tests, key=lambda test: test.suite)
    root = ElementTree.Element("testsuites")  # attributes of its own are in none of Ant's
    for number, (name, suite) in enumerate(groupby(ordered, key=lambda test: test.suite)):
        root.append(_suite(number, name, list(suite), run))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(number: int, name: str, tests: Sequence[Test], run: Run) -> ElementTree.Element:
    """Attributes and parts are all that the schemas ask for, in their order."""
    named = {"id": str(number), "package": "tokenderby", "name": printable(f"{run.name}: {name}")}
    moment = {"timestamp": run.started.rstrip("Z") or "1970-01-01T00:00:00", "hostname": "localhost"}
    suite = ElementTree.Element("testsuite", named | moment | _counts(tests))
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in (("plan", run.name), ("git_commit", run.git_commit), ("schedule_sha256", run.schedule_sha256)):
        ElementTree.SubElement(properties, "property", {"name": key, "value": printable(str(value))})
    suite.extend(map(_case, tests))
    for end in ("system-out", "system-err"):
        ElementTree.SubElement(suite, end)
    return suite


def _case(test: Test) -> ElementTree.Element:
    given = {"name": printable(test.name), "classname": printable(test.cell), "time": f"{test.seconds:.3f}"}
    case = ElementTree.Element("testcase", given)
    if test.fate != "passed":
        kind = {} if test.fate == "skipped" else {"type": test.fate}
        ElementTree.SubElement(case, test.fate, {"message": printable(test.message), **kind})
    return case


def _counts(tests: Sequence[Test]) -> dict[str, str]:
    fates = [test.fate for test in tests]
    return {
        "tests": str(len(tests)),
        "failures": str(fates.count("failure")),
        "errors": str(fates.count("error")),
        "skipped": str(fates.count("skipped")),
        "time": f"{sum(test.seconds for test in tests):.3f}",
    }
