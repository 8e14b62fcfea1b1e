from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from support.processes import RunningServer, running_server
from support.scripted import Connection, response, scripted

from bench.probe.deployment import find_deployment
from clients.core.tls import Trust
from servers.user_errors import InputError, UserError

Serve = Callable[[str], RunningServer]


async def test_a_server_says_which_transport_it_is(server: Serve) -> None:
    deployment = await find_deployment([server("websocket").url, f"sse={server('sse').url}"], None, Trust())
    assert deployment.urls == {"websocket": server("websocket").url, "sse": server("sse").url}
    assert deployment.transports == ("websocket", "sse")  # in the registry's order


async def test_a_word_that_its_server_contradicts_is_refused(server: Serve) -> None:
    with pytest.raises(InputError, match=r"its /healthz says that it serves sse"):
        await find_deployment([f"chunked={server('sse').url}"], None, Trust())


@pytest.mark.parametrize("word", ["", "sse=", "ftp://a", "http://a:b", "http://user:secret@host", "sse=http://a b"])
async def test_what_is_no_address_is_named(word: str) -> None:
    with pytest.raises(InputError, match="takes https://HOST, or TRANSPORT=https://HOST"):
        await find_deployment([word], None, Trust())


async def test_a_transport_has_one_url(server: Serve) -> None:
    with pytest.raises(InputError, match="sse has a URL already"):
        await find_deployment([server("sse").url, f"sse={server('sse').url}"], None, Trust())


async def test_nobody_there_is_no_fault_of_the_words() -> None:
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1: nobody takes connections there \(Connect") as error:
        await find_deployment(["http://127.0.0.1:1"], None, Trust())
    assert error.value.exit_code == 1


async def test_a_name_that_nobody_knows_is_no_closed_port() -> None:
    with pytest.raises(UserError, match=r"http://nobody\.invalid: nobody knows this name \([A-Z]"):
        await find_deployment(["http://nobody.invalid"], None, Trust())


async def test_a_server_that_is_never_silent_cannot_be_asked_about_silence() -> None:
    with running_server("sse", "--heartbeat", "5", "--auth-token", "secret") as beating:
        with pytest.raises(UserError, match="without --heartbeat"):
            await find_deployment([beating.url], "secret", Trust())
        with pytest.raises(UserError, match=r"status 401; the server wants its token \(--token\)"):
            await find_deployment([beating.url], None, Trust())


@pytest.mark.parametrize("word", ["https://user:secret@host", "sse=https://user:secret@host"])
async def test_a_password_is_not_repeated_and_the_option_for_it_is_named(word: str) -> None:
    with pytest.raises(InputError, match="a token goes with --token;") as error:
        await find_deployment([word], None, Trust())
    assert "secret" not in str(error.value)


async def test_what_is_taken_is_said_once() -> None:
    with pytest.raises(InputError) as error:
        await find_deployment(["x"], None, Trust())
    assert str(error.value) == "URL 'x': no address; takes https://HOST, or TRANSPORT=https://HOST"


@pytest.mark.parametrize("is_named", [True, False])
async def test_what_a_server_says_is_shown_without_what_a_terminal_obeys(is_named: bool) -> None:
    async def answer(connection: Connection) -> None:
        await connection.request()
        await connection.send(response(b'{"transport": "x\\u001b[2J' + b"y" * 5000 + b'"}'))

    async with scripted(answer) as served:
        with pytest.raises((InputError, UserError), match=r"/healthz says that it serves '?x\?\[2Jyyy") as error:
            await find_deployment([f"sse={served.url}" if is_named else served.url], None, Trust())
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
    assert "_Health" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"\x16\x03\xff garbage\r\n\r\n", "the answer is no HTTP, or too large"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "the answer is no HTTP, or too large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 2_000_000, "the answer is no HTTP, or too large"),
        (b"", "the connection was closed before the response; is it an https:// address?"),
        (response(b"<title>400 To a TLS port</title>", status="400 Bad"), "answers 400 (“400 To a TLS port”); takes"),
        (response(b"<html>Sign in", more="Content-Type: text/html\r\n"), "answers 200, but not as one of our servers"),
        (response(b"", status="302 Found", more="Location: /login\r\n"), "302, a redirect"),
        (response(b"", status="403 Forbidden"), "answers 403, which our servers never say there"),
        (response(b"", status="429 Slow"), "answers 429, too many requests"),
        (response(b"", status="502 Bad"), "answers 502, so that no server is reached, or not yet"),
    ],
)
async def test_whoever_answers_in_the_servers_place_is_told_of_plainly(said: bytes, told: str) -> None:
    async def answer(connection: Connection) -> None:
        await connection.request()
        with suppress(OSError):
            await connection.send(said)

    async with scripted(answer) as served:
        with pytest.raises(UserError) as error:
            await find_deployment([served.url], None, Trust())
    assert told in str(error.value)
    assert error.value.exit_code == 1
