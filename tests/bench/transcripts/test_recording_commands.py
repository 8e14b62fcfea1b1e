"""`record` and `import`, from the question to a replay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.processes import running_server
from support.sources import TOKENS
from support.transports.chunked import ask

from bench.transcripts.recording_commands import import_, record
from servers.recording import load_recording

SOURCE = "support.sources:tokens"


def run(command: object, *words: object) -> int:
    """The exit code of a command in this process."""
    code = command.main([*map(str, words)], standalone_mode=False)  # type: ignore[attr-defined]
    assert isinstance(code, int)
    return code


def questions(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "questions.txt"
    path.write_text("\ufeff" + "\r\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def test_answers_are_recorded_with_their_times_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "answers.jsonl"
    file = questions(tmp_path, "good", '{"message": "blocking", "id": 5}')
    assert run(record, "--source", SOURCE, "--messages", file, "--out", out) == 0
    assert "2 answers of 12 deltas, with times" in capsys.readouterr().out
    known = load_recording(out)
    assert known.answers == (TOKENS, TOKENS)
    assert known.has_times
    for at_us in known.at_us:
        assert at_us is not None
        assert list(at_us) == sorted(at_us)
        assert at_us[-1] - at_us[0] >= 40_000
    with running_server("chunked", "--recording", str(out)) as server:
        stream = {"recording": known.id, "times": True}
        answer = ask(server.url, {"message": "x", "stream": stream}).check()
    assert tuple(token["t"] for token in answer.tokens) == TOKENS
    first_ns = answer.tokens[0]["due"]
    replayed = [(token["due"] - first_ns) // 1000 for token in answer.tokens]
    assert replayed in [[at - at_us[0] for at in at_us] for at_us in known.at_us if at_us]


def test_what_fails_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "answers.jsonl"
    file = questions(tmp_path, "breaks", "good", "silent", "empty")
    words = ("--source", SOURCE, "--messages", file, "--out", out, "--source-timeout", "0.2")
    assert run(record, *words) == 1
    assert len(load_recording(out).answers) == 1
    told = capsys.readouterr().err
    for line in ("message 1 left out: the source failed: RuntimeError", "message 3 left out: ", "message 4 left out: "):
        assert line in told
    out.unlink()
    with pytest.raises(click.ClickException, match="all 1 messages failed"):
        run(record, "--source", SOURCE, "--messages", questions(tmp_path, "raises"), "--out", out)
    assert list(tmp_path.iterdir()) == [file]


def test_transcripts_become_one_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ollama, half = tmp_path / "ollama.ndjson", tmp_path / "half.ndjson"
    pieces = [{"response": text, "done": False} for text in ("a", " b")]
    ollama.write_text("\n".join(map(json.dumps, [*pieces, {"response": "", "done": True, "eval_count": 2}])))
    half.write_text("\n".join(map(json.dumps, pieces)))
    out = tmp_path / "answers.jsonl"
    assert run(import_, ollama, ollama, "--out", out) == 0
    told = capsys.readouterr().out
    assert "Ollama, 1 answer of 2 deltas; dropped: usage (1)" in told
    assert "2 answers of 4 deltas, without times" in told
    assert load_recording(out).answers == (("a", " b"),) * 2
    assert not load_recording(out).has_times
    assert run(import_, ollama, half, "--out", out) == 1
    assert "left out answer 1: it has no end" in capsys.readouterr().err
    with pytest.raises(click.ClickException, match="no whole answer"):
        run(import_, half, "--out", tmp_path / "nothing.jsonl")
    assert not (tmp_path / "nothing.jsonl").exists()


@pytest.mark.parametrize(
    ("command", "words", "why"),
    [
        (import_, ["absent", "--out", "x"], "absent: No such file"),
        (import_, [".", "--out", "x"], "Error: .: takes a file\n"),
        (import_, ["pyproject.toml", "--out", "x"], "is not JSON"),
        (import_, ["pyproject.toml"], "--out"),
        (record, ["--source", "nowhere", "--messages", "Makefile", "--out", "x"], "takes MODULE:FUNCTION"),
        (record, ["--source", SOURCE, "--messages", "/dev/null", "--out", "x"], "takes a file"),
    ],
)
def test_a_wrong_word_is_named(command: object, words: Sequence[str], why: str) -> None:
    result = CliRunner().invoke(command, words)  # type: ignore[arg-type]
    assert result.exit_code == 2
    assert why in result.output


def test_messages_that_are_none_are_named(tmp_path: Path) -> None:
    for lines, why in (
        ((), "0 messages"),
        (('{"text": "x"}',), "an object with `message`"),
        (("x",) * 10_001, "10001"),
    ):
        words = ["--source", SOURCE, "--messages", str(questions(tmp_path, *lines)), "--out", str(tmp_path / "x")]
        result = CliRunner().invoke(record, words)
        assert result.exit_code == 2
        assert why in result.output
