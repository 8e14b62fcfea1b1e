"""One recommendation, worked out on paper: what is weighed, what would change it, and where it is said."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.findings.gates import Gate
from bench.analysis.findings.recommendation import Candidate, Recommendation, SeenWay, choose, recommendation
from bench.analysis.findings.survival import Way, survival_maps
from bench.analysis.measures.groups import Key, Measurements, measure
from bench.analysis.measures.situations import Situation
from bench.analysis.report.report import print_summary, write_report
from bench.analysis.statistics.intervals import Estimate
from bench.export.exports import Exports
from bench.export.outcome import judge_run
from bench.store import RunFolder

PROFILE = "aws-alb"
PLAN: dict[str, Any] = {
    "decision": True,
    "parallel": 4,
    "load": {"turns": 2, "think_s": 90.0, "silence_s": 100.0},
    "loads": {"silence": {"turns": 1, "think_s": 0.0, "silence_s": 100.0}},
    "stream": {"ttft_ms": 600, "ttft_sigma": 0, "gap_ms": 100, "gap_sigma": 0, "tokens": 3},
    "streams": {"silence": {"ttft_ms": 600, "ttft_sigma": 0, "gap_ms": 70e3, "gap_sigma": 0, "tokens": 3}},
}
SILENCE = {"load": "silence", "stream": "silence"}
BEAT = (("heartbeat", 15),)
BLOCKS, MESSAGES = 3, 4
Row = tuple[str, tuple[tuple[str, object], ...], str]

SSE: Row = ("sse", (), "none")
SSE_BEAT: Row = ("sse", BEAT, "none")
SSE_RESUME: Row = ("sse", (), "resume")
WEBSOCKET: Row = ("websocket", (), "none")
POLLING: Row = ("polling", (), "none")


def arrived(late_ms: float = 0.0) -> Message:
    due = (600.0, 700.0, 800.0)
    return Message([(at, at + 1 + late_ms) for at in due])


def cut() -> Message:
    return Message([(600.0, 601.0)], 3, "truncated", facts={"detail": "fin: cut", "drops": 1, "noticed_by": ["fin"]})


def decided(
    tmp_path: Path,
    seen: Mapping[Row, tuple[Message, Message]],
    slo: Mapping[str, float] | None = None,
    blocks: int = BLOCKS,
    scale: float = 1.0,
) -> RunFolder:
    """A run whose ways saw, in every block, one kind of message in conversations and one where the model is silent."""
    cells = [
        {"transport": transport, "profile": PROFILE, "recovery": recovery, **dict(words), **more}
        for transport, words, recovery in seen
        for more in ({}, SILENCE)
    ]
    builder = RunBuilder(tmp_path, {"plan": PLAN | {"slo": dict(slo or {}), "cells": cells}, "time_scale": scale})
    for block in range(1, blocks + 1):
        for (transport, words, recovery), kinds in seen.items():
            for more, kind in zip(({}, SILENCE), kinds, strict=True):
                given = {"profile": PROFILE} | ({"recovery": recovery} if recovery != "none" else {})
                builder.cell(transport, block, [kind] * MESSAGES, variant={**dict(words), **more}, **given)
    return builder.write()


def chosen(folder: RunFolder) -> Recommendation:
    found = recommendation(measure(folder))
    assert found
    return found


def test_what_brings_everything_is_taken_with_the_fewest_settings(tmp_path: Path) -> None:
    seen = {
        SSE: (arrived(), cut()),
        SSE_BEAT: (arrived(), arrived()),
        ("sse", BEAT, "resume"): (arrived(), arrived()),
        WEBSOCKET: (cut(), cut()),
    }
    found = chosen(decided(tmp_path, seen))
    assert found.chosen.way == Way("sse", ("heartbeat=15",))
    assert found.sentence == (
        "Behind aws-alb (AWS Application Load Balancer), take SSE with a heartbeat every 15\u00a0s: all 24 messages "
        "arrived whole, with 90\u00a0s between messages and when the model is silent for up to 70\u00a0s; readers wait "
        "0.00 s longer than for the model itself."
    )
    assert found.lines == [
        "Runner-up: WebSocket (lost 12 of 12 messages with 90\u00a0s between messages).",
        "Leaving out what happens when the model is silent for up to 70\u00a0s: take SSE.",
    ]


def test_where_several_do_as_well_the_plainer_is_taken_and_the_other_named(tmp_path: Path) -> None:
    found = chosen(decided(tmp_path, {WEBSOCKET: (arrived(), arrived()), SSE: (arrived(50), arrived())}))
    assert found.chosen.way == Way("sse"), "50 ms are felt by nobody"
    assert found.runner_up == "Runner-up: WebSocket (does as well, but needs an upgrade)."


def test_readers_who_wait_longer_count_more_than_a_setting(tmp_path: Path) -> None:
    seen = {POLLING: (arrived(600), arrived(600)), SSE_RESUME: (arrived(), arrived())}
    found = chosen(decided(tmp_path, seen))
    assert found.chosen.way == Way("sse", recovery="resume")
    assert found.runner_up == "Runner-up: Polling (readers wait 0.60 s longer)."


def test_a_message_that_is_lost_counts_more_than_waiting(tmp_path: Path) -> None:
    found = chosen(decided(tmp_path, {POLLING: (arrived(900), arrived(900)), SSE: (arrived(), cut())}))
    assert found.chosen.way == Way("polling")


def test_limits_count_more_than_settings_and_it_is_said_what_they_cost(tmp_path: Path) -> None:
    seen = {SSE: (arrived(80), arrived(80)), SSE_BEAT: (arrived(), arrived())}
    found = chosen(decided(tmp_path, seen, {"ttft_ms_p50": 650}))
    assert found.chosen.way == Way("sse", ("heartbeat=15",))
    assert found.changes == ("Without the limits, take SSE.",)


def test_a_report_that_says_it_in_many_places_works_it_out_once(tmp_path: Path) -> None:
    measured = measure(decided(tmp_path, {SSE: (arrived(), arrived())}))
    assert recommendation(measured) is recommendation(measured)


def test_where_nothing_brings_everything_that_is_said(tmp_path: Path) -> None:
    folder = decided(tmp_path, {SSE: (arrived(), cut()), WEBSOCKET: (cut(), cut())})
    found = chosen(folder)
    assert (
        "nothing brought every message. The most came through with SSE: 12 of 24 messages arrived whole."
        in (found.sentence)
        or found.chosen.share == 0
    )
    lines = judge_run(measure(folder), folder, Console(quiet=True), Exports())  # type: ignore[arg-type]
    assert lines[0].startswith("behind aws-alb")


def test_without_a_way_that_was_measured_in_every_situation_nothing_is_recommended(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path, {"plan": PLAN})
    builder.cell("sse", 1, [arrived()], profile=PROFILE, status="void", reasons=["busy"])
    folder = builder.write()
    assert recommendation(measure(folder)) is None
    write_report(folder)


def test_only_the_limits_of_the_way_that_is_taken_make_the_run_fail(tmp_path: Path) -> None:
    seen = {SSE: (arrived(), arrived()), POLLING: (arrived(600), arrived(600))}
    folder = decided(tmp_path, seen, {"ttft_ms_p50": 650})
    assert judge_run(measure(folder), folder, Console(quiet=True), Exports()) == []  # type: ignore[arg-type]


def test_the_report_has_it_on_top_with_the_evidence_one_click_away(tmp_path: Path) -> None:
    folder = decided(tmp_path, {SSE: (arrived(), cut()), SSE_BEAT: (arrived(), arrived()), WEBSOCKET: (cut(), cut())})
    summary = write_report(folder)
    page = folder.report_path.read_text()
    before, _, after = page.partition('<p class="headline">')
    assert "Failed altogether" not in before
    assert after.startswith("Behind aws-alb")
    assert "Runner-up: WebSocket" in after.partition("<h2")[0]
    linked = set(re.findall(r'href="#([a-z]+)"', after.partition("<h2")[0]))
    assert {"survived", "numbers"} <= linked
    assert linked <= set(re.findall(r'id="([\w-]+)"', page)), "a link that leads nowhere"
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=80))
    assert out.getvalue().startswith("Behind aws-alb")


_WAYS = [SSE, SSE_BEAT, SSE_RESUME, WEBSOCKET, POLLING]
_FATES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=len(_WAYS), max_size=len(_WAYS))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fates=_FATES)
def test_what_is_recommended_survives_on_the_map_if_anything_does(
    tmp_path_factory: pytest.TempPathFactory, fates: Sequence[tuple[bool, bool]]
) -> None:
    kinds = [tuple(arrived() if whole else cut() for whole in fate) for fate in fates]
    measured = measure(decided(tmp_path_factory.mktemp("run"), dict(zip(_WAYS, kinds, strict=True)), blocks=1))  # type: ignore[arg-type]
    found = recommendation(measured)
    assert found
    assert _survives(measured, found.chosen.way) == any(all(fate) for fate in fates)
    if all(fates[0]):
        assert found.chosen.way == Way("sse"), "it survives as it is"


def _survives(measured: Measurements, way: Way) -> bool:
    spots = [each.spot(way, PROFILE) for each in survival_maps(measured)]
    return all(spot is not None and spot.survives for spot in spots)


def test_limits_are_told_in_real_time_as_the_user_gave_them(tmp_path: Path) -> None:
    seen = {SSE: (arrived(80), arrived(80)), POLLING: (arrived(900), arrived(900))}
    folder = decided(tmp_path, seen, {"ttft_ms_p50": 6500}, scale=10.0)
    assert "ttft_ms_p50 at most 6,500 ms (it is 6,810 ms" in chosen(folder).sentence


def test_a_situation_that_is_left_out_takes_the_limits_missed_in_it_along() -> None:
    typical, trace = (Situation(words, name, name) for words, name in (((), "typical"), (("load=trace",), "trace")))
    gate = Gate(Key("sse", "load=trace", PROFILE, "none"), "ttft_ms_p95", 900, Estimate(1000.0), "unmet")
    plain = Candidate(Way("sse"), (SeenWay(typical, 9, 9, "", 0.0), SeenWay(trace, 9, 9, "", 0.0)), (gate,), 0.1)
    beating = Candidate(Way("sse", ("heartbeat=15",)), plain.seen, (), 0.1)
    found = choose(PROFILE, [plain, beating])
    assert found.chosen is beating
    assert found.changes[0] == "Leaving out what happens trace: take SSE."
