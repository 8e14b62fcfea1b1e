"""Redis behind polling: found or started, used with expiry, left clean, and lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from support.independent import request
from support.processes import running_server, wait_until
from support.programs import program
from support.transports import ASK

from servers import own_folder, redis_server
from servers.polling.link import RedisConnection, RedisRefused
from servers.polling.token_store import KEY_PREFIX
from servers.redis_server import Address

SLOW = {"profile": "fast", "tokens": 60, "gap_ms": 50, "gap_sigma": 0}


@pytest.mark.needs("redis")
def test_the_embedded_server_runs_for_as_long_as_the_context() -> None:
    with redis_server.running_redis(None) as server:
        assert redis.Redis.from_url(server.url).ping()
        assert server.pid is not None
    assert not psutil.pid_exists(server.pid)


def test_a_given_url_is_taken_as_it_is() -> None:
    with redis_server.running_redis("redis://example:1") as server:
        assert server == redis_server.RedisServer("redis://example:1", None)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("h", 6379)),
        ("redis://:p%40ss@h:1/2", Address("h", 1, 2, None, "p@ss")),
        ("rediss://me:secret@[::1]:7", Address("::1", 7, 0, "me", "secret", tls=True)),
        ("unix:///run/redis.sock?db=3", Address("", 6379, 3, path="/run/redis.sock")),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(url: str, address: Address) -> None:
    assert Address.parse(url) == address
    assert not address.password or address.password not in str(address)


@pytest.mark.parametrize(
    "url",
    ["foo", "", "http://h", "redis://", "redis://h/x", "redis://h:x", "redis://h?a=b", "redis://[", "redis://a..b"],
)
def test_what_is_no_address_is_told_without_showing_it(url: str) -> None:
    with pytest.raises(redis_server.RedisUnavailable, match=r"^takes redis://"):
        Address.parse(url)


@contextmanager
def redis_with_password(password: str, folder: Path) -> Iterator[str]:
    """A Redis that asks for a password; its URL."""
    configuration = folder / "redis.conf"
    configuration.write_text(f"requirepass {password}\nport 0\nunixsocket {folder}/s\nsave ''\n".replace("''", '""'))
    executable = program("redis")
    process = subprocess.Popen([executable, str(configuration)], stdout=subprocess.DEVNULL, cwd=folder)
    try:
        deadline = time.monotonic() + 10
        while not (folder / "s").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"unix://:{password}@{folder}/s?db=1"
    finally:
        process.terminate()
        process.wait()


def test_a_password_is_used_and_in_no_list_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_with_password("hush-hush", tmp_path) as url:
        monkeypatch.setenv("TOKENDERBY_REDIS_URL", url)
        with running_server("polling") as running:
            ASK["polling"](running.url, {"message": "x", "stream": {"profile": "fast", "tokens": 3}}).check()
            assert "redis_pid" not in running.get("/stats")
            shown = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
        assert any("polling" in line for line in shown)
        assert not any("hush" in line for line in shown)


@pytest.mark.parametrize(("given", "said"), [(":mistaken@", "WRONGPASS"), ("", "NOAUTH")])
def test_a_password_that_is_wrong_or_missing_is_one_clear_line_without_it(
    tmp_path: Path, given: str, said: str
) -> None:
    with redis_with_password("right", tmp_path) as url:
        environment = os.environ | {"TOKENDERBY_REDIS_URL": url.replace(":right@", given)}
        command = [sys.executable, "-m", "servers", "polling"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    assert ended.returncode == 1
    assert len(ended.stderr.strip().splitlines()) == 1
    assert f"refuses: {said}" in ended.stderr
    assert "mistaken" not in ended.stderr


async def test_a_connection_whose_password_is_refused_is_not_left_open(tmp_path: Path) -> None:
    with redis_with_password("right", tmp_path) as url:
        link = RedisConnection(Address.parse(url.replace(":right@", ":wrong@")), lambda _: None)
        for _ in range(5):
            with pytest.raises(RedisRefused):
                await link.execute(("PING",))
        watcher = redis.Redis.from_url(url)
        wait_until(lambda: len(watcher.client_list()) == 1)  # the watcher's own
        watcher.close()


def test_what_a_killed_server_has_left_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_folder, "YOUNG_S", 0.0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with running_server("polling") as killed, running_server("polling"):
        killed.stop(signal.SIGKILL)
        assert len(list(tmp_path.iterdir())) == 2
        with redis_server.running_redis(None):
            assert len(list(tmp_path.iterdir())) == 2  # its own, and that of the one that lives
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_before_the_clock_was_set_back_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it stays until the old hour comes again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "ours-left"
    left.mkdir()
    earlier_s = time.time() - 3600
    monkeypatch.setattr("servers.own_folder.time.time", lambda: earlier_s)
    with own_folder.own_folder("ours-"):
        assert not left.exists()


def test_a_folder_that_was_made_just_now_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is about to lock it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    young = tmp_path / "ours-young"
    young.mkdir()
    with own_folder.own_folder("ours-"):
        assert young.exists()
    monkeypatch.setattr(own_folder, "YOUNG_S", 0.0)
    with own_folder.own_folder("ours-"):
        assert not young.exists()


def test_a_redis_that_has_outlived_its_parent_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_folder, "YOUNG_S", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    executable = program("redis")
    folder = tmp_path / f"{redis_server.FOLDER_PREFIX}left"
    folder.mkdir()
    orphan, _ = redis_server._start(executable, str(folder))
    bystander = tmp_path / f"{redis_server.FOLDER_PREFIX}other"
    bystander.mkdir()
    (bystander / redis_server.PID_FILE).write_text(str(os.getpid()))  # its number is another's by now
    with redis_server.running_redis(None):
        assert orphan.wait(5) == -signal.SIGKILL
        assert not folder.exists()
        assert not bystander.exists()


def test_without_any_redis_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "find_executable", lambda: None)
    with (
        pytest.raises(redis_server.RedisUnavailable, match=r"--redis-url.*redis-server"),
        redis_server.running_redis(None),
    ):
        pass


def test_one_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "valkey-server"
    own.write_text("#!/bin/sh\nexit 1\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine may have one of its own
    assert redis_server.find_executable() == str(own)
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
    with redis_server.running_redis(None) as server, redis.Redis.from_url(server.url) as client:
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
    with redis_server.running_redis(None) as first, running_server("polling", "--redis-url", first.url) as running:
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
