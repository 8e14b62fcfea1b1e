"""A stack of several processes is one server: in what it counts, in what it keeps, and when it ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest
from support.independent import request
from support.processes import RunningServer, running_server, wait_until

from servers.generation import Busy
from servers.messages import JsonTexts
from servers.recording import load_recording
from servers.stacks.worker import KeptAnswers, WorkerCounts, counted, forget_expired
from servers.stacks.worker_processes import FOLDER_PREFIX
from servers.stream import StreamSpec, build

SHORT = {"profile": "fast", "tokens": 3, "ttft_ms": 0, "gap_ms": 1}
LONG = {"profile": "fast", "tokens": 3, "ttft_ms": 0, "gap_ms": 30_000}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the servers of a test have their temporary folders; gunicorn's have two workers, which start sooner."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 2")
    return tmp_path


@pytest.fixture(params=[("flask-sync", signal.SIGTERM), ("flask-sync", signal.SIGKILL), ("flask-dev", signal.SIGTERM)])
def ended(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[signal.Signals, list[psutil.Process], Path]]:
    """A server that was ended while it sent an answer, and the processes that it had."""
    stack, number = request.param
    with running_server("chunked", "--stack", stack) as server, ThreadPoolExecutor(1) as threads:
        below = psutil.Process(server.process.pid).children(recursive=True)
        asked = threads.submit(ask_and_be_cut, server)
        wait_until(lambda: server.get("/stats")["tokens_sent"] == 1)
        code = server.stop(number)
        assert code == (0 if number == signal.SIGTERM else -number)
        asked.result()
        yield number, below, folder


def ask_and_be_cut(server: RunningServer) -> None:
    with pytest.raises((OSError, HTTPException)):
        request(server.url, "POST", "/chat", {"message": "x", "stream": LONG})


def test_nothing_is_left_of_it(ended: tuple[signal.Signals, list[psutil.Process], Path]) -> None:
    number, below, folder = ended
    assert below
    wait_until(lambda: not any(process.is_running() for process in below))
    left = list(folder.glob(f"{FOLDER_PREFIX}*"))
    assert len(left) == (number == signal.SIGKILL)  # which the next server of the kind removes


@pytest.mark.parametrize("stack", ["flask-sync", "flask-dev"])
def test_a_server_ends_with_its_stacks_own_and_says_why(
    folder: Path, capfd: pytest.CaptureFixture[str], stack: str
) -> None:
    with running_server("sse", "--stack", stack) as server:
        below = psutil.Process(server.process.pid).children(recursive=True)
        command = next(process for process in below if process.ppid() == server.process.pid)
        command.kill()
        assert server.process.wait(15) == 1
        wait_until(lambda: not any(process.is_running() for process in below))
        assert not list(folder.glob(f"{FOLDER_PREFIX}*"))
    assert "the stack's own server died (killed by SIGKILL); its log says more" in capfd.readouterr().err


def test_workers_that_have_ended_are_counted(folder: Path) -> None:
    with running_server("sse", "--stack", "flask-sync") as server:
        main = psutil.Process(server.process.pid)
        wait_until(lambda: len(list(folder.glob(f"{FOLDER_PREFIX}*/*.counts"))) == 2)
        assert server.get("/stats")["workers_ended"] == 0
        main.children()[0].children()[0].kill()
        wait_until(lambda: server.get("/stats")["workers_ended"] == 1)
        wait_until(lambda: len(main.children(recursive=True)) == 3)  # gunicorn has begun another
        assert server.get("/stats")["workers_ended"] == 1


def test_stats_count_all_processes(folder: Path) -> None:
    with running_server("sse", "--stack", "flask-sync") as server:
        for _ in range(4):  # each may go to another worker
            request(server.url, "POST", "/chat", {"message": "x", "stream": SHORT})
        told = server.get("/stats")
        assert (told["requests"], told["streams_started"], told["tokens_sent"]) == (4, 4, 12)
        main = psutil.Process(server.process.pid)
        parts = [main, *main.children(recursive=True)]
        assert len(parts) == 1 + 1 + 2  # ours, gunicorn's, and its workers
        times = [process.cpu_times() for process in parts]
        spent_s = sum(time.user + time.system for time in times)
        assert spent_s / 2 < told["cpu_seconds"] <= spent_s + 0.1
        assert told["rss_bytes"] > 2 * main.memory_info().rss


def test_a_recording_is_known_to_the_workers(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"deltas": ["Hel", "lo"]}\n')
    stream = {"recording": load_recording(str(file)).id, "ttft_ms": 0, "gap_ms": 1}
    with running_server("chunked", "--stack", "flask-gthread", "--recording", str(file)) as server:
        _, _, body = request(server.url, "POST", "/chat", {"message": "x", "stream": stream})
    assert [json.loads(line).get("t") for line in body.splitlines()] == ["Hel", "lo", None]


@pytest.fixture
def answers(tmp_path: Path) -> Callable[[float], KeptAnswers]:
    """`answers(keep_s)`: what one worker keeps; all of a test share a folder."""
    counts = WorkerCounts(tmp_path)
    return lambda keep_s: KeptAnswers(tmp_path, counts, keep_s, JsonTexts())


def test_an_answer_is_known_to_every_worker_for_its_time(
    answers: Callable[[float], KeptAnswers], tmp_path: Path
) -> None:
    one, other = answers(60), answers(60)
    schedule = build(StreamSpec.parse(SHORT | {"gap_ms": 0}), 1)
    begun = one.start(schedule, "a")
    found = other.get("a")
    assert found is not None
    assert list(found.due_ns) == list(begun.due_ns)
    assert found.end() == begun.end()
    assert other.get("b") is None
    assert counted(tmp_path)["streams_started"] == 1
    forget_expired(tmp_path, keep_s=60)
    assert other.get("a") is not None
    wait_until(lambda: answers(0.0).get("a") is None)
    forget_expired(tmp_path, keep_s=0)
    assert other.get("a") is None


def test_an_answer_that_cannot_be_kept_is_refused(answers: Callable[[float], KeptAnswers]) -> None:
    with pytest.raises(Busy):
        answers(60).start(build(StreamSpec.parse(SHORT), 1), "no-such-folder/a")
