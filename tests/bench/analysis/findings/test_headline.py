"""The headline answers "which transport?", and claims what the scoreboard does."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from support.runs import Message, RunBuilder

from bench.analysis.findings import scoreboard
from bench.analysis.findings.headline import headline
from bench.analysis.measures.groups import measure
from bench.analysis.statistics.wording import counted
from bench.analysis.synthetic import Caricature, synthetic_run

POLLING = Caricature("polling", "", "pull", 1000, cpu_us=25)
SSE = Caricature("sse", delay_ms=0.5, cpu_us=10)


def said(folder: Path, *field: Caricature, blocks: int = 6) -> str:
    return headline(measure(synthetic_run(folder, blocks=blocks, messages=12, tokens=12, field=field)))


def test_those_that_nobody_can_feel_apart_are_told_apart_by_cost(tmp_path: Path) -> None:
    """2 ms are behind on the board, but nobody feels them; 3 times the CPU is what is left to choose by."""
    slower = Caricature("websocket", delay_ms=2, cpu_us=30)
    take, late, cost = said(tmp_path, slower, SSE, POLLING).replace(". Cost", "; Cost").split("; ")
    assert take.startswith("Take SSE or WebSocket: they are within ")
    assert take.endswith(" ms of the best at first token and smoothness")
    assert late.startswith("Polling is late by ")
    assert " ms with the first token (" in late
    assert cost.startswith("Cost tells them apart: least CPU with SSE (WebSocket 3.")


def test_a_difference_that_is_felt_names_one(tmp_path: Path) -> None:
    first, _, cost = said(tmp_path, Caricature("websocket", cpu_us=30), Caricature("sse", delay_ms=40)).partition(". ")
    assert first.startswith("Take WebSocket: it leads at first token and smoothness; SSE is late by 4")
    assert cost.startswith("It costs more than the cheapest in CPU (3.")
    assert cost.endswith(" times SSE's).")


def test_what_cannot_be_judged_as_a_ratio_may_still_be_too_little_to_feel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval from 0.8 to 2.6 times 2 ms says nothing of who is ahead, and that nobody can feel it."""
    monkeypatch.setattr(scoreboard, "MOST_LEVEL", 1.0)  # so nobody is as good as the best by its interval
    found = said(tmp_path, Caricature("websocket", delay_ms=0.5), SSE, POLLING)
    assert found.startswith(("Take SSE or WebSocket: they are within ", "Take WebSocket or SSE: they are within "))
    assert "not judged" not in found


def test_who_is_good_at_one_thing_is_not_simply_called_not_judged(tmp_path: Path) -> None:
    """Heavy tails: WebSocket is best or as good at the first token on the board, and open at smoothness alone."""
    chance, run = random.Random(1), RunBuilder(tmp_path)
    for block in range(1, 8):
        for transport, scale in (("sse", 1), ("websocket", 1), ("chunked", 3)):
            late = [scale * chance.paretovariate(0.7) for _ in range(30)]
            run.cell(transport, block, [Message([(100, 100 + x), (110, 111 + x), (120, 121 + x)]) for x in late])
    measured = measure(run.write())
    first = next(row for row in scoreboard.scoreboard(measured) if row.id == "first_token")
    assert {square.key.title: square.standing for square in first.squares}["WebSocket"] in ("best", "level")
    assert headline(measured).endswith("; WebSocket is not judged at smoothness.")


def test_the_best_of_those_judged_is_no_more_than_that(tmp_path: Path) -> None:
    """The soonest one lacks every second block, and takes no part in the race; its number stands beside the others."""
    run, chance = RunBuilder(tmp_path), random.Random(1)
    for block in range(1, 11):
        for transport, late_ms in (("websocket", 1), ("polling", 400), ("blocking", 140)):
            late = [late_ms * (1 + chance.random() / 10) for _ in range(6)]
            status = "void" if transport == "websocket" and block % 3 else "ok"
            messages = [Message([(100, 100 + x), (110, 110 + x), (120, 120 + x)]) for x in late]
            run.cell(transport, block, messages, status=status)
    measured = measure(run.write())
    first = next(row for row in scoreboard.scoreboard(measured) if row.id == "first_token")
    websocket = next(square for square in first.squares if square.key.transport == "websocket")
    assert websocket.standing == "not judged"
    assert websocket.estimate.value < first.squares[0].estimate.value
    assert headline(measured).startswith("Of those judged, take Blocking: ")
    assert "WebSocket is not judged" in headline(measured)


def test_who_loses_messages_is_not_to_be_taken(tmp_path: Path) -> None:
    found = said(tmp_path, Caricature("websocket", delay_ms=0.1, failing=1.0), SSE, POLLING)
    assert found.startswith("Take SSE: ")
    assert "0 % of WebSocket's messages arrived whole" in found


def test_one_that_has_nobody_to_compare_with_is_not_recommended(tmp_path: Path) -> None:
    found = said(tmp_path, Caricature("websocket", failing=1.0), SSE)
    assert found.startswith("Only SSE can be judged at first token and smoothness; 0 % of WebSocket's messages")


