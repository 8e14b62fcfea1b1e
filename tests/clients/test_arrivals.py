"""Arrivals: known answers, so that a change in any Python version shows; shapes; traces."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean, stdev

import pytest

from clients.arrivals import TraceError, gamma_variate, plan_messages, plan_warmup, read_trace
from clients.job import Arrivals, Load
from servers.stream import message_seed

STREAM: dict[str, object] = {"profile": "fast"}
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def offsets_ns(load: Load, seed: int = 1, block: int = 0) -> list[int]:
    return [message.offset_ns or 0 for message in plan_messages(load, STREAM, seed, block)]


@pytest.mark.parametrize(
    ("arrivals", "first_us"),
    [
        ("constant", [50_000, 100_000, 150_000]),
        ("poisson", [30_139, 50_706, 78_636]),
        ("gamma", [12_548, 20_805, 24_131]),
        ("closed", [0, 0, 0]),
    ],
)
def test_the_first_arrivals_are_always_the_same(arrivals: Arrivals, first_us: list[int]) -> None:
    assert offsets_ns(Load(arrivals=arrivals, streams=30))[:3] == [us * 1000 for us in first_us]


def test_gamma_variates_are_always_the_same() -> None:
    draws = [gamma_variate(shape, Random(f"known/{shape}").random) for shape in (0.37, 1.0, 2.5)]
    assert [round(draw, 9) for draw in draws] == [0.067965203, 0.316990326, 2.607936843]


@pytest.mark.parametrize(("arrivals", "cv"), [("poisson", 1.0), ("gamma", 1.64), ("constant", 0.0)])
def test_rate_and_burstiness(arrivals: Arrivals, cv: float) -> None:
    starts = offsets_ns(Load(arrivals=arrivals, streams=20_000, rate_per_s=50))
    gaps_s = [(b - a) / 1e9 for a, b in pairwise(starts)]
    assert mean(gaps_s) == pytest.approx(1 / 50, rel=0.05)
    assert stdev(gaps_s) / mean(gaps_s) == pytest.approx(cv, abs=0.08)


@pytest.mark.parametrize("shape", [0.2, 1.0, 4.0])
def test_gamma_variates_have_their_mean_and_variance(shape: float) -> None:
    uniform = Random("x").random
    draws = [gamma_variate(shape, uniform) for _ in range(20_000)]
    assert mean(draws) == pytest.approx(shape, rel=0.05)
    assert stdev(draws) ** 2 == pytest.approx(shape, rel=0.1)


def test_every_cell_of_a_block_gets_the_same_and_another_block_other_messages() -> None:
    load = Load(streams=5)
    assert plan_messages(load, STREAM, 1, 0) == plan_messages(load, STREAM, 1, 0)
    first, other = plan_messages(load, STREAM, 1, 0), plan_messages(load, STREAM, 1, 1)
    assert {m.seed for m in first}.isdisjoint(m.seed for m in other)
    assert [m.offset_ns for m in first] != [m.offset_ns for m in other]
    assert [m.seed for m in first] == [message_seed(1, 0, k) for k in range(5)]
    assert [m.k for m in first] == list(range(5))


def test_conversations_have_turns_and_the_last_may_be_short() -> None:
    messages = plan_messages(Load(streams=7, turns=3), STREAM, 1, 0)
    assert [(m.conversation, m.turn) for m in messages] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert [m.offset_ns is None for m in messages] == [False, True, True, False, True, True, False]


def test_a_closed_loop_is_so_many_conversations_that_start_at_once() -> None:
    messages = plan_messages(Load(arrivals="closed", streams=10, concurrency=4), STREAM, 1, 0)
    assert len(messages) == 10
    assert {m.conversation for m in messages} == {0, 1, 2, 3}
    assert [m.offset_ns for m in messages if m.turn == 0] == [0] * 4


def test_warm_up_messages_are_short_and_others() -> None:
    load = Load(streams=50, warmup_streams=3)
    warmup, measured = plan_warmup(load, STREAM, 1, 0), plan_messages(load, STREAM, 1, 0)
    assert [m.stream["tokens"] for m in warmup] == [16, 16, 16]
    assert {m.seed for m in warmup}.isdisjoint(m.seed for m in measured)
    assert plan_warmup(Load(warmup_streams=0), STREAM, 1, 0) == []


def trace(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_trace_gives_arrivals_and_lengths(tmp_path: Path) -> None:
    rows = ["2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:47.0000000,1,0"]
    rows += ["2023-11-16 18:15:50.9951690,396,109", "2023-11-16 18:20:50,1,99999"]
    path = trace(tmp_path, "\ufeff" + HEADER + "\r\n".join(rows) + "\r\n")
    assert read_trace(path, 300) == ((0.0, 44), (0.31941, 1), (4.314579, 109))
    assert read_trace(path, 1e9)[-1] == (303.31941, 20_000)
    messages = plan_messages(Load(arrivals="trace", trace=str(path), speed_up=2), STREAM, 1, 0)
    assert [(m.offset_ns, m.stream) for m in messages][1:] == [
        (159_705_000, {"profile": "fast", "tokens": 1}),
        (2_157_290_000, {"profile": "fast", "tokens": 109}),
    ]


def test_a_trace_in_seconds(tmp_path: Path) -> None:
    path = trace(tmp_path, HEADER + "0,1,5\n0.25,1,6\n1e1,1,7\n99,1,8\n")
    assert read_trace(path, 60) == ((0.0, 5), (0.25, 6), (10.0, 7))
    path.write_text(HEADER + "1700000000.5,1,5\n1700000001.75,1,6\n")  # seconds since 1970; changed, so read anew
    assert read_trace(path, 60) == ((0.0, 5), (1.25, 6))


def test_no_more_of_a_trace_is_read_than_is_in_use(tmp_path: Path) -> None:
    path = trace(tmp_path, HEADER + "0,1,5\n1,1,6\n500,1,7\n" + "not a row\n" * 3)
    assert len(read_trace(path, 300)) == 2
    with pytest.raises(TraceError, match="line 5"):
        read_trace(path, 3600)


def test_a_trace_is_read_once(tmp_path: Path) -> None:
    path = trace(tmp_path, HEADER + "0,1,5\n")
    assert read_trace(path, 300) is read_trace(path, 300)


def test_more_of_a_trace_than_a_cell_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.arrivals.MAX_TRACE_ROWS", 2)
    path = trace(tmp_path, HEADER + "0,1,5\n1,1,5\n2,1,5\n")
    assert len(read_trace(path, 2)) == 2
    with pytest.raises(TraceError, match="more than 2 requests within 300 s; lower trace_s"):
        read_trace(path, 300)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        ("TIMESTAMP,ContextTokens\n", "line 1: no column GeneratedTokens"),
        (HEADER, "no requests in it"),
        (HEADER + "yesterday,1,2\n", "line 2: Invalid isoformat string"),
        (HEADER + "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:47,1,many\n", "line 3: invalid literal"),
        (HEADER + "2023-11-16 18:15:46,1,-2\n", "line 2: GeneratedTokens is negative"),
        (HEADER + "2023-11-16 18:15:46\n", "line 2: "),
        (HEADER + "2023-11-16 18:15:47,1,2\n2023-11-16 18:15:46,1,2\n", "line 3: earlier than the row before it"),
        (HEADER + "nan,1,2\n", "line 2: TIMESTAMP takes a date and time or seconds, not 'nan'"),
        (HEADER + f"{10**18},1,2\n", "line 2: TIMESTAMP takes"),
        (HEADER + f"1,1,{'9' * 5000}\n", "line 2: longer than 4096 characters"),
        (HEADER + f"1,1,{'9' * 50}\n", "line 2: GeneratedTokens takes a number of tokens"),
    ],
)
def test_a_trace_that_cannot_be_read_names_file_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = trace(tmp_path, text)
    with pytest.raises(TraceError) as error:
        read_trace(path, 300)
    assert str(path) in str(error.value)
    assert complaint in str(error.value)


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"load\.trace: .*nowhere\.csv: No such file"):
        read_trace(tmp_path / "nowhere.csv", 300)
