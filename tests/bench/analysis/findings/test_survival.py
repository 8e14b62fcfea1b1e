"""What survived, worked out on paper: maps, advice, alarms, and what the page and the terminal make of them."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.runs import Message, RunBuilder

from bench.analysis.findings import buffering_alarm, survival
from bench.analysis.findings.run_warnings import run_warnings
from bench.analysis.findings.survival import Way
from bench.analysis.findings.verdicts import verdicts
from bench.analysis.measures import metrics
from bench.analysis.measures.groups import Measurements, measure
from bench.analysis.report import number_tables
from bench.analysis.report.report import print_summary, write_report

TOKENS = [(200.0, 201.0), (225.0, 226.0), (3725.0, 3726.0)]
PLAN = {
    "parallel": 4,
    "load": {"turns": 2, "think_s": 330.0, "silence_s": 100.0},
    "loads": {"short": {"turns": 1, "think_s": 0.0, "silence_s": None}},
    "stream": {"ttft_ms": 4000, "ttft_sigma": 0, "gap_ms": 500, "gap_sigma": 0, "tokens": 41},
    "streams": {
        "silence": {"ttft_ms": 4000, "ttft_sigma": 0, "gap_ms": 70e3, "gap_sigma": 0, "tokens": 48, "per_emission": 24}
    },
}
# The same as version 1 of run.json had it: answers and limits as they were to be, already divided.
PLAN_1 = PLAN | {
    "load": {"turns": 2, "think_s": 330.0, "silence_s": 5.0},
    "stream": {"ttft_ms": 200, "ttft_sigma": 0, "gap_ms": 25, "gap_sigma": 0, "tokens": 41},
    "streams": {
        "silence": {"ttft_ms": 200, "ttft_sigma": 0, "gap_ms": 3500, "gap_sigma": 0, "tokens": 48, "per_emission": 24}
    },
}


def arrived(**facts: Any) -> Message:
    return Message(TOKENS, facts=facts)


def cut(how: str = "fin", after_ms: float = 3000.0, **facts: Any) -> Message:
    """One token of three came, then the connection was cut."""
    noticed = {"drops": 1, "noticed_by": [how], "detection_ms": after_ms, "tokens_wasted": 2, "detail": f"{how}: cut"}
    return Message(TOKENS[:1], 3, "truncated", facts=noticed | facts)


def recovered(**facts: Any) -> Message:
    """The same cut, and the rest half a second later."""
    noticed = {"drops": 1, "noticed_by": ["fin"], "detection_ms": 3000.0, "recovery_ms": 500.0, "requests": 2}
    return Message(TOKENS, facts=noticed | facts)


@pytest.fixture
def run(tmp_path: Path) -> RunBuilder:
    """SSE behind an ALB: cut without help, saved by a heartbeat and by resuming; a WebSocket turned away by nginx."""
    builder = RunBuilder(tmp_path, {"plan": PLAN, "time_scale": 20.0})
    refused = Message([], 3, "http_error", facts={"detail": "status 426: upgrade", "requests": 1})
    silent: dict[str, object] = {"load": "short", "stream": "silence"}
    builder.cell("sse", 1, [arrived()] * 4, variant=silent)
    builder.cell("sse", 1, [cut()] * 3 + [arrived()], variant=silent, profile="aws-alb")
    builder.cell("sse", 1, [arrived()] * 4, variant={"heartbeat": 15, **silent}, profile="aws-alb")
    builder.cell("sse", 1, [recovered()] * 4, variant=silent, profile="aws-alb", recovery="resume")
    again: dict[str, Any] = {"recovery_ms": None, "tokens_duplicated": 6, "tokens_discarded": 6, "tokens_wasted": 5}
    builder.cell("sse", 1, [cut(**again)] * 4, variant=silent, profile="aws-alb", recovery="restart")
    builder.cell("websocket", 1, [refused] * 4, variant=silent, profile="nginx")
    builder.cell("polling", 1, [arrived()] * 4, profile="aws-alb")
    return builder


def maps_of(measured: Measurements) -> dict[tuple[str, ...], survival.SurvivalMap]:
    return {each.situation.words: each for each in survival.survival_maps(measured)}


def test_each_situation_has_a_map_of_its_own(run: RunBuilder) -> None:
    maps = maps_of(measure(run.write()))
    assert set(maps) == {(), ("load=short", "stream=silence")}
    silence = maps["load=short", "stream=silence"]
    assert silence.profiles == ["direct", "aws-alb", "nginx"]
    assert [way.title for way in silence.ways] == [
        "WebSocket",
        "SSE",
        "SSE heartbeat=15",
        "SSE · restart",
        "SSE · resume",
    ]
    spot = silence.spots[Way("sse"), "aws-alb"]
    assert (spot.complete, spot.messages) == (1, 4)
    assert spot.share.value == 0.25
    assert spot.share.lo == pytest.approx(0.0456, abs=0.0001)  # Wilson's, by hand
    assert spot.share.hi == pytest.approx(0.6994, abs=0.0001)
    assert silence.spot(Way("websocket"), "direct") is None


def test_cells_side_by_side_race_on_common_blocks_and_count_all_that_arrived(tmp_path: Path) -> None:
    """A rival void in block 3: its times are in no row, but who lost a message there lost it."""
    builder = RunBuilder(tmp_path, {"plan": PLAN | {"parallel": 4}})
    for block in (1, 2, 3):
        fate: dict[str, Any] = {"status": "void", "reasons": ["busy"]} if block == 3 else {}
        told = [arrived() if block < 3 else cut()] * 2
        record = builder.cell("sse", block, told, profile="nginx", failed_messages=2 * (block == 3))
        record.messages = len(told)
        builder.cell("websocket", block, [arrived()] * 2, profile="nginx", **fate)
    measured = measure(builder.write())
    assert {cell.blocks for cell in measured.cells} == {(1, 2)}
    (found,) = survival.survival_maps(measured)
    spots = {way.transport: (spot.complete, spot.messages) for (way, _), spot in found.spots.items()}
    assert spots == {"sse": (4, 6), "websocket": (4, 4)}
    assert found.spots[Way("sse"), "nginx"].harm == "lost 2 of 6 messages"
    said = {warning.code: warning.text for warning in run_warnings(measured)}
    assert said["common blocks"] == "Rows that race rest on the blocks in which all of them are valid: 1 and 2."
    sentence = verdicts(measured)[-1].sentence
    assert "1 valid cell of blocks in which a rival was void, whose times do not count: of 2 messages 2" in sentence


@pytest.mark.parametrize("version", [{"plan": PLAN, "schema": 2}, {"plan": PLAN_1, "schema": 1}], ids=["2", "1"])
def test_a_situation_is_described_by_its_pauses_and_silences_in_real_seconds(
    run: RunBuilder, version: dict[str, object]
) -> None:
    run.changes |= version
    maps = maps_of(measure(run.write()))
    conversation, silence = maps[()].situation, maps["load=short", "stream=silence"].situation
    assert conversation.title.replace("\u00a0", " ") == (
        "2 messages, 330 s apart; answers of 24 s, silent for up to 4 s; clients give up after 100 s without a byte"
    )
    assert silence.when.replace("\u00a0", " ") == "when the model is silent for up to 70 s"


def test_who_asks_is_no_remedy(run: RunBuilder) -> None:
    by: dict[str, object] = {"load": "short", "stream": "silence", "client": "browser"}
    run.cell("sse", 1, [arrived()] * 4, variant=by, profile="aws-alb")
    advice = {found.profile: found.sentence for found in _advice(run)}
    assert "fixed by a heartbeat" in advice["aws-alb"]
    assert "browser" not in advice["aws-alb"]


def test_the_advice_follows_from_what_arrived(run: RunBuilder) -> None:
    advice = {found.profile: found.sentence.replace("\u00a0", " ") for found in _advice(run)}
    assert advice["aws-alb"] == (
        "Behind aws-alb (AWS Application Load Balancer): with 330 s between messages, Polling got all 4 messages "
        "through; when the model is silent for up to 70 s, SSE lost 3 of 4 messages (fixed by a heartbeat every 15 s, "
        "or by resuming, not by starting again)."
    )
    assert advice["nginx"].endswith("WebSocket got nothing through (status 426).")
    assert "direct" not in advice, "nothing was lost there"


def test_other_measurements_give_other_advice(run: RunBuilder) -> None:
    run.cells = [c for c in run.cells if c[0].recovery == "none" and "heartbeat" not in c[0].variant]
    advice = {found.profile: found.sentence for found in _advice(run)}
    assert advice["aws-alb"].endswith("SSE lost 3 of 4 messages.")


@pytest.mark.parametrize(
    ("profiles", "through"),
    [
        (["aws-alb"], "through aws-alb: SSE."),
        (["nginx", "aws-alb"], "through aws-alb and nginx: SSE."),
        (["a", "b", "c", "d"], "through all 4 intermediaries: SSE."),
    ],
)
def test_a_few_intermediaries_are_named(tmp_path: Path, profiles: list[str], through: str) -> None:
    """“All 1 intermediary” is no English."""
    builder = RunBuilder(tmp_path)
    for profile in ["direct", *profiles]:
        builder.cell("sse", 1, [arrived()], profile=profile)
    assert (
        survival.survivors_sentence(survival.survival_maps(measure(builder.write())))
        == f"Brought every message {through}"
    )


def test_what_was_not_measured_as_it_is_says_with_what(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path, {"plan": PLAN})
    builder.cell("sse", 1, [arrived()] * 3, profile="nginx", recovery="resume")
    builder.cell("polling", 1, [cut()] * 3, variant={"interval": 0.1}, profile="nginx")
    (found,) = _advice(builder)
    assert found.sentence.endswith(
        "Polling with interval=0.1 lost 3 of 3 messages and SSE with resume got all 3 messages through."
    )


def test_a_cell_that_is_mostly_void_has_no_square(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path, {"plan": PLAN})
    builder.cell("sse", 1, [arrived()], profile="nginx")
    for block in (2, 3):
        builder.cell("sse", block, [cut()], profile="nginx", status="void")
    builder.cell("chunked", 1, [arrived()], profile="nginx")
    (only,) = survival.survival_maps(measure(builder.write()))
    assert [way.transport for way, _ in only.spots] == ["chunked"]


def test_strange_names_and_plans_that_say_little_are_no_trouble(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path, {"plan": {"load": {"turns": 2}, "loads": None}})
    builder.cell("sse", 1, [arrived()], profile="a/[/x]" + "y" * 60)
    builder.cell("sse", 1, [recovered()], variant={"heartbeat": "off"}, profile="<b>", recovery="again")
    folder = builder.write()
    summary = write_report(folder)
    console = Console(width=100, record=True, file=io.StringIO())
    print_summary(summary, console)
    assert "&lt;b&gt;" in folder.report_path.read_text()
    assert "<b>" not in folder.report_path.read_text()


def test_held_back_is_not_got_through(tmp_path: Path) -> None:
    """Two emissions, three seconds apart, in one read."""
    held = Message([(200.0, 3727.0), (3726.0, 3727.0)])
    builder = RunBuilder(tmp_path, {"plan": PLAN})
    builder.cell("sse", 1, [held] * 8, profile="corporate-proxy")
    (found,) = _advice(builder)
    assert found.sentence.endswith("SSE got all 8 messages through (but held back).")


def test_what_breaks_a_way_that_gets_through_is_said(tmp_path: Path) -> None:
    """A long poll that a balancer cuts, where a plain one is answered at once: no sentence may leave it to the map."""
    run = RunBuilder(tmp_path, {"plan": PLAN})
    run.cell("polling", 1, [arrived()] * 4, profile="envoy")
    run.cell("polling", 1, [cut()] * 4, variant={"wait": 20}, profile="envoy")
    (found,) = _advice(run)
    assert found.sentence.endswith("Polling got all 4 messages through (not with wait=20: lost 4 of 4 messages).")


def test_who_never_completes_loses_for_ever(run: RunBuilder) -> None:
    maps = maps_of(measure(run.write()))["load=short", "stream=silence"]
    resumed, restarted = (maps.spots[Way("sse", (), mode), "aws-alb"].cell for mode in ("resume", "restart"))
    assert metrics.estimate(resumed, "time_lost_ms_p50").value == 3500
    assert metrics.estimate(restarted, "time_lost_ms_p50").value == math.inf


@pytest.mark.parametrize("moved", [False, True])
def test_recorded_answers_have_a_report_too(tmp_path: Path, moved: bool) -> None:
    """Of a recording that is not there any more the rhythm is not known, and that is all."""
    recording = tmp_path / "answers.jsonl"
    recording.write_text('{"deltas": ["Hello", " there"]}\n')
    stream = {"profile": "fast", "ttft_ms": 1500, "ttft_sigma": 0, "recording": str(recording)}
    builder = RunBuilder(tmp_path, {"plan": {"stream": stream}})
    builder.cell("sse", 1, [recovered()] * 4, profile="nginx", recovery="resume")
    folder = builder.write()
    if moved:
        recording.unlink()
    write_report(folder)
    (only,) = survival.survival_maps(measure(folder))
    assert only.situation.when.replace("\u00a0", " ") == ("" if moved else "when the model is silent for up to 1.5 s")
    (found,) = survival.advice([only])
    assert ": , " not in found.sentence


def _two_loads(tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The two clauses about a profile that one load gets through, and the other does not."""
    builder = RunBuilder(tmp_path, {"plan": PLAN | {"load": ours, "loads": {"other": theirs}}})
    builder.cell("sse", 1, [arrived()] * 3, profile="nginx", recovery="resume")
    builder.cell("sse", 1, [cut()] * 3, variant={"load": "other"}, profile="nginx", recovery="resume")
    maps = survival.survival_maps(measure(builder.write()))
    titles = [each.situation.title for each in maps]
    assert len(set(titles)) == 2, titles
    (found,) = survival.advice(maps)
    return [clause.replace("\u00a0", " ") for clause in found.clauses]


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ({"silence_s": 9.0}, {"silence_s": 30.0}, ("wait no longer than 9 s,", "wait no longer than 30 s,")),
        ({"silence_s": None}, {"silence_s": 30.0}, ("clients wait for ever,", "clients wait no longer than 30 s,")),
        (
            {"token_silence_s": 9.0},
            {},
            ("clients wait no longer than 9 s for a token,", "clients wait for ever for a token,"),
        ),
        ({"fallback": ["sse"]}, {}, ("go over to sse,", "go over to websocket and then sse and then polling,")),
        ({"attempts": 2}, {}, ("give up after 2 attempts in a row,", "give up after 8 attempts in a row,")),
        ({"timeout_s": 20.0}, {"timeout_s": 40.0}, ("timeout_s is 20.0,", "timeout_s is 40.0,")),
        ({"streams": 4}, {"streams": 5}, ("streams is 4,", "streams is 5,")),
        ({"streams": 4, "attempts": 2}, {}, ("give up after 2 attempts in a row,", "8 attempts in a row,")),
        ({}, {}, ("load and stream are the plan's own,", "load=other,")),
        ({"silence_s": 30.0001}, {"silence_s": 30.0}, ("load and stream are the plan's own,", "load=other,")),
    ],
)
def test_loads_of_the_same_words_are_told_apart_by_what_differs(
    tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any], told: tuple[str, str]
) -> None:
    for clause, part in zip(_two_loads(tmp_path, ours, theirs), told, strict=True):
        assert clause.startswith("when the model is silent for up to 4 s and ")
        assert part in clause


