"""Who may ask: bearer token, cookie, origins; on every transport the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.independent import request
from support.processes import RunningServer, running_server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from servers import access
from servers.chat import RequestError
from servers.transport import TRANSPORTS

SECRET = "s3cret"
ALLOWED = "http://page.example"
FOREIGN = {"Origin": "http://evil.example"}
BEARER = {"Authorization": f"Bearer {SECRET}"}
COOKIE = {"Cookie": f"a=b; tokenderby={SECRET}"}
BODY = {"message": "x", "stream": {"profile": "fast", "tokens": 1}}
Guarded = Callable[[str], RunningServer]


def chat_status(running: RunningServer, headers: dict[str, str]) -> int:
    """The status of a chat request, 101 counted as 200."""
    if running.transport != "websocket":
        return request(running.url, "POST", "/chat", BODY, headers)[0]
    try:
        with connect(running.url.replace("http", "ws") + "/chat", additional_headers=headers):
            return 200
    except InvalidStatus as refused:
        return refused.response.status_code if b'"error"' in refused.response.body else 0


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic czNjcmV0"}, 401),
        ({"Authorization": "Bearer wr\u00f6ng"}, 401),
        ({"Cookie": "tokenderby=wrong"}, 401),
        (BEARER, 200),
        (COOKIE, 200),
        (
            {"Cookie": f'prefs={{"x":1}}; tokenderby={SECRET}'},
            200,
        ),  # other applications' cookies, as browsers keep them
        ({"Cookie": f"a[b]=c; tokenderby={SECRET}; d@e=f g"}, 200),
        ({"Cookie": f"novalue; =; ;tokenderby = {SECRET} ;x"}, 200),
        ({"Cookie": f'\xe9=\xff; tokenderby="{SECRET}"'}, 200),
        ({"Cookie": f"xtokenderby={SECRET}; Tokenderby={SECRET}"}, 401),
        ({"Cookie": "tokenderby"}, 401),
        ({"Cookie": "tokenderby="}, 401),
        (COOKIE | FOREIGN, 403),
        (COOKIE | {"Origin": "null"}, 403),
        (COOKIE | {"Origin": ALLOWED}, 200),
    ],
)
def test_chat_needs_the_token(guarded: Guarded, transport: str, headers: dict[str, str], status: int) -> None:
    told = chat_status(guarded(transport), headers)
    assert (200 if told == 202 else told) == status


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_page_of_the_server_s_own_origin_may_use_the_cookie(guarded: Guarded, transport: str) -> None:
    running = guarded(transport)
    assert chat_status(running, COOKIE | {"Origin": running.url}) in (200, 202)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_only_healthz_is_open(guarded: Guarded, transport: str) -> None:
    url = guarded(transport).url
    assert request(url, "GET", "/healthz")[0] == 200
    for path in ("/stats", "/clock"):
        assert request(url, "GET", path)[0] == 401
        assert request(url, "GET", path, headers=BEARER)[0] == 200


@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "websocket"])
def test_cross_origin_reading_is_for_named_origins_only(guarded: Guarded, transport: str) -> None:
    url = guarded(transport).url
    preflight = {"Access-Control-Request-Method": "POST"}
    status, headers, _ = request(url, "OPTIONS", "/chat", headers=preflight | {"Origin": ALLOWED})
    assert (status, headers["access-control-allow-origin"]) == (204, ALLOWED)
    assert "access-control-allow-origin" not in request(url, "OPTIONS", "/chat", headers=preflight | FOREIGN)[1]
    _, headers, _ = request(url, "POST", "/chat", BODY, BEARER | {"Origin": ALLOWED})
    assert headers["access-control-allow-origin"] == ALLOWED
    assert "access-control-allow-origin" not in request(url, "POST", "/chat", BODY, BEARER | FOREIGN)[1]


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("authorization,content-type,x-stainless-os", "authorization,content-type,x-stainless-os"),
        ("", "Authorization, Content-Type, Last-Event-ID"),
        ("x\xe4", "Authorization, Content-Type, Last-Event-ID"),
        ("x" * 3000, "Authorization, Content-Type, Last-Event-ID"),
    ],
    ids=lambda value: value[:20],
)
def test_a_named_origin_may_send_what_its_library_adds(guarded: Guarded, asked: str, allowed: str) -> None:
    """As OpenAI's for browsers: it puts headers of its own beside the key, and a preflight asks for each of them."""
    words = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    url = guarded("sse").url
    status, headers, _ = request(url, "OPTIONS", "/v1/chat/completions", headers=words | {"Origin": ALLOWED})
    assert (status, headers["access-control-allow-headers"]) == (204, allowed)
    _, headers, _ = request(url, "OPTIONS", "/v1/chat/completions", headers=words | FOREIGN)
    assert "access-control-allow-headers" not in headers


def test_without_a_token_a_foreign_page_still_cannot_open_a_websocket(server: Guarded) -> None:
    assert chat_status(server("websocket"), FOREIGN) == 403


def test_the_secret_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with running_server("sse", "--auth-token", SECRET) as running:
        chat_status(running, {"Authorization": "Bearer wrong"})
        chat_status(running, BEARER)
    out, err = capfd.readouterr()
    assert SECRET not in out + err


def test_the_name_of_a_host_is_the_same_in_capitals() -> None:
    """A browser's Origin is in small letters, whatever somebody typed, or a proxy set, as Host (RFC 9110, 4.2.3)."""
    access.check_origin({"Origin": "http://page.example:8001", "Host": "Page.Example:8001"}, ())
    with pytest.raises(RequestError):
        access.check_origin({"Origin": "http://page.example:8001", "Host": "page.example:8002"}, ())
