"""One answer behind the servers of all transports: `--source http://…` hands on what a chunked server has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from support.independent import Answer, request
from support.processes import RunningServer, running_server
from support.sources import TOKENS
from support.transports import ASK

from servers.relay_source import RelayedServer
from servers.transport import TRANSPORTS
from servers.user_errors import InputError

Servers = Callable[[str], RunningServer]


@pytest.fixture(scope="module")
def relays(sourced: Servers) -> Iterator[dict[str, str]]:
    """The address of a server of each transport, all with one source behind."""
    upstream = sourced("chunked").url
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        others = [name for name in TRANSPORTS if name != "chunked"]
        started = pool.map(lambda name: stack.enter_context(running_server(name, "--source", upstream)), others)
        yield {"chunked": upstream} | {server.transport: server.url for server in started}


def test_one_generation_has_five_readers(relays: dict[str, str], sourced: Servers) -> None:
    def ask(transport: str) -> Answer:
        return ASK[transport](relays[transport], {"message": "good", "stream_id": "shared-by-five"}).check()

    before = sourced("chunked").get("/stats")["streams_started"]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(ask, TRANSPORTS))
    assert {tuple(token["t"] for token in answer.tokens) for answer in answers} == {TOKENS}
    assert len({tuple(token["due"] for token in answer.tokens) for answer in answers}) == 1
    assert sourced("chunked").get("/stats")["streams_started"] == before + 1


@pytest.mark.parametrize(("kind", "code"), [("breaks", "source_failed"), ("silent", "source_timeout")])
def test_a_failure_is_handed_on(relays: dict[str, str], kind: str, code: str) -> None:
    _, _, data = request(relays["sse"], "POST", "/chat", {"message": kind})
    assert b'"done"' not in data
    assert f'event: error\ndata: {{"error": {{"code": "{code}"'.encode() in data
    status, _, data = request(relays["blocking"], "POST", "/chat", {"message": kind})
    assert (status, json.loads(data)["error"]["code"]) == (502, code)


def test_a_simulated_model_is_handed_on_too(server: Servers) -> None:
    upstream = server("chunked").url
    known = ASK["chunked"](upstream, {"message": "x", "stream_id": "relayed", "stream": "hazards"}).check()
    with running_server("sse", "--source", upstream) as relay:
        answer = ASK["sse"](relay.url, {"message": "x", "stream_id": "relayed"}).check()
    assert answer.end == known.end
    assert [(token["t"], token["due"]) for token in answer.tokens] == [(t["t"], t["due"]) for t in known.tokens]


@pytest.mark.parametrize("url", ["http://[", "http://a..b:1", "http://h:x", "http://", "http://me:secret@h:1"])
def test_what_is_no_address_is_told_without_a_password(url: str) -> None:
    with pytest.raises(InputError, match=r"^--source: takes an address") as error:
        RelayedServer.of(url, None)
    assert "secret" not in str(error.value)


def test_what_is_no_chunked_server_is_named(server: Servers) -> None:
    for upstream, why in ((server("sse").url, "it has to be a chunked one"), ("http://127.0.0.1:1", "does not answer")):
        with running_server("blocking", "--source", upstream) as relay:
            status, _, data = request(relay.url, "POST", "/chat", {"message": "x"})
        assert status == 502
        assert why in json.loads(data)["error"]["message"]