def test_lost_repeated_and_late_are_different_words(tmp_path: Path) -> None:
    doubled = Message(TOKENS, outcome="duplicated", facts={"tokens_duplicated": 35, "detail": "35 tokens came again"})
    late = Message(TOKENS[:2], 3, "timeout", facts={"detail": "timeout: not complete 5 s after its intended start"})
    silent = Message(TOKENS[:2], 3, "timeout", facts={"detail": "silence: no byte for 2 s"})
    endless = Message(TOKENS, outcome="truncated", facts={"detail": "fin: "})
    builder = RunBuilder(tmp_path, {"plan": PLAN})
    builder.cell("sse", 1, [doubled] * 8, profile="nginx", recovery="resume")
    builder.cell("chunked", 1, [late] * 2 + [silent, endless], profile="nginx")
    builder.cell("websocket", 1, [cut()] * 2, profile="nginx")
    builder.cell("websocket", 1, [doubled, arrived()], profile="nginx", recovery="resume")
    builder.cell("websocket", 1, [cut()] * 2, profile="nginx", recovery="restart")
    (found,) = _advice(builder)
    clause = found.sentence.partition(" between messages, ")[2]
    assert "SSE with resume repeated tokens in 8 of 8 messages" in clause
    assert "Chunked brought 2 of 4 messages too late or never, lost 1 and brought 1 without an end" in clause
    assert (
        "WebSocket lost 2 of 2 messages (not by starting again, resuming repeated tokens in 1 of 2 messages)" in clause
    )


