"""The words of `tokenderby serve`: what they take, what is said of a wrong one, and what they do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from support import rawhttp, sources
from support.independent import request
from support.processes import RunningServer, running_server
from support.transports import ASK

from servers.__main__ import main
from servers.process import free_port
from servers.stream import PROFILES, build
from servers.transport import TRANSPORTS


def serve(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A server that is not expected to start."""
    command = [sys.executable, "-m", "servers", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, env=os.environ | environment)


WRONG: dict[str, tuple[str, ...]] = {
    "--heartbeat": ("nan", "inf", "-1", "x"),
    "--keep": ("nan", "-1", "1e9"),
    "--keep-alive": ("nan", "0"),
    "--host": ("a..b", "", "a" * 64),
    "--port": ("-1", "65536", "x"),
    "--redis-url": ("foo", "http://x", "redis://x:port", "redis://x:99999"),
    "--allow-origin": ("page.example", "http://", "http://[", "https://page.example/", "http://\xe9.example"),
    "--auth-token": ("", "two words", "se;cret", "\xe9"),
    "--recording": ("absent.jsonl",),
    "--source": ("http://", "http://user:pass@x", "nowhere", "no_such_module:x", ":", "json:x"),
    "--stack": ("", "fastpai", "websockets-send"),
    "--source-timeout": ("nan", "0"),
    "--also": ("", "grpc"),
}


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_word_is_named(option: str) -> None:
    for value in WRONG[option]:
        result = CliRunner().invoke(main, ["sse", option, value])
        assert result.exit_code == 2, (option, value, result.output)
        assert option in result.output


def test_a_wrong_word_in_a_process_of_its_own() -> None:
    result = serve("sse", TOKENDERBY_SERVE_HEARTBEAT="nan")
    assert result.returncode == 2
    assert "TOKENDERBY_SERVE_HEARTBEAT" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_password_is_not_repeated() -> None:
    result = serve("polling", TOKENDERBY_REDIS_URL="rodis://:pa55word@x")
    assert result.returncode == 2
    assert "pa55word" not in result.stderr + result.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_help_names_each_option_and_its_variable(flag: str) -> None:
    result = CliRunner().invoke(main, [flag])
    assert result.exit_code == 0
    flags = ("--late-head", "--raw-text")
    for option in (*WRONG, *flags):
        assert option in result.output
    assert result.output.count("TOKENDERBY_") == len(WRONG) + len(flags)


@pytest.mark.parametrize(("options", "warned"), [((), True), (("--auth-token", "s3cret"), False)])
def test_an_open_server_warns(options: tuple[str, ...], warned: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with running_server("chunked", "--host", "0.0.0.0", *options) as running:
        running.stop(signal.SIGTERM)
    assert ("open to other machines" in capfd.readouterr().err) is warned


def test_a_port_that_is_taken_is_said_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = serve("sse", "--port", str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("stack", ["fastapi-granian", "flask-dev"])
def test_a_server_that_opens_its_port_by_itself_is_not_taken_for_another(stack: str) -> None:
    with running_server("sse") as other:  # which answers where the stack would
        result = serve("sse", "--stack", stack, "--port", other.url.rpartition(":")[2])
    assert (result.returncode, result.stdout) == (1, "")
    assert "address already in use" in result.stderr.lower()
    assert len(result.stderr.splitlines()) == 1


# ---- --also


def test_one_process_gives_the_same_answers_by_several_transports() -> None:
    words = ["--also", "sse", "--also", "polling", "--also", "websocket", "--auth-token", "s3cret"]
    with running_server("websocket", *words) as running:
        root = running.url.removesuffix("/websocket")
        for name in ("websocket", "sse", "polling"):
            assert request(root, "GET", f"/{name}/healthz")[::2] == (200, b'{"transport":"%s"}' % name.encode())
            assert request(root, "GET", f"/{name}/stats")[0] == 401
        bearer = {"Authorization": "Bearer s3cret"}
        question = {"message": "x", "stream_id": "one", "stream": {"profile": "fast", "tokens": 3}}
        assert request(root, "POST", "/sse/chat", question, headers=bearer)[0] == 200
        assert request(root, "POST", "/polling/chat", question | {"from": 1}, headers=bearer)[0] == 202
        page = json.loads(request(root, "GET", "/polling/chat/one?from=1", headers=bearer)[2])
        assert [token["i"] for token in page["tokens"]] == [1, 2]
        stats = json.loads(request(root, "GET", "/websocket/stats", headers=bearer)[2])
        assert (stats["streams_started"], stats["requests"]) == (1, 3)
        paths = ("/healthz", "/", "/sse/", "/sse/race.js", "/blocking/chat")
        assert [request(root, "GET", path, headers=bearer)[0] for path in paths] == [404] * len(paths)


# ---- --raw-text


AT_ONCE = {"profile": "hazards", "ttft_ms": 0, "gap_ms": 0, "gap_sigma": 0}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_raw_text_is_the_same_text_as_utf8(transport: str) -> None:
    with running_server(transport, "--raw-text") as running:
        answer = ASK[transport](running.url, {"message": "x", "stream": AT_ONCE}).check()
        assert answer.text == "".join(build(PROFILES["hazards"], 0).texts)
        if transport == "chunked":
            assert "\u2028".encode() in request(running.url, "POST", "/chat", {"message": "x", "stream": AT_ONCE})[2]


def test_text_is_escaped_unless_raw(server: Callable[[str], RunningServer]) -> None:
    assert request(server("chunked").url, "POST", "/chat", {"message": "x", "stream": AT_ONCE})[2].isascii()


# ---- --late-head


@pytest.mark.parametrize("words", [["websocket"], ["polling"], ["blocking"], ["sse", "--stack", "aiohttp-write"]])
def test_a_late_head_where_none_can_be_is_refused(words: list[str]) -> None:
    result = CliRunner().invoke(main, [*words, "--late-head"])
    assert (result.exit_code, "--late-head: means nothing to" in result.output) == (2, True)


ROUTES = [
    ("chunked", "/chat", {}),
    ("sse", "/chat", {}),
    ("sse", "/v1/chat/completions", {"model": sources.NAME, "stream": True}),
]


@pytest.mark.parametrize(("transport", "path", "words"), ROUTES)
def test_a_late_head_comes_with_the_first_token(transport: str, path: str, words: dict[str, Any]) -> None:
    """Not with a heartbeat, and an answer that fails before it has a status to say so."""

    def asked(message: str) -> bytes:
        said = {"messages": [{"role": "user", "content": message}]} if words else {"message": message}
        return rawhttp.post(words | said, target=path)

    with running_server(transport, "--late-head", "--heartbeat", "0.05", "--source", sources.NAME) as running:
        with rawhttp.connected(running.url) as connection:
            started_s = time.monotonic()
            connection.sendall(asked("late"))
            first = connection.recv(1 << 16)
            assert time.monotonic() - started_s > 0.3
            assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert rawhttp.exchange(running.url, asked("raises"), half_close=True).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_standard_stream_that_is_closed_is_no_connection_s(closed: str) -> None:
    """Its number is free, and libuv ends a process that closes a socket of that number."""
    port = free_port()
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "servers", "sse", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not _answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b"200" in connection.recv(1000)
    except OSError:
        return False
