"""`tokenderby record` and `tokenderby import`: recordings, as `stream.recording` of a plan takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import click
import msgspec

from bench.option_types import writable
from bench.transcripts import transcript
from clients.whole_file import replacing
from servers.arguments import HELP, Command, Seconds
from servers.emitter import Emitter
from servers.generation import Failure, Generations, LiveGeneration
from servers.given_file import read_given
from servers.recording import MAX_RECORDING_BYTES, RecordedAnswer, check_deltas, load_recording
from servers.service import source_function
from servers.source import SILENCE_S, LiveSource
from servers.user_errors import InputError, StreamError, UserError, reason

MAX_MESSAGES = 10_000
FAILED = 1


_FILE = click.Path(path_type=Path)
_out = click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable,  # asking may take long, and cost
    metavar="FILE",
    help="The recording.",
)


@click.command(cls=Command, context_settings=HELP)
@click.option("--source", required=True, metavar="MODULE:FUNCTION|openai", help="Who answers (docs/sources.md).")
@click.option(
    "--messages", required=True, type=_FILE, metavar="FILE", help="A message a line, or JSON lines with `message`."
)
@click.option(
    "--source-timeout",
    type=Seconds(min=0.001, max=86_400),
    default=SILENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up an answer whose source has given nothing for this long.",
)
@_out
def record(source: str, messages: Path, source_timeout: float, out: Path) -> int:
    """Ask a source and record its answers with their times.

    One answer after the other; one that fails is left out and said, and the exit code is then 1.

    \b
    Example:
      tokenderby record --source my_app.llm:tokens --messages questions.txt --out answers.jsonl
    """
    questions = _messages(messages)
    source_function(source)  # while a wrong one can still be named
    answers, failures = asyncio.run(_record(source, questions, source_timeout))
    for number, failure in failures:
        click.echo(f"message {number} left out: {failure.message}", err=True)
    if not answers:
        raise UserError(f"nothing recorded: all {len(questions)} messages failed")
    _write(out, answers)
    click.echo(f"{out}: {_count(answers)}, with times")
    return FAILED if failures else 0


def _messages(file: Path) -> list[str]:
    try:
        text = read_given(file, MAX_RECORDING_BYTES, name=f"--messages {file}").decode("utf-8-sig")
        lines = [line for line in text.split("\n") if line.strip()]
        messages = [_message(line, number) for number, line in enumerate(lines, 1)]
    except (OSError, UnicodeError) as error:
        raise InputError(f"--messages {file}: {reason(error) if isinstance(error, OSError) else 'not UTF-8'}") from None
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise InputError(f"--messages {file}: {len(messages)} messages; from 1 to {MAX_MESSAGES} are taken")
    return messages


class _Message(msgspec.Struct):
    message: str


def _message(line: str, number: int) -> str:
    if not line.lstrip().startswith("{"):
        return line.rstrip("\r")
    try:
        return msgspec.json.decode(line, type=_Message).message
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(
            f"--messages, message {number}: {error}; a line is text, or an object with `message`"
        ) from None


async def _record(
    name: str, messages: list[str], silence_s: float
) -> tuple[list[RecordedAnswer], list[tuple[int, Failure]]]:
    """The answers, and the numbers of the messages that failed with the reasons."""
    emitter = Emitter()
    function, close = source_function(name)
    source = LiveSource(name, function, Generations(emitter, 0.0), silence_s, close)
    answers: list[RecordedAnswer] = []
    failures: list[tuple[int, Failure]] = []
    try:
        async for number, answer in _asked(source, messages):
            if answer.failure is not None:
                failures.append((number, answer.failure))
            elif answer.n == 0:
                failures.append((number, Failure(502, "empty", "the answer has no text")))
            else:
                answers.append(_recorded(answer))
    finally:
        await source.stop()
        emitter.close()
    return answers, failures


async def _asked(source: LiveSource, messages: Iterable[str]) -> AsyncIterator[tuple[int, LiveGeneration]]:
    for number, message in enumerate(messages, 1):
        answer = source.start(message, None)
        await _End(answer).has_come.wait()
        yield number, answer


class _End:
    """Waits for an answer's end, whatever kind of end it is (servers.generation.Reader)."""

    def __init__(self, answer: LiveGeneration) -> None:
        self.has_come = asyncio.Event()
        self._answer = answer
        answer.subscribe(self)

    def wake(self) -> None:
        """Notice the end."""
        if self._answer.ended:
            self.has_come.set()


def _recorded(answer: LiveGeneration) -> RecordedAnswer:
    at_ms = [round((due_ns - answer.start_ns) / 1e6, 3) for due_ns in answer.due_ns]
    return RecordedAnswer(list(answer.texts), at_ms)


@click.command("import", cls=Command, context_settings=HELP)
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@_out
def import_(files: tuple[Path, ...], out: Path) -> int:
    """Make a recording of transcripts: streams of OpenAI, Anthropic, Gemini, Ollama, llama.cpp, vLLM or the AI SDK.

    A transcript is what a server streamed: an event stream, JSON lines, or a JSON array. An answer without its end is
    left out and said, and the exit code is then 1.

    \b
    Example:
      tokenderby import monday.sse tuesday.ndjson --out answers.jsonl
    """
    answers: list[RecordedAnswer] = []
    left_out = 0
    for file in files:
        found = _transcript(file)
        answers += [RecordedAnswer(texts) for texts in found.answers]
        left_out += len(found.left_out)
        click.echo(
            f"{file}: {found.format}, {_count(RecordedAnswer(texts) for texts in found.answers)}{_dropped(found)}"
        )
        for why in found.left_out:
            click.echo(f"{file}: left out {why}", err=True)
    if not answers:
        raise UserError("no whole answer in what was given, so nothing is written")
    _write(out, answers)
    click.echo(f"{out}: {_count(answers)}, without times")
    return FAILED if left_out else 0


def _transcript(file: Path) -> transcript.Transcript:
    try:
        data = read_given(file, MAX_RECORDING_BYTES)
    except OSError as error:
        raise InputError(f"{file}: {reason(error)}") from None
    try:
        found = transcript.read_transcript(data)
        for texts in found.answers:
            check_deltas(texts)
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    return found


def _dropped(found: transcript.Transcript) -> str:
    words = ", ".join(f"{word} ({count})" for word, count in sorted(found.dropped.items()))
    return f"; dropped: {words}" if words else ""


def _count(answers: Iterable[RecordedAnswer]) -> str:
    sizes = [len(answer.deltas) for answer in answers]
    return f"{len(sizes)} answer{'s' * (len(sizes) != 1)} of {sum(sizes)} deltas"


def _write(out: Path, answers: Iterable[RecordedAnswer]) -> None:
    """Write a recording, whole or not at all, and only one that can be read."""
    try:
        with replacing(out) as fresh:
            fresh.write_bytes(b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers))
            _check(fresh, out)
    except OSError as error:
        raise UserError(f"{out}: {reason(error)}") from None


def _check(fresh: Path, out: Path) -> None:
    """Raise UserError, in words about `out`, if the recording `fresh` cannot be read. Raises OSError."""
    try:
        load_recording(fresh)
    except StreamError as error:
        raise UserError(str(error).replace(str(fresh), str(out))) from None
