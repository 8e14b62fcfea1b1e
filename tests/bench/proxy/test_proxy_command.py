"""`tokenderby proxy` as a user starts it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.proxies import Net

from bench.proxy.log import read_log


@contextmanager
def running(*words: str) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """The command and its ready line."""
    with subprocess.Popen([sys.executable, "-m", "bench.proxy", *words], stdout=subprocess.PIPE, text=True) as process:
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
    """Done means 1 of the issue; the 10 ms are for a quiet machine, so a busy one gets 300 here."""
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
    ],
)
def test_wrong_words(words: list[str], said: str) -> None:
    command = [sys.executable, "-m", "bench.proxy", "--upstream", "127.0.0.1:9", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stdout == ""


async def test_a_port_that_is_taken(net: Net) -> None:
    host, port = await net.serve(echo)
    command = [sys.executable, "-m", "bench.proxy", "--upstream", "127.0.0.1:9", "--listen", f"{host}:{port}"]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert f"cannot serve on {host}:{port}" in result.stderr
