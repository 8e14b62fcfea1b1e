"""`tokenderby proxy` as a user starts it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.proxies import REQUEST, Net

from bench.proxy.behaviours import Unreachable
from bench.proxy.log import (
    ConnectionLog,
    ConnectionRecord,
    Late,
    NotFollowed,
    Started,
    behaviours_struck,
    loop_lags_ms,
    read_events,
    read_log,
)


@contextmanager
def running(*words: str, before: Sequence[str] = ()) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """The command (started by that `before` it) and its ready line."""
    command = [*before, sys.executable, "-m", "bench.proxy", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline()), process
        finally:
            process.terminate()


def address(ready: dict[str, str]) -> tuple[str, int]:
    host, _, port = ready["url"].removeprefix("http://").rpartition(":")
    return host, int(port)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)


async def test_aws_alb_cuts_what_is_idle_and_nothing_else(net: Net, tmp_path: Path) -> None:
    """Of a minute, 10 ms more or less on a quiet machine; a busy one gets 300 here."""
    host, port = await net.serve(echo)
    log = tmp_path / "log.jsonl"
    words = "--profile", "aws-alb", "--time-scale", "60", "--upstream", f"{host}:{port}", "--log", str(log)
    with running(*words) as (ready, _):
        assert ready == {"profile": "aws-alb", "url": ready["url"]}
        idle, active = await net.connect(address(ready)), await net.connect(address(ready))
        idle.send(b"x")
        assert await idle.read() == b"x"
        last_byte_s = time.monotonic()
        cut = asyncio.create_task(idle.until_end())
        cut.add_done_callback(lambda _: took.append(time.monotonic() - last_byte_s))
        took: list[float] = []
        for _ in range(4):
            active.send(b"x")
            assert await active.read() == b"x"
            await asyncio.sleep(0.45)
        assert await cut == (b"", "fin")
        assert 0.99 < took[0] < 1.3
        assert not active.reader.at_eof()
        idle.writer.close()
        active.writer.close()
        async with asyncio.timeout(5):
            while len(read_log(log)) < 2:
                await asyncio.sleep(0.01)
    by = {record.connection: record for record in read_log(log)}
    assert [by[1].ended_by, by[2].ended_by] == ["idle_timeout", "client"]
    assert 0.999 < by[1].idle_s < 1.3
    assert (by[1].bytes_up, by[1].bytes_down) == (1, 1)


def test_a_users_own_profile_and_a_clean_end(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[[behaviour]]\ntype = 'noop'\n")
    with running("--profile", str(mine), "--upstream", "127.0.0.1:9") as (ready, process):
        assert ready["profile"] == "mine"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "aws-albb"], "did you mean 'aws-alb'"),
        (["--time-scale", "0"], "--time-scale"),
        (["--upstream", "nowhere"], "'nowhere' takes HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "takes HOST:PORT"),
        (["--upstream", "a..b:80"], "--upstream"),
        (["--upstream", f"{'a' * 64}.org:80"], "--upstream"),
        (["--upstream", "127.0.0.1:0"], "--upstream"),
        (["--listen", "a..b:80"], "--listen"),
        (["--upstream", "x;}:80"], "--upstream"),
        (["--upstream", "two words:80"], "--upstream"),
        (["--time-scale", "nan"], "--time-scale"),
        (["--time-scale", "inf"], "--time-scale"),
        (["--time-scale", "1e-300"], "--time-scale"),
        (["--seed", "9" * 5000], "--seed"),
        (["--profile", "real:apache"], "unknown real proxy 'apache'"),
        (["--profile", "nowhere/mine.toml"], "profile 'nowhere/mine.toml': "),
        (["--log", "no/such/folder/log.jsonl"], "--log"),
        (["--log", "/proc/version"], "--log"),
    ],
)
def test_wrong_words(words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "bench.proxy", "--upstream", "127.0.0.1:9", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


async def test_a_name_that_no_resolver_takes_is_a_server_that_is_not_there(net: Net) -> None:
    """The command refuses it; should one come through all the same, clients must not be left hanging."""
    client = await net.connect(await net.proxy(("a..b", 80)))
    assert await client.until_end() == (b"", "rst")
    client = await net.connect(await net.proxy(("a..b", 80), Unreachable(status=502)))
    client.send(REQUEST)
    assert (await client.until_end())[0].startswith(b"HTTP/1.1 502 ")


async def test_a_full_disk_is_said_once_and_the_proxy_goes_on(net: Net, tmp_path: Path) -> None:
    host, port = await net.serve(echo)
    log = tmp_path / "log.jsonl"
    said = tmp_path / "stderr"
    # 512 or 1024 bytes, then a write fails: that of a measured coverage too, which is not asked for here.
    limit = ["sh", "-c", f'unset COVERAGE_PROCESS_CONFIG; ulimit -f 1 && exec "$@" 2>{said}', "sh"]
    words = "--upstream", f"{host}:{port}", "--log", str(log)
    with running(*words, before=limit) as (ready, process):
        for _ in range(8):
            client = await net.connect(address(ready))
            client.send(b"x")
            assert await client.read() == b"x"
            client.writer.close()
            await client.writer.wait_closed()
        process.terminate()
        assert process.wait(10) == 0
    assert said.read_text().count("\n") == 1
    assert f"the log {log} ends here" in said.read_text()
    assert 1 <= len(read_log(log)) < 8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_log_without_any_room_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = ConnectionLog(Path("/dev/full"))
    for _ in range(3):
        log.write(NotFollowed(connection=1, at_s=0, why="x"))
    log.close()
    assert capsys.readouterr().err == (
        "the log /dev/full ends here: No space left on device; the proxy goes on without it\n"
    )


def test_the_log_says_how_late_the_loop_was(tmp_path: Path) -> None:
    """A beat of 20 ms over two seconds: 100 of them, of which one may be later than the 99th percentile."""

    def lags_ms(late: dict[int, float]) -> tuple[float, float]:
        log = ConnectionLog(path := tmp_path / f"{len(late)}-{sum(late.values()):g}.jsonl")
        for at_ms, late_ms in late.items():
            log.write(Late(at_ns=at_ms * 1_000_000, late_ms=late_ms))
        log.close()
        return loop_lags_ms(path, 1_000_000_000, 3_000_000_000)

    assert lags_ms({}) == (0.0, 0.0)
    assert lags_ms({990: 700.0}) == (0.0, 0.0), "before the cell"
    assert lags_ms({1500: 12.0}) == (0.0, 12.0)
    assert lags_ms({1500: 12.0, 1600: 11.0}) == (11.0, 12.0)
    assert lags_ms({1500: 110.0}) == (90.0, 110.0), "a stall of five beats: each is as late as it was"
    assert lags_ms(dict.fromkeys(range(1040, 3000, 40), 22.0)) == (22.0, 22.0)


async def test_the_log_says_what_struck_and_what_could_not_be_followed(net: Net, tmp_path: Path) -> None:
    host, port = await net.serve(echo)
    log = tmp_path / "log.jsonl"
    mine = tmp_path / "mine.toml"
    mine.write_text(
        "[[behaviour]]\ntype = 'cut'\naction = 'fin'\nafter_bytes = 3\n"
        "[[behaviour]]\ntype = 'max_age'\nmax_age_s = 60\n"
        "[[behaviour]]\ntype = 'cut'\naction = 'fin'\nafter_bytes = 9\n"
    )
    with running("--profile", str(mine), "--upstream", f"{host}:{port}", "--log", str(log)) as (ready, process):
        client = await net.connect(address(ready))
        client.send(b"hello")
        assert await client.until_end() == (b"hel", "fin")
        process.terminate()
        process.wait(10)
    started, unfollowed, closed = (event for event in read_events(log) if not isinstance(event, Late))
    assert started == Started(profile="mine", behaviours=["cut 1", "max_age", "cut 2"])
    assert isinstance(unfollowed, NotFollowed)
    assert (unfollowed.connection, unfollowed.why) == (1, "what the client sends is no HTTP/1.1 request")
    assert isinstance(closed, ConnectionRecord)
    assert closed.struck == ["cut 1"]
    assert behaviours_struck([log, log]) == {"mine": {"cut 1": 2, "max_age": 0, "cut 2": 0}}


async def test_a_port_that_is_taken(net: Net) -> None:
    host, port = await net.serve(echo)
    command = [sys.executable, "-m", "bench.proxy", "--upstream", "127.0.0.1:9", "--listen", f"{host}:{port}"]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert f"cannot serve on {host}:{port}" in result.stderr


@pytest.mark.parametrize("profile", ["none", "real:nginx"])
def test_an_address_that_is_not_here(profile: str) -> None:
    command = [sys.executable, "-m", "bench.proxy", "--upstream", "[::1]:9", "--listen", "192.0.2.1:0"]
    result = subprocess.run([*command, "--profile", profile], capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1


async def test_several_servers_take_turns(net: Net) -> None:
    async def say(name: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(name)

    words = []
    for name in (b"first", b"second"):
        host, port = await net.serve(lambda _, writer, name=name: say(name, writer))  # type: ignore[misc]
        words += ["--upstream", f"{host}:{port}"]
    with running(*words) as (ready, _):
        seen = [await (await net.connect(address(ready))).until_end() for _ in range(3)]
    assert seen == [(b"first", "fin"), (b"second", "fin"), (b"first", "fin")]


def test_a_real_proxy_has_one_server() -> None:
    words = ["--upstream", "127.0.0.1:1", "--upstream", "127.0.0.1:2", "--profile", "real:nginx"]
    done = subprocess.run([sys.executable, "-m", "bench.proxy", *words], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "takes one --upstream" in done.stderr


async def test_a_signal_makes_the_moments_of_events_count_anew(net: Net, tmp_path: Path) -> None:
    host, port = await net.serve(echo)
    profile = tmp_path / "deploy.toml"
    profile.write_text("[[behaviour]]\ntype = 'cut_all'\nat_s = 0.4\n")
    with running("--profile", str(profile), "--upstream", f"{host}:{port}") as (ready, process):
        client = await net.connect(address(ready))
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGUSR1)
        signalled_s = time.monotonic()
        assert await client.until_end() == (b"", "fin")
        assert time.monotonic() - signalled_s > 0.3
