"""The race page's files: the same at every server, nothing inline, asked for again, and only with the token."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.independent import request
from support.processes import RunningServer, running_server

from servers import page
from servers.transport import TRANSPORTS

ROOT = Path(__file__).parents[2]
FILES = ["/", "/race.css", "/race.js", "/race-column.js", "/stream-chat.js", "/whole-answer.js"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_server_has_the_page(transport: str, server: Callable[[str], RunningServer]) -> None:
    url = server(transport).url
    status, headers, body = request(url, "GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == (ROOT / "servers" / "page" / "index.html").read_bytes()
    race = json.loads(request(url, "GET", "/race.json")[2])
    assert race["columns"][0]["transport"] == transport
    assert race["columns"][0]["url"] == "/chat"  # of its own, so that no other origin has to be allowed
    assert "hosted" in race["streams"]
    assert race["intermediaries"] == []


def test_the_module_is_the_clients_own(server: Callable[[str], RunningServer]) -> None:
    _, headers, body = request(server("sse").url, "GET", "/stream-chat.js")
    assert body == (ROOT / "clients" / "browser" / "stream-chat.js").read_bytes()
    assert headers["content-type"] == "text/javascript; charset=utf-8"


def test_nothing_inline_and_nothing_from_elsewhere(server: Callable[[str], RunningServer]) -> None:
    for path in FILES:
        _, headers, body = request(server("sse").url, "GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';" in policy
        assert "unsafe" not in policy
        assert not re.search(rb"https?://", body)
        assert not re.search(rb"<script>|<style|\son\w+=|style=|javascript:", body)


def test_a_file_that_has_not_changed_is_not_sent_again(server: Callable[[str], RunningServer]) -> None:
    _, headers, _ = request(server("sse").url, "GET", "/race.js")
    assert headers["cache-control"] == "no-cache"
    again = request(server("sse").url, "GET", "/race.js", headers={"If-None-Match": headers["etag"]})
    assert (again[0], again[2]) == (304, b"")
    assert request(server("sse").url, "GET", "/race.js", headers={"If-None-Match": '"other"'})[0] == 200


def test_the_page_asks_for_the_token_as_all_else_does() -> None:
    with running_server("sse", "--auth-token", "s3cret") as running:
        assert [request(running.url, "GET", path)[0] for path in (*FILES, "/race.json")] == [401] * 7
        assert request(running.url, "GET", "/", headers={"Cookie": "tokenderby=s3cret"})[0] == 200


def test_what_the_page_may_talk_to_is_named() -> None:
    policy = page.policy(["http://127.0.0.1:8001"])
    assert "connect-src 'self' http://127.0.0.1:8001 ws://127.0.0.1:8001;" in policy