def _advice(run: RunBuilder) -> list[survival.ProfileAdvice]:
    return survival.advice(survival.survival_maps(measure(run.write())))


def test_what_coming_back_cost(run: RunBuilder) -> None:
    silence = maps_of(measure(run.write()))["load=short", "stream=silence"]
    resumed, restarted = (silence.spots[Way("sse", (), mode), "aws-alb"] for mode in ("resume", "restart"))
    assert survival.extra_requests(silence, resumed) == 1
    assert restarted.per_message("tokens_duplicated") == 6
    assert survival.how_noticed(restarted.cell.messages) == "fin 4×"
    turned_away = silence.spots[Way("websocket"), "nginx"]
    assert turned_away.never_opened
    assert math.isnan(survival.extra_requests(silence, turned_away))


def test_the_page_and_the_terminal_show_the_map_and_no_speed(run: RunBuilder) -> None:
    folder = run.write()
    summary = write_report(folder)
    html = folder.report_path.read_text()
    assert "Behind aws-alb (AWS Application Load Balancer)" in html
    assert "What survived" in html
    assert "Drops, and coming back" in html
    assert "Time to first token" not in html, "cells ran side by side"
    assert "CPU µs" not in html
    assert {path.stem for path in folder.charts_path.iterdir()} == {"survival", "recovery_cost"}
    console = Console(width=100, record=True, file=io.StringIO())
    print_summary(summary, console)
    text = console.export_text()
    assert "Messages complete: answers of" in text
    assert "25 %" in text
    assert "not by starting again" in text.replace("\n", " ").replace("  ", " ")
    assert summary.verdicts == []