@pytest.mark.parametrize("blocks", [1, 3])
def test_without_blocks_enough_nobody_is_named(tmp_path: Path, blocks: int) -> None:
    assert (
        said(tmp_path, SSE, POLLING, blocks=blocks)
        == f"This run tells no transport from another: {counted(blocks, 'valid block')}, 5 needed."
    )


def test_where_nothing_got_through_nobody_is_named(tmp_path: Path) -> None:
    lost = (Caricature(name, failing=1.0) for name in ("sse", "websocket"))
    most = "not one message arrived whole, and 99 % are needed."
    assert said(tmp_path, *lost) == f"Too much was lost to judge speed or cost: {most}"


def whole(delay_ms: float = 1, count: int = 6) -> list[Message]:
    return [Message([(100, 100 + delay_ms), (110, 110 + delay_ms)]) for _ in range(count)]


def test_whom_it_names_is_said_to_lose_messages_elsewhere(tmp_path: Path) -> None:
    """Behind a balancer alone: no race, since nobody else is there, and still the reader has to know."""
    run, cut = RunBuilder(tmp_path), Message([(100, 101)], 2, "truncated")
    for block in range(1, 7):
        run.cell("sse", block, whole())
        run.cell("websocket", block, whole())
        run.cell("sse", block, [*whole(count=3), *[cut] * 9], profile="aws-alb")
        run.cell("sse", block, whole(), profile="aws-alb", recovery="resume")
    assert headline(measure(run.write())).endswith(
        "Not so everywhere: behind aws-alb 25 % of SSE's messages arrived whole."
    )


def test_whom_it_names_is_said_to_be_late_elsewhere(tmp_path: Path) -> None:
    """And a name has no words that its whole group has."""
    run, chance = RunBuilder(tmp_path), random.Random(1)
    for block in range(1, 7):
        for load, delay_ms in (("bursty", 1), ("calm", 90)):
            run.cell("websocket", block, whole(delay_ms + chance.random() / 10), variant={"load": load})
            run.cell("sse", block, whole(1 + chance.random() / 10), variant={"load": load})
    said = headline(measure(run.write()))
    assert re.match(r"load=bursty: Take (SSE or WebSocket|WebSocket or SSE): ", said)
    assert re.search(r"Not so everywhere: with load=calm WebSocket is late by 90\.\d ms with the first token \(", said)


def test_some_messages_lost_are_named_though_it_could_be_chance(tmp_path: Path) -> None:
    run, lost = RunBuilder(tmp_path), Message([(100, 101)], 2, "truncated")
    for block in range(1, 7):
        run.cell("sse", block, whole(count=40))
        run.cell("websocket", block, [*whole(count=39), lost if block == 1 else whole()[0]])
    assert "; WebSocket lost messages (the difference could be chance: 239 of 240 messages arrived whole)" in headline(
        measure(run.write())
    )


def test_endpoints_are_judged_as_their_users_wait(tmp_path: Path) -> None:
    """None of them tells when its model made a token; how long the first one took is known all the same."""
    run, chance = RunBuilder(tmp_path), random.Random(1)
    unknown = {"ttft_scheduled_ns": -1}
    for block in range(1, 7):
        for model, ttft_ms in (("a", 100), ("b", 300)):
            late = [ttft_ms + 5 * chance.random() for _ in range(12)]
            messages = [Message([(x, x), (x + 10, x + 10)], facts=unknown) for x in late]
            run.cell("openai", block, messages, variant={"model": model})
    measured = measure(run.write())
    said = headline(measured)
    assert said.startswith("Take OpenAI endpoint model=a: ")
    assert "OpenAI endpoint model=b is behind at first token: 30" in said
    first = next(row for row in scoreboard.scoreboard(measured) if row.id == "first_token")
    assert first.column == "ttft_ms_p50"
    assert first.sentence.startswith("First token (first token p50): ")


def test_beside_one_that_tells_its_model_s_time_an_endpoint_is_not_judged(tmp_path: Path) -> None:
    """Its model is another one: what it takes must not look like its transport's time."""
    run = RunBuilder(tmp_path)
    for block in range(1, 7):
        run.cell("sse", block, whole())
        run.cell("chunked", block, whole())
        run.cell("openai", block, [Message([(500, 500), (510, 510)], facts={"ttft_scheduled_ns": -1})])
    (first, *_) = scoreboard.scoreboard(measure(run.write()))
    assert first.column == "ttft_overhead_ms_p50"
    (endpoint,) = [square for square in first.squares if square.key.transport == "openai"]
    assert (endpoint.standing, endpoint.reason) == (
        "not judged",
        "nobody tells when this endpoint's model made its tokens",
    )


def test_a_run_that_cannot_tell_says_why(tmp_path: Path) -> None:
    run = RunBuilder(tmp_path, {"name": "locust"})
    for block in range(1, 7):
        run.cell("sse", block, whole())
        run.cell("websocket", block, whole(50))
    assert headline(measure(run.write())) == (
        "This run tells no transport from another: its blocks are slices of one test, not rounds in random order."
    )
