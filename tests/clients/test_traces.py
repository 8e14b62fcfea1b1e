"""Request traces as they are published, and what is said of files that are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from clients.arrivals import plan_messages
from clients.job import Load
from clients.traces import TraceError, read_trace

STREAM: dict[str, object] = {"profile": "fast"}
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


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
    monkeypatch.setattr("clients.traces.MAX_TRACE_ROWS", 2)
    path = trace(tmp_path, HEADER + "0,1,5\n1,1,5\n2,1,5\n")
    assert len(read_trace(path, 2)) == 2
    with pytest.raises(TraceError, match="more than 2 requests within 300 s; lower trace_s"):
        read_trace(path, 300)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: no column TIMESTAMP, ContextTokens, GeneratedTokens; Azure's columns are TIMESTAMP,"),
        ("TIMESTAMP,ContextTokens\n", "line 1: no column GeneratedTokens"),
        (HEADER, "no requests in it"),
        (HEADER + "yesterday,1,2\n", "line 2: TIMESTAMP takes a date and time or seconds, not 'yesterday'"),
        (
            HEADER + "2023-11-16 18:15:46,1,2\n2023-11-16 18:15:47,1,many\n",
            "line 3: GeneratedTokens takes a number of tokens",
        ),
        (HEADER + "2023-11-16 18:15:46,1,-2\n", "line 2: GeneratedTokens is negative"),
        (HEADER + "2023-11-16 18:15:46\n", "line 2: no GeneratedTokens in it"),
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


def test_a_trace_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    path = trace(tmp_path, "")
    path.write_bytes(gzip.compress(HEADER.encode()))
    with pytest.raises(TraceError, match="not UTF-8 text"):
        read_trace(path, 300)


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"load\.trace: .*nowhere\.csv: No such file"):
        read_trace(tmp_path / "nowhere.csv", 300)


# ---- other formats


def test_burstgpts_columns_are_read_in_any_order(tmp_path: Path) -> None:
    rows = "5,ChatGPT,472,18,490,API log\n45.5,GPT-4,1087,0,1087,API log\n118,ChatGPT,417,276,693,API log\n"
    assert read_trace(trace(tmp_path, BURST + rows), 300) == ((0.0, 18), (40.5, 1), (113.0, 276))
    session = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    assert read_trace(trace(tmp_path, session + "5,,1.2,ChatGPT,472,18,490,API log\n"), 60) == ((0.0, 18),)


def test_mooncakes_lines_are_in_milliseconds(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 27482, "input_length": 655, "output_length": 52, "hash_ids": list(range(9000))},
        {"timestamp": 27482, "input_length": 1, "output_length": 0},
        {"timestamp": 30535.5, "input_length": 1, "output_length": 99_999},
    ]
    path = trace(tmp_path, "\ufeff" + "\n\n".join(map(json.dumps, rows)) + "\n")
    assert len(path.read_text()) > 4096
    assert read_trace(path, 300) == ((0.0, 52), (0.0, 1), (3.0535, 20_000))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Timestamp,Model,Request tokens\n", "line 1: no column Response tokens; Azure's columns are"),
        ("a,b\n1,2\n", "BurstGPT's Timestamp,Request tokens,Response tokens, Mooncake's lines are JSON"),
        (BURST + "5,ChatGPT,1,x,1,y\n", "line 2: Response tokens takes a number of tokens, not 'x'"),
        (BURST + "5,ChatGPT,1,,1,y\n", "line 2: no Response tokens in it"),
        (
            BURST + "5,ChatGPT,1,1,1,y\n4,ChatGPT,1,1,1,y\n",
            "line 3: earlier than the row before it; sort the rows by Timestamp",
        ),
        ('{"timestamp": 1, "input_length": 5}\n', "line 1: no output_length, as Mooncake's lines have"),
        ('{"deltas": ["a"]}\n', "no timestamp, output_length, as Mooncake's lines have (that is a recording"),
        ('{"timestamp": 1, "output_length": 5}\n\n[1]\n', "line 3: no timestamp, output_length"),
        ('{"timestamp": 1, "output_length": 5}\n{"timest', "line 2: "),
        ('{"timestamp": "now", "output_length": 5}\n', "line 1: timestamp takes milliseconds, not 'now'"),
        ('{"timestamp": true, "output_length": 5}\n', "line 1: timestamp takes milliseconds"),
        ('{"timestamp": 1e300, "output_length": 5}\n', "line 1: timestamp takes milliseconds"),
        ('{"timestamp": 1, "output_length": -5}\n', "line 1: output_length is negative"),
        ('{"timestamp": 1, "output_length": 1.5}\n', "line 1: output_length takes a number of tokens"),
        ('{"timestamp": 1, "output_length": null}\n', "line 1: no output_length in it"),
        ('{"timestamp": 2, "output_length": 1}\n{"timestamp": 1, "output_length": 1}\n', "line 2: earlier than"),
        ("{" + "[" * 5000, "line 1: "),
    ],
)
def test_what_is_none_of_them_is_told_from_them(tmp_path: Path, text: str, complaint: str) -> None:
    path = trace(tmp_path, text)
    with pytest.raises(TraceError) as error:
        read_trace(path, 300)
    assert str(path) in str(error.value)
    assert complaint in str(error.value)