def test_emulated_and_real_stand_side_by_side(tmp_path: Path) -> None:
    builder = RunBuilder(tmp_path)
    builder.cell("sse", 1, [cut(after_ms=3004.0)] * 3, profile="nginx")
    builder.cell("sse", 1, [cut(after_ms=3001.0)] * 3, profile="real:nginx")
    builder.cell("sse", 1, [arrived()], profile="real:haproxy")
    folder = builder.write()
    (pair,) = survival.twins(measure(folder))
    assert (pair.emulated.key.profile, pair.real.key.profile) == ("nginx", "real:nginx")
    assert pair.difference_ms == pytest.approx(3.0)
    write_report(folder)
    html = folder.report_path.read_text()
    assert "Emulated and real" in html
    assert ">fin 3×</td>" in html


def test_held_back_answers_ring_whatever_their_mean_gap_says(tmp_path: Path) -> None:
    """Ten tokens 50 ms apart, all received with the last one; beside it an answer that came as it was sent."""
    due = [100.0 + 50 * k for k in range(10)]
    held, prompt = Message([(d, 560.0) for d in due]), Message([(d, d + 1) for d in due])
    builder = RunBuilder(tmp_path)
    builder.cell("sse", 1, [held] * 8, profile="corporate-proxy")
    builder.cell("sse", 1, [prompt] * 8)
    builder.cell("polling", 1, [held] * 8)  # bursts are what polling is
    builder.cell("chunked", 1, [Message(held.tokens, facts={"drops": 1})] * 8)  # a backlog after a drop comes at once
    builder.cell("sse", 1, [held] * 8, variant={"unread": 5})  # it is the client that holds them back
    polled = Message(held.tokens, facts={"attempts": 2, "finished_by": "polling"})
    builder.cell("websocket", 1, [polled] * 8, recovery="fallback")
    folder = builder.write()
    (alarm,) = buffering_alarm.held_back(measure(folder))
    assert alarm.key.profile == "corporate-proxy"
    assert (alarm.held, alarm.answers, alarm.emissions, alarm.reads) == (8, 8, 10, 1)
    assert (alarm.gap_model_ms, alarm.gap_client_ms) == (50, 0)
    assert "10 chunks sent, 1 received (medians); the mean inter-token gap hides this" in alarm.sentence
    write_report(folder)
    assert "buffered in 8 of 8 answers" in folder.report_path.read_text()


