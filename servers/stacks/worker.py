"""A server of several processes: what each worker does, and the folder by which they are one server.

A worker has no emitter and no event loop. It takes an answer's schedule, sleeps until the next token is due and hands
it on: a blocking iterator, as a provider's synchronous SDK gives to a WSGI application. What it wakes late is the
stack's, and shows as delay.

The folder holds a file for each answer, so that any worker can resume it, and one for each process's counts, so that
`/stats` is the same whichever worker answers.
"""

from __future__ import annotations

import mmap
import os
import secrets
import signal
import sys
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from servers import recording
from servers.generation import MAX_KEPT, Busy, Generation, Source
from servers.messages import JsonTexts
from servers.process import usable_cores
from servers.redis_server import end_with_parent
from servers.stacks.answer import EncodedMessage
from servers.stacks.shared_spans import SharedSpans, spans_since
from servers.stream import Schedule

SETTINGS = "TOKENDERBY_WORKER"
"""The environment's variable with a worker's settings as JSON."""
_COUNTS = ("requests", "streams_started", "streams_completed", "tokens_sent", "streams_left")
_LATEST = ("left_ns",)  # of these the greatest counts
_CELLS = (*_COUNTS, *_LATEST)
_COUNTS_SUFFIX = ".counts"
_DELIVERED_SUFFIX = ".delivered"


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker is told. `main_pid` is the process that started the server, and is over all its workers."""

    transport: str
    stack: str
    folder: str
    main_pid: int
    started_ns: int
    keep_s: float
    raw_text: bool
    recordings: tuple[str, ...] = ()


class _Begun(msgspec.Struct, frozen=True):
    """An answer as its file has it; `due_ns` from `start_ns` on."""

    start_ns: int
    texts: list[str]
    due_ns: list[int]


class WorkerCounts:
    """This process's counts, in a file that the others read."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        size = 8 * len(_CELLS)
        with (folder / f"{os.getpid()}{_COUNTS_SUFFIX}").open("w+b") as file:
            file.truncate(size)
            self._cells = memoryview(mmap.mmap(file.fileno(), size)).cast("q")

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more of `name`."""
        with self._lock:  # threads count too
            self._cells[_CELLS.index(name)] += n

    def note(self, name: str, at_ns: int) -> None:
        """Set when `name` was last."""
        self._cells[_CELLS.index(name)] = at_ns


def counted(folder: Path) -> dict[str, int]:
    """The counts of all processes together, those that have ended too."""
    cells = [array("q", file.read_bytes()) for file in folder.glob(f"*{_COUNTS_SUFFIX}")]
    columns = zip(*(row for row in cells if len(row) == len(_CELLS)), strict=True)  # one may be just beginning
    return {name: max(column) if name in _LATEST else sum(column) for name, column in zip(_CELLS, columns, strict=True)}


def ended(folder: Path, main_pid: int) -> int:
    """How many of the processes that have counts live no more: killed, or replaced by the server itself."""
    alive = {str(process.pid) for process in psutil.Process(main_pid).children(recursive=True)}
    return sum(file.stem not in alive for file in folder.glob(f"*{_COUNTS_SUFFIX}"))


class KeptAnswers:
    """The answers of all workers (servers.generation.Answers), a file each."""

    source: Source | None = None

    def __init__(self, folder: Path, counts: WorkerCounts, keep_s: float, json_texts: JsonTexts) -> None:
        self._folder = folder
        self._counts = counts
        self._keep_ns = int(keep_s * 1e9)
        self._json_texts = json_texts

    def get(self, stream_id: str) -> Generation | None:
        """The answer of that id, if it is being produced or still kept."""
        try:
            begun = msgspec.msgpack.decode((self._folder / stream_id).read_bytes(), type=_Begun)
        except (OSError, msgspec.MsgspecError):  # none, or another worker is just writing it
            return None
        generation = self._generation(stream_id, Schedule(begun.texts, array("q", begun.due_ns)), begun.start_ns)
        now_ns = time.monotonic_ns()
        if generation.latest_end_ns + self._keep_ns < now_ns:
            return None
        if generation.latest_end_ns <= now_ns:
            generation.ended_ns = generation.latest_end_ns
        return generation

    def start(self, schedule: Schedule, stream_id: str | None = None) -> Generation:
        """Start an answer now, under a new id (a random one without). Raises Busy."""
        stream_id = stream_id or secrets.token_urlsafe(12)
        start_ns = time.monotonic_ns()
        begun = _Begun(start_ns, list(schedule.texts), list(schedule.due_ns))
        path = self._folder / stream_id
        try:
            path.write_bytes(msgspec.msgpack.encode(begun))
            os.utime(path, ns=(start_ns, start_ns + schedule.duration_ns))  # the end, to be had without reading
        except OSError as error:
            raise Busy from error
        self._counts.add("streams_started")
        return self._generation(stream_id, schedule, start_ns)

    def note_delivered(self, generation: Generation) -> None:
        """Count an answer whose end message was handed to a connection; once, however often it is read again."""
        with suppress(FileExistsError):
            (self._folder / f"{generation.stream_id}{_DELIVERED_SUFFIX}").touch(exist_ok=False)
            self._counts.add("streams_completed")

    def _generation(self, stream_id: str, schedule: Schedule, start_ns: int) -> Generation:
        return Generation(stream_id, schedule, start_ns, lambda _: None, self._json_texts)


def _ends_ns(folder: Path) -> dict[str, int]:
    """When each kept answer ends, or has ended (CLOCK_MONOTONIC)."""
    found: dict[str, int] = {}
    for entry in os.scandir(folder):
        if "." not in entry.name:  # an answer's id has none
            with suppress(OSError):
                found[entry.name] = entry.stat().st_mtime_ns
    return found


def forget_expired(folder: Path, keep_s: float) -> None:
    """Remove the answers whose time is over, and the oldest beyond what a server keeps."""
    ends_ns = sorted(_ends_ns(folder).items(), key=lambda item: item[1])
    oldest_ns = time.monotonic_ns() - int(keep_s * 1e9)
    for k, (stream_id, end_ns) in enumerate(ends_ns):
        if end_ns >= oldest_ns and k >= len(ends_ns) - MAX_KEPT:
            break
        for name in (stream_id, f"{stream_id}{_DELIVERED_SUFFIX}"):
            (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Worker:
    """What the code of a stack has in a worker process."""

    settings: WorkerSettings
    auth_token: str | None
    counts: WorkerCounts
    answers: KeptAnswers
    spans: SharedSpans

    @classmethod
    def from_environment(cls) -> Worker:
        """As the server's main process has set it. Raises StreamError."""
        if sys.platform == "linux":  # gunicorn's would serve on for half its timeout when gunicorn itself is killed
            end_with_parent(signal.SIGKILL)
        settings = msgspec.json.decode(os.environ[SETTINGS], type=WorkerSettings)
        for path in settings.recordings:
            recording.register(recording.load_recording(path))
        folder = Path(settings.folder)
        counts = WorkerCounts(folder)
        answers = KeptAnswers(folder, counts, settings.keep_s, JsonTexts(raw=settings.raw_text))
        return cls(settings, os.environ.get("TOKENDERBY_AUTH_TOKEN") or None, counts, answers, SharedSpans(folder))

    def messages(self, generation: Generation, first: int) -> Iterator[EncodedMessage]:
        """The tokens from `first` on, each when it is due, then the end; noted if it is closed before."""
        is_whole = False
        try:
            with self.spans.of(generation.stream_id):
                for message in self._messages(generation, first):
                    is_whole = message.i is None
                    yield message
        finally:
            if not is_whole:
                self.counts.add("streams_left")
                self.counts.note("left_ns", time.monotonic_ns())

    def _messages(self, generation: Generation, first: int) -> Iterator[EncodedMessage]:
        due_ns = generation.due_ns
        for i in range(first, generation.n):
            while (wait_ns := due_ns[i] - time.monotonic_ns()) > 0:
                time.sleep(wait_ns / 1e9)
            self.counts.add("tokens_sent")
            yield EncodedMessage(generation.token(i, time.monotonic_ns()), i)
        yield EncodedMessage(generation.end())
        self.answers.note_delivered(generation)

    def clock_report(self) -> dict[str, object]:
        """The body of `GET /clock`."""
        return {"monotonic_ns": time.monotonic_ns()}

    def stats_report(self, since_ns: int = 0) -> dict[str, object]:
        """The body of `GET /stats`, of all processes of this server; no emitter, so no lag of one."""
        folder, now_ns = Path(self.settings.folder), time.monotonic_ns()
        cpu_s, rss_bytes = spent(self.settings.main_pid)
        lags = {f"{name}_lag_us_{what}": 0.0 for name in ("emit", "loop") for what in ("p99", "max")}
        return {
            "transport": self.settings.transport,
            **counted(folder),
            "workers_ended": ended(folder, self.settings.main_pid),
            "streams_active": sum(end_ns > now_ns for end_ns in _ends_ns(folder).values()),
            "redis_commands": 0,
            "cpu_seconds": cpu_s,
            "rss_bytes": rss_bytes,
            **lags,
            "now_ns": now_ns,
            "started_ns": self.settings.started_ns,
            "cores": usable_cores(),
            "source": None,
            "stack": self.settings.stack,
            "heartbeat_s": 0.0,
            **({"answered": spans_since(folder, since_ns)} if since_ns else {}),
        }


def spent(pid: int) -> tuple[float, int]:
    """CPU seconds of a process and of all below it, those that have ended too, and the memory that they have now."""
    cpu_s, rss_bytes = 0.0, 0
    main = psutil.Process(pid)
    for process in (main, *main.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended, and its parent has counted it
            cpu_s += sum(process.cpu_times()[:4])
            rss_bytes += process.memory_info().rss
    return cpu_s, rss_bytes
