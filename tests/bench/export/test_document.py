"""The JSON document: always valid, by its schema too, and what is null says why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.outcomes import lost, raced, troubled
from support.runs import Message, RunBuilder

from bench.analysis.findings.comparison import compare
from bench.analysis.findings.failures import nothing_measured
from bench.analysis.findings.gates import gates
from bench.analysis.measures.groups import measure
from bench.analysis.report.report import summarize
from bench.export.document import comparison_document, encoded, run_document
from bench.export.shape import document_schema
from bench.run_record import CellRecord, Run
from bench.store import RunFolder, create_run

VALIDATOR = Draft202012Validator(document_schema())


def parsed(text: bytes) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def document_of(folder: RunFolder) -> Any:
    measured = measure(folder)
    return parsed(encoded(run_document(measured, gates(measured), "a-run")))


def never_begun(folder: Path) -> RunFolder:
    run = Run(name="n", plan={"cells": [{"transport": "sse"}]}, seed=1, schedule_sha256="", status="interrupted")
    run.cells = [CellRecord(id="b01-sse", block=1, cell="sse", transport="sse")]
    return create_run(folder, run)


def numbers_in(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, list):
        for each in part:
            yield from numbers_in(each)
    elif isinstance(part, dict):
        if {"value", "lo", "hi", "reason"} <= set(part):
            yield part
        for each in part.values():
            yield from numbers_in(each)


def test_the_schema_is_one_and_stands_in_the_docs() -> None:
    Draft202012Validator.check_schema(document_schema())
    written = Path(__file__).parents[3] / "docs" / "outcome.schema.json"
    assert json.loads(written.read_text("utf-8")) == document_schema()


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: raced(folder, {"ttft_ms_p95": 800, "completed_ratio": 0.99, "drops": 0}),
        lambda folder: raced(folder, {}, blocks=1),
        troubled,
        never_begun,
    ],
    ids=["raced", "one block", "troubled", "never begun"],
)
def test_it_follows_its_schema_and_every_null_has_its_reason(tmp_path: Path, make: Callable[[Path], RunFolder]) -> None:
    document = document_of(make(tmp_path))
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []
    found = list(numbers_in(document))
    assert found
    for number in found:
        assert (None in (number["value"], number["lo"], number["hi"])) == bool(number["reason"]), number


def test_the_schema_refuses_another_shape(tmp_path: Path) -> None:
    document = document_of(never_begun(tmp_path))
    for changes in ({"schema": 2}, {"rows": 3}, {"verdict": {"passed": "yes", "sentence": ""}}, {"kind": "pigeon"}):
        assert not VALIDATOR.is_valid(document | changes), changes


def test_what_a_run_says(tmp_path: Path) -> None:
    document = document_of(raced(tmp_path, {"ttft_ms_p50": 1000, "completed_ratio": 0.6}))
    assert (document["kind"], document["schema"], document["run"]["folder"]) == ("run", 1, "a-run")
    assert document["run"]["cells"] == {"ok": 20}
    assert document["verdict"]["passed"] is False
    assert {question["id"] for question in document["questions"]} >= {"first_token", "survival", "requests", "cpu"}
    limits = {(each["transport"], each["column"]): each["outcome"] for each in document["slo"]}
    assert limits["sse", "completed_ratio"] == "met"
    assert limits["websocket", "completed_ratio"] == "unmet"
    rows = {(row["transport"], row["variant"]): row for row in document["rows"]}
    sse, websocket = rows["sse", ""], rows["websocket", ""]
    assert (sse["valid"], sse["blocks"], sse["streams"]) == (True, [1, 2, 3, 4, 5], 80)
    assert sse["numbers"]["ttft_ms_p50"]["unit"] == "ms"
    assert sse["numbers"]["ttft_ms_p50"]["lo"] < sse["numbers"]["ttft_ms_p50"]["value"]
    assert sse["numbers"]["ttft_ms_p99"]["reason"] == "a p99 takes 368 messages, this cell has 80"
    late = websocket["numbers"]["ttft_ms_p50"]
    assert late["value"] is None
    assert late["reason"].startswith("infinite: a failed message counts as infinitely late")


def test_it_passes_only_what_is_complete(tmp_path: Path) -> None:
    met = {"ttft_ms_p50": 5000.0}
    assert document_of(raced(tmp_path, {"drops": 0}, blocks=2))["verdict"]["passed"] is True
    assert document_of(raced(tmp_path, met, blocks=2))["verdict"]["passed"] is False  # websocket lost more than half
    assert document_of(raced(tmp_path, {}, blocks=2, status="interrupted"))["verdict"]["passed"] is False
    assert document_of(lost(tmp_path))["verdict"]["passed"] is False  # as the command's exit code
    nothing = document_of(never_begun(tmp_path))
    assert nothing["verdict"] == {
        "passed": False,
        "sentence": nothing_measured(measure(never_begun(tmp_path))).capitalize() + ".",
    }
    assert [row["numbers"]["ttft_ms_p50"]["reason"] for row in nothing["rows"]] == ["no valid block"]


@pytest.mark.parametrize(
    ("plan", "begins"),
    [({}, ""), ({"parallel": 4}, "Brought every message through"), ({"story": True}, "")],
    ids=["race", "side by side", "story"],
)
def test_the_sentence_is_the_one_that_people_read(tmp_path: Path, plan: dict[str, Any], begins: str) -> None:
    """Whatever was asked: a document must not say of a run what its report does not."""
    builder = RunBuilder(tmp_path, {"plan": plan})
    for block in range(1, 6):
        for profile in ("direct", "aws-alb"):
            builder.cell("sse", block, [Message([(100, 101), (200, 201)])] * 2, profile=profile)
            builder.cell("websocket", block, [Message([(100, 103), (200, 204)])] * 2, profile=profile)
    folder = builder.write()
    sentence = document_of(folder)["verdict"]["sentence"]
    assert sentence == summarize(folder).headline
    assert sentence.startswith(begins)


def test_a_comparison(tmp_path: Path) -> None:
    run = raced(tmp_path, {})
    comparison = compare(run, run)
    document = parsed(encoded(comparison_document(comparison, ("old", "new"))))
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []
    assert (document["baseline"]["folder"], document["run"]["folder"]) == ("old", "new")
    assert document["verdict"]["passed"] is True
    assert {row["judgement"] for row in document["rows"]} == {"no difference"}
    assert all(row["baseline"] == row["run"] for row in document["rows"])
    infinite = next(r for r in document["rows"] if (r["transport"], r["column"]) == ("websocket", "ttft_ms_p50"))
    assert (infinite["run"], infinite["reason"][:8]) == (None, "infinite")