def test_who_finished_the_messages_of_another_transport_is_told(tmp_path: Path) -> None:
    """The row is that of the transport they began with, and a refused upgrade is no drop."""
    causes = ["websocket status 403", "sse silence"]
    facts = {"attempts": 3, "drops": 1, "noticed_by": ["silence"], "causes": causes, "finished_by": "polling"}
    refused = Message(arrived().tokens, facts={"attempts": 2, "causes": causes[:1], "finished_by": "sse"})
    builder = RunBuilder(tmp_path)
    builder.cell("websocket", 1, [Message(arrived().tokens, facts=facts), refused, refused], recovery="fallback")
    builder.cell("polling", 1, [arrived()])
    folder = builder.write()
    table = number_tables.drops_table(measure(folder).cells)
    ((name, cells),) = [(row.title, row.cells) for row in table.rows]
    shown = dict(zip((title for title, _ in table.headings), (text for text, _ in cells), strict=True))
    assert name == "WebSocket · fallback"
    assert (shown["noticed by"], shown["finished by"]) == ("silence 1×", "SSE 2×, Polling 1×")
    assert shown["attempts per message"] == "2.33"


@pytest.mark.parametrize("how", ["silence", "token silence"])
def test_a_silence_limit_that_strikes_with_nothing_in_between_is_a_false_alarm(tmp_path: Path, how: str) -> None:
    builder = RunBuilder(tmp_path)
    builder.cell("sse", 1, [cut(how), arrived()])
    builder.cell("sse", 1, [cut("silence")], profile="mobile-nat")  # there it may well be right
    (alarm,) = [warning for warning in run_warnings(measure(builder.write())) if warning.code == "false alarms"]
    assert alarm.text.endswith("gave up living connections: SSE 1.")


