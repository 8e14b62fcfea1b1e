"""Redis behind polling: found or started, used with expiry, left clean, and lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from support.independent import ASK, request
from support.processes import running_server
from support.programs import program

from servers import redis_server
from servers.polling.store import KEY_PREFIX

SLOW = {"profile": "fast", "tokens": 60, "gap_ms": 50, "gap_sigma": 0}


@pytest.mark.needs("redis")
def test_the_embedded_server_runs_for_as_long_as_the_context() -> None:
    with redis_server.running(None) as server:
        assert redis.Redis.from_url(server.url).ping()
        assert server.pid is not None
    assert not psutil.pid_exists(server.pid)


def test_a_given_url_is_taken_as_it_is() -> None:
    with redis_server.running("redis://example:1") as server:
        assert server == redis_server.RedisServer("redis://example:1", None)


def test_without_any_redis_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "find_executable", lambda: None)
    with pytest.raises(redis_server.RedisUnavailable, match=r"--redis-url.*redis-server"), redis_server.running(None):
        pass


def test_one_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "valkey-server"
    own.write_text("#!/bin/sh\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert redis_server.find_executable() in (str(own), *Path("/usr/bin").glob("redis-server"))
    with pytest.raises(redis_server.RedisUnavailable, match="did not start"):
        redis_server._start(str(own), str(tmp_path))


def test_an_unreachable_redis_is_one_clear_line() -> None:
    command = [sys.executable, "-m", "servers", "polling", "--redis-url", "redis://127.0.0.1:1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "--redis-url" in ended.stderr


@pytest.mark.needs("redis")
def test_keys_expire_and_nothing_is_left_behind() -> None:
    with redis_server.running(None) as server, redis.Redis.from_url(server.url) as client:
        with running_server("polling", "--redis-url", server.url, "--keep", "30") as running:
            body = {"message": "x", "stream": {"profile": "fast", "tokens": 5}}
            ASK["polling"](running.url, body | {"stream_id": "done"}).check()
            request(running.url, "POST", "/chat", {"message": "x", "stream_id": "open", "stream": SLOW})
            assert 0 < client.ttl(KEY_PREFIX + "done") <= 30
            assert 30 < client.ttl(KEY_PREFIX + "open") <= 40
            assert client.lrange(KEY_PREFIX + "done", 1, -1)[0].startswith(b'{"i": 0')
        assert client.dbsize() == 0


@pytest.mark.needs("redis")
def test_when_redis_is_away_polls_fail_in_words_and_the_answer_comes_back_whole() -> None:
    with redis_server.running(None) as first, running_server("polling", "--redis-url", first.url) as running:
        request(running.url, "POST", "/chat", {"message": "x", "stream_id": "s", "stream": SLOW})
        time.sleep(0.5)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        psutil.Process(first.pid).wait(5)
        status, headers, body = request(running.url, "GET", "/chat/s?from=0")
        assert (status, json.loads(body)["error"]["code"]) == (503, "redis_unavailable")
        assert headers["retry-after"] == "1"
        status, _, _ = request(running.url, "POST", "/chat", {"message": "x", "stream_id": "refused"})
        assert status == 503
        # A new, empty Redis at the same address.
        port = first.url.rpartition(":")[2].partition("/")[0]
        second = subprocess.Popen([program("redis"), "--port", port, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            page = _poll_to_the_end(running.url)
            assert [token["i"] for token in page["tokens"]] == list(range(60))
            assert page["n"] == 60
        finally:
            second.terminate()
            second.wait()


def _poll_to_the_end(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status, _, body = request(url, "GET", "/chat/s?from=0")
        page = json.loads(body)
        if status == 200 and page["done"]:
            return dict(page)
        time.sleep(0.1)
    raise AssertionError("the answer did not come back")
