"""The schedule: the same on every machine and Python, with the statistics that the sources give."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servers import recording
from servers.chunked import wire as chunked
from servers.messages import MAX_COUNT, encode_token, json_text
from servers.sse import wire as sse
from servers.stream import PROFILES, StreamSpec, build, message_seed
from servers.text import prose, split
from servers.text.hazards import LARGE, SMALL, hazards
from servers.user_errors import StreamError

# Written down once: a change here means that runs before and after it cannot be compared.
KNOWN_DIGESTS = {
    "hosted": "5d9981ffbc4e1818",
    "fast": "7345af386ed1a53d",
    "slow": "e41683556c48819f",
    "article": "babb61af618cc90f",
    "speculative": "22be1cf2413b3231",
    "hazards": "846eba55172d8262",
}


def digest(profile: str, seed: int) -> str:
    value = hashlib.sha256()
    build(PROFILES[profile], seed).update_digest(value)
    return value.hexdigest()[:16]


@pytest.mark.parametrize("profile", PROFILES)
def test_known_answer(profile: str) -> None:
    assert digest(profile, 42) == KNOWN_DIGESTS[profile]


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests/servers'); from test_stream import digest; print(digest('hosted', 42))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert printed.stdout.strip() == KNOWN_DIGESTS["hosted"]


def test_seeds_give_different_answers_and_fit_json_readers() -> None:
    assert len({digest("hosted", seed) for seed in range(20)}) == 20
    seeds = {message_seed(run, block, k) for run in range(3) for block in range(3) for k in range(100)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_due_times_never_go_back_and_start_with_the_ttft() -> None:
    for profile, spec in PROFILES.items():
        schedule = build(spec, 1)
        assert schedule.due_ns[0] == schedule.ttft_ns, profile
        assert list(schedule.due_ns) == sorted(schedule.due_ns)
        assert schedule.duration_ns == schedule.due_ns[-1]
        assert schedule.n == len(schedule.due_ns)
        assert schedule.sha256 == hashlib.sha256("".join(schedule.texts).encode()).hexdigest()


def test_hosted_has_the_medians_of_its_sources() -> None:
    schedules = [build(PROFILES["hosted"], seed) for seed in range(800)]
    assert statistics.median(s.ttft_ns for s in schedules) / 1e6 == pytest.approx(600, rel=0.05)
    lengths = sorted(s.n for s in schedules)
    assert statistics.median(lengths) == pytest.approx(187, rel=0.12)
    assert lengths[int(0.9 * 800)] == pytest.approx(669, rel=0.15)
    gaps = [b - a for s in schedules[:100] for a, b in zip(s.due_ns, s.due_ns[1:], strict=False)]
    assert statistics.median(gaps) / 1e6 == pytest.approx(12, rel=0.02)


def test_the_article_s_answer_lasts_half_a_minute() -> None:
    for seed in range(20):
        assert build(PROFILES["article"], seed).duration_ns / 1e9 == pytest.approx(30, rel=0.05)


@pytest.mark.parametrize(
    ("parameters", "mean"),
    [
        ({"flush": "fixed", "per_emission": 4}, 4.0),
        ({"flush": "geometric", "per_emission": 2.7}, 2.7),
        ({"flush": "speculative", "draft_tokens": 3, "acceptance": 0.7}, 2.533),  # (1 - .7^4) / (1 - .7)
    ],
)
def test_tokens_per_emission(parameters: dict[str, object], mean: float) -> None:
    schedule = build(StreamSpec.parse({"tokens": 20_000, **parameters}), 1)
    assert schedule.n / len(set(schedule.due_ns)) == pytest.approx(mean, rel=0.03)


def test_stalls_are_added_to_gaps() -> None:
    spec = {"tokens": 1000, "gap_sigma": 0, "stall_probability": 0.1, "stall_ms": 500}
    due_ns = build(StreamSpec.parse(spec), 1).due_ns
    stalls = sum(b - a > 400e6 for a, b in itertools.pairwise(due_ns))
    assert stalls == pytest.approx(100, rel=0.35)


def test_one_parameter_leaves_the_other_draws_alone() -> None:
    plain, slower = build(StreamSpec.parse({"tokens": 50}), 9), build(StreamSpec.parse({"tokens": 50, "gap_ms": 24}), 9)
    assert plain.texts == slower.texts
    assert plain.ttft_ns == slower.ttft_ns


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("warp", "warp"),
        (5, "stream"),
        ({"profile": 5}, "profile"),
        ({"tokenz": 5}, "tokens"),
        ({"tokens": 0}, "tokens"),
        ({"tokens": 20_001}, "20000"),
        ({"tokens": 10**400}, "tokens"),
        ({"gap_ms": float("nan")}, "gap_ms"),
        ({"gap_ms": "12"}, "gap_ms"),
        ({"flush": "never"}, "speculative"),
        ({"text": "poem"}, "hazards"),
        ({"recording": "nope"}, "--recording"),
        ({"tokens": 20_000, "gap_ms": 60_000}, "3600"),
    ],
)
def test_wrong_parameters_are_named(value: object, named: str) -> None:
    with pytest.raises(StreamError, match=named):
        build(StreamSpec.parse(value), 0)


def test_the_wire_format_s_example_says_what_a_server_answers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    texts, due_ns, sha256 = re.findall(r"# (?:.*: )?([\"(0-9].*)", example)
    schedule = names["schedule"]
    assert schedule.texts == ast.literal_eval(texts)
    assert str(list(schedule.due_ns)).startswith("[" + due_ns.rstrip("…, "))
    assert schedule.sha256 == ast.literal_eval(sha256)


# ---- text


def test_the_prose_has_the_shape_of_real_tokens() -> None:
    tokens = prose()
    assert 1000 < len(tokens) < 3000
    assert statistics.mean(map(len, tokens)) == pytest.approx(4.96, rel=0.06)
    assert sum(t.startswith(" ") for t in tokens) / len(tokens) == pytest.approx(0.72, abs=0.02)
    assert sum("\n" in t for t in tokens) / len(tokens) == pytest.approx(0.03, abs=0.005)
    assert max(map(len, tokens)) <= 16


def test_splitting_loses_nothing() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "".join(split(text)) == text


def test_every_hazard_stands_beside_every_other() -> None:
    tokens = hazards()
    pairs = set(itertools.pairwise(tokens))
    assert {(a, b) for a in SMALL for b in SMALL} <= pairs
    assert tokens[-len(LARGE) :] == LARGE
    for token in tokens:
        token.encode("utf-8")


# ---- recordings


@pytest.fixture
def recorded(tmp_path: Path) -> recording.Recording:
    path = tmp_path / "recorded.jsonl"
    path.write_text('{"deltas": ["a", " b", "", " c"]}\n\n{"deltas": ["x", "y"]}\n', encoding="utf-8")
    known = recording.load_recording(path)
    recording.register(known)
    return known


def test_a_recording_is_replayed_as_it_was(recorded: recording.Recording) -> None:
    seen = {tuple(build(StreamSpec.parse({"recording": recorded.id}), seed).texts) for seed in range(20)}
    assert seen == {("a", " b", "", " c"), ("x", "y")}


def test_a_recording_can_be_brought_to_a_length(recorded: recording.Recording) -> None:
    texts = {tuple(build(StreamSpec.parse({"recording": recorded.id, "tokens": 5}), seed).texts) for seed in range(20)}
    assert texts == {("a", " b", "", " c", "x"), ("x", "y", "a", " b", "")}


@pytest.fixture
def timed(tmp_path: Path) -> recording.Recording:
    path = tmp_path / "timed.jsonl"
    lines = ({"deltas": ["a", " b", " c"], "at_ms": [100, 100.0625, 400]}, {"deltas": ["x"], "at_ms": [50.5]})
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    known = recording.load_recording(path)
    recording.register(known)
    return known


def test_recorded_times_are_replayed(timed: recording.Recording) -> None:
    def due_ms(seed: int, **more: object) -> tuple[float, ...]:
        schedule = build(StreamSpec.parse({"recording": timed.id, "times": True} | more), seed)
        return tuple(ns / 1e6 for ns in schedule.due_ns)

    assert {due_ms(seed) for seed in range(20)} == {(100, 100.062, 400), (50.5,)}
    assert {due_ms(seed, times_speed_up=10) for seed in range(20)} == {(10, 10.006, 40), (5.05,)}
    assert {due_ms(seed, tokens=2) for seed in range(20)} == {(100, 100.062), (50.5, 150.5)}
    assert {due_ms(seed, tokens=5) for seed in range(20)} == {
        (100, 100.062, 400, 450.5, 550.5),
        (50.5, 150.5, 150.562, 450.5, 501),
    }


def test_times_that_nobody_recorded_are_not_made_up(recorded: recording.Recording) -> None:
    for table, why in (({"recording": recorded.id}, "without at_ms"), ({}, "there is no recording")):
        with pytest.raises(StreamError, match=why):
            build(StreamSpec.parse({**table, "times": True}), 0)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "no answers"),
        ("{", "line 1"),
        ('{"deltas": ["a"]}\n{"delta": []}', "line 2"),
        ('{"deltas": []}', "line 1"),
        ('{"deltas": [1]}', "line 1"),
        ('{"deltas": ["\\ud800"]}', "line 1"),
        ('{"deltas": ["a"], "at_ms": [5, 6]}', "line 1: at_ms: 2 times for 1 deltas"),
        ('{"deltas": ["a", "b"], "at_ms": [6, 5]}', "line 1: at_ms: takes milliseconds from 0"),
        ('{"deltas": ["a"], "at_ms": [-1]}', "at_ms: takes milliseconds from 0"),
        ('{"deltas": ["a"], "at_ms": [1e300]}', "at_ms: takes milliseconds from 0"),
        ('{"deltas": ["a"], "at_ms": ["5"]}', "at_ms"),
        ('{"deltas": ["a"], "model": "m"}', "model"),
        ('\n{"deltas": ["a", "' + "b" * 5 * 2**20 + '"]}', "line 2: delta 1 takes .* bytes as JSON; at most 4193280"),
        ('{"deltas": ["' + "é" * 2**20 + '"]}', "line 1: delta 0 takes"),
        ("[" * 10_000, "line 1"),
    ],
    ids=lambda value: value[:30],
)
def test_a_bad_recording_names_its_line(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StreamError, match=named):
        recording.load_recording(path)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text('{"deltas": ["\ufeffa"]}\n', encoding="utf-8-sig")
    assert recording.load_recording(path).answers == (("\ufeffa",),)


def test_the_largest_delta_that_is_taken_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_text(json.dumps({"deltas": ["b" * (recording.MAX_DELTA_BYTES - 2)]}), encoding="utf-8")
    ((text,),) = recording.load_recording(path).answers
    message = encode_token(MAX_COUNT, json_text(text), MAX_COUNT, MAX_COUNT)
    assert len(chunked.Decoder().feed(chunked.encode_token(message))) == 1
    assert len(sse.Decoder().feed(sse.encode_token(b"s" * 64, 2**62, message))) == 1


def test_a_missing_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="absent"):
        recording.load_recording(tmp_path / "absent.jsonl")


def test_a_pipe_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(StreamError, match=r"pipe\.jsonl: takes a file"):
        recording.load_recording(tmp_path / "pipe.jsonl")