def test_a_behaviour_that_never_struck_is_said_so(tmp_path: Path) -> None:
    struck = {"aws-alb": {"idle_timeout": 3, "max_age": 0}, "aws-nlb": {"idle_timeout": 1}}
    builder = RunBuilder(tmp_path, {"behaviours_struck": struck})
    builder.cell("sse", 1, [arrived()], profile="aws-alb")
    (note,) = [warning for warning in run_warnings(measure(builder.write())) if warning.code == "never struck"]
    assert note.text.endswith("which says nothing of them: aws-alb: max_age.")


def test_the_proxy_is_a_stage_of_its_own(tmp_path: Path) -> None:
    """Tokens reach the client 1 ms after they were sent, and 3 ms after behind a proxy: 2 ms are the proxy's."""
    builder = RunBuilder(tmp_path)
    for block in (1, 2):
        builder.cell("sse", block, [Message([(10.0, 11.0), (20.0, 21.0)])])
        builder.cell("sse", block, [Message([(10.0, 13.0), (20.0, 23.0)])], profile="none")
    table = number_tables.stage_table(measure(builder.write()).cells)
    assert table.title == "Where the delay comes from"
    assert [row.cells[-1] for row in table.rows] == [("–", ""), ("2.00", "")]  # bins are 0.1 % wide
