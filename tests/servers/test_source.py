"""A source behind every server: whole answers are whole, and whatever fails is said to have failed, and soon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from support.independent import Answer, request
from support.processes import RunningServer, running_server, wait_until
from support.sources import NAME, TOKENS
from support.transports import ASK
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from servers.transport import TRANSPORTS

Servers = Callable[[str], RunningServer]
Told = tuple[list[str], int, dict[str, Any]]
"""Texts of an answer that failed, the status (a WebSocket's close code), and the error."""

WHOLE = ["good", "blocking", "coroutine"]
EARLY = {  # what fails before its first token
    "raises": "OSError",
    "no_iterator": "int",
    "text_alone": "str",
    "fails_at_once": "KeyError",
    "endlessly_empty": "hardly any but empty",
}
LATE = {  # what fails behind "Half an"
    "breaks": (502, "RuntimeError"),
    "breaks_in_its_thread": (502, "RuntimeError"),
    "silent": (504, "nothing for 0.4 s"),
    "disobedient": (504, "nothing for 0.4 s"),
    "silent_in_its_thread": (504, "nothing for 0.4 s"),
    "no_text": (502, "a int where a str"),
    "exits": (502, "SystemExit"),
    "exits_in_its_thread": (502, "SystemExit"),
    "gives_up": (502, "CancelledError"),
    "half_a_pair": (502, "surrogate"),
    "huge": (502, "4193280 bytes"),
}
ENDLESS = ["endless", "endless_in_its_thread"]


def failed_answer(running: RunningServer, message: str) -> Told:
    """What an independent client sees of an answer that fails. Fails if there is an end message."""
    return FAILED.get(running.transport, _by_post)(running.url, message)


def _by_post(url: str, message: str) -> Told:
    status, headers, data = request(url, "POST", "/chat", {"message": message})
    if headers["content-type"] == "application/json":
        return [], status, json.loads(data)["error"]
    assert status == 200
    events = "event-stream" in headers["content-type"]
    lines = [line.removeprefix("data: ") for line in data.decode().split("\n") if line.startswith(("data: ", "{"))]
    assert events == data.endswith(b"\n\n")
    assert "[DONE]" not in lines
    *tokens, last = map(json.loads, lines)
    assert not events or f"event: error\ndata: {lines[-1]}" in data.decode()
    return [token["t"] for token in tokens], 0, last["error"]


def _by_websocket(url: str, message: str) -> Told:
    found: list[dict[str, Any]] = []
    with connect(url.replace("http", "ws") + "/chat") as websocket:
        websocket.send(json.dumps({"message": message}))
        with suppress(ConnectionClosed):
            while True:
                found.append(json.loads(websocket.recv(timeout=20)))
        assert websocket.close_code is not None
        return [token["t"] for token in found[:-1]], websocket.close_code, found[-1]["error"]


def _by_polls(url: str, message: str) -> Told:
    status, _, data = request(url, "POST", "/chat", {"message": message})
    assert status == 202
    path = json.loads(data)["poll"]
    texts: list[str] = []
    while True:
        status, headers, data = request(url, "GET", f"{path}?from={len(texts)}&wait=5")
        if status != 200:
            return texts, status, json.loads(data)["error"] | {"after": headers.get("retry-after")}
        page = json.loads(data)
        assert not page["done"]
        texts += [token["t"] for token in page["tokens"]]


FAILED: dict[str, Callable[[str, str], Told]] = {"websocket": _by_websocket, "polling": _by_polls}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", WHOLE)
def test_what_the_source_gives_is_the_answer(sourced: Servers, transport: str, kind: str) -> None:
    before_ns = time.monotonic_ns()
    answer = ASK[transport](sourced(transport).url, {"message": kind, "stream": "fast", "seed": 3}).check()
    assert [token["t"] for token in answer.tokens] == list(TOKENS)
    due_ns = [token["due"] for token in answer.tokens]
    assert due_ns == sorted(due_ns)
    assert before_ns < due_ns[0] < due_ns[-1] < time.monotonic_ns()
    assert due_ns[-1] - due_ns[0] >= 40_000_000  # they came with pauses, and were not kept back


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_answer_without_tokens_is_whole(sourced: Servers, transport: str) -> None:
    assert ASK[transport](sourced(transport).url, {"message": "empty"}).check().end["n"] == 0  # type: ignore[index]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_one_answer_serves_all_who_name_it(sourced: Servers, transport: str) -> None:
    def read(_: int) -> Answer:
        return ASK[transport](sourced(transport).url, {"message": "good", "stream_id": f"shared-{transport}"}).check()

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(read, range(5)))
    assert len({tuple(token["due"] for token in answer.tokens) for answer in answers}) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", EARLY)
def test_a_source_that_fails_at_once_is_an_error(sourced: Servers, transport: str, kind: str) -> None:
    texts, status, error = failed_answer(sourced(transport), kind)
    assert texts == []
    assert status == {"blocking": 502, "polling": 502, "websocket": 1011}.get(transport, 0)
    assert error["code"] == "source_failed"
    assert EARLY[kind] in error["message"]
    assert "secret" not in error["message"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", LATE)
def test_a_half_answer_is_never_called_whole(sourced: Servers, transport: str, kind: str) -> None:
    running, (wanted, why) = sourced(transport), LATE[kind]
    completed = running.get("/stats")["streams_completed"]
    texts, status, error = failed_answer(running, kind)
    assert texts == ([] if transport == "blocking" else ["Half", " an"])
    assert status == {"blocking": wanted, "polling": wanted, "websocket": 1011}.get(transport, 0)
    assert error["code"] == ("source_timeout" if wanted == 504 else "source_failed")
    assert why in error["message"]
    assert "secret" not in error["message"]
    stats = running.get("/stats")
    assert stats["streams_completed"] == completed
    assert stats["streams_active"] == 0


@pytest.mark.parametrize("transport", ["chunked", "polling"])
@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_source_is_ended(sourced: Servers, transport: str, kind: str) -> None:
    texts, _, error = failed_answer(sourced(transport), kind)
    assert len(texts) == 20_000
    assert "more than 20000 tokens" in error["message"]


def test_what_is_left_of_a_failed_answer_is_its_error(sourced: Servers) -> None:
    url = sourced("sse").url
    body = {"message": "breaks", "stream_id": "broken"}
    assert b"event: error" in request(url, "POST", "/chat", body)[2]
    assert request(url, "POST", "/chat", body | {"from": 1})[2].count(b"data: ") == 2  # the second token, the error
    for status, _, data in (
        request(url, "POST", "/chat", body | {"from": 2}),
        request(url, "GET", "/chat?message=x", headers={"Last-Event-ID": "broken/1"}),  # so an EventSource gives up
    ):
        assert (status, json.loads(data)["error"]["code"]) == (502, "source_failed")
    status, _, data = request(url, "POST", "/chat", body | {"from": 3})
    assert (status, json.loads(data)["error"]["code"]) == (400, "bad_request")


def test_nobody_waits_for_what_may_never_come(sourced: Servers) -> None:
    url = sourced("chunked").url
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(request, url, "POST", "/chat", {"message": "silent", "stream_id": "early"})
        wait_until(lambda: sourced("chunked").get("/stats")["streams_active"] == 1)
        status, _, data = request(url, "POST", "/chat", {"message": "x", "stream_id": "early", "from": 9})
        assert (status, json.loads(data)["error"]["code"]) == (400, "bad_request")
        assert first.result()[0] == 200


def test_openais_client_reads_a_source_too(sourced: Servers) -> None:
    with openai.OpenAI(base_url=sourced("sse").url + "/v1", api_key="any", max_retries=0) as sdk:
        assert [model.id for model in sdk.models.list()] == [NAME]
        whole = sdk.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "good"}], max_tokens=1)
        assert whole.choices[0].message.content == "".join(TOKENS)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == len(TOKENS)
        with pytest.raises(openai.InternalServerError):
            sdk.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "breaks"}])
        stream = sdk.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "breaks"}], stream=True)
        texts: list[str | None] = []
        with pytest.raises(openai.APIError, match="RuntimeError"):
            texts.extend(chunk.choices[0].delta.content for chunk in stream)
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(model="fast", messages=[{"role": "user", "content": "good"}])


def test_a_server_whose_sources_hang_stops_all_the_same() -> None:
    with running_server("chunked", "--source", NAME) as running, ThreadPoolExecutor(3) as pool:
        hanging = ("silent", "disobedient", "silent_in_its_thread")
        asked = [pool.submit(request, running.url, "POST", "/chat", {"message": kind}) for kind in hanging]
        wait_until(lambda: running.get("/stats")["streams_active"] == 3)
        assert running.get("/stats")["source"] == NAME
        assert running.stop() == 0
        for each in asked:
            assert b'"done"' not in each.result()[2]


def test_what_a_source_prints_is_not_taken_for_what_the_server_says(tmp_path: Path) -> None:
    """Before the line that says where it listens, or into a pipe that nobody reads behind it."""
    (tmp_path / "loud.py").write_text("print('loading')\nfrom tests.support.sources import tokens\n")
    command = [sys.executable, "-m", "servers", "chunked", "--source", "loud:tokens"]
    path = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=path)
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            assert [token["t"] for token in ASK["chunked"](url, {"message": "talkative"}).check().tokens] == [*TOKENS]
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()
        assert Path(log.name).read_text().startswith("loading\nxxx")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "takes MODULE:FUNCTION"),
        ("no_such_module:tokens", "cannot import no_such_module"),
        ("exits:tokens", "cannot import exits: SystemExit: no key"),
        ("tests.support.sources:nothing", "has no function nothing"),
        ("tests.support.sources:TEXTS", "has no function TEXTS"),
    ],
)
def test_a_source_that_is_none_is_named(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "exits.py").write_text("import sys\nsys.exit('no key')\n")
    command = [sys.executable, "-m", "servers", "sse", "--source", name]
    path = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, env=path)
    assert ended.returncode == 2
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
