"""The race page at `/`: plain files, the client's module, and what the page is told of the race that it shows.

A server's own page races the server's ways to be read; `tokenderby watch` serves the same files with all transports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from aiohttp import web

from servers.stream import PROFILES
from servers.transport import TRANSPORTS

_HERE = Path(__file__).parent
# The page is a client: the module that it shows is the one that the clients have.
_CLIENT = _HERE.parents[1] / "clients" / "browser"
_FILES = {
    "/": (_HERE / "index.html", "text/html"),
    "/race.css": (_HERE / "race.css", "text/css"),
    "/race.js": (_HERE / "race.js", "text/javascript"),
    "/race-column.js": (_HERE / "race-column.js", "text/javascript"),
    "/stream-chat.js": (_CLIENT / "stream-chat.js", "text/javascript"),
    "/whole-answer.js": (_CLIENT / "whole-answer.js", "text/javascript"),
}


class PageColumn(msgspec.Struct, frozen=True):
    """One contestant: how it asks, its name and colour, and where (an address, or a path of the page's own origin)."""

    transport: str
    title: str
    colour: str
    url: str = "/chat"


class PageRace(msgspec.Struct, frozen=True):
    """What the page shows: columns, the stream profiles to choose from, and intermediaries where it may choose.

    `heartbeat_s`: as chosen, 0 for none. `time_scale` divides the times of intermediaries, heartbeats and thinking.
    """

    columns: tuple[PageColumn, ...]
    streams: tuple[str, ...] = tuple(PROFILES)
    intermediaries: tuple[str, ...] = ()
    intermediary: str = ""
    heartbeat_s: float = 0.0
    time_scale: float = 1.0


@dataclass(frozen=True)
class _File:
    body: bytes
    content_type: str
    etag: str


@cache
def _files() -> dict[str, _File]:
    found = {path: (file.read_bytes(), content_type) for path, (file, content_type) in _FILES.items()}
    return {path: _File(body, kind, hashlib.sha256(body).hexdigest()[:32]) for path, (body, kind) in found.items()}


def columns_of(transport: str) -> tuple[PageColumn, ...]:
    """The ways in which a browser can read one server."""
    entry = TRANSPORTS[transport]
    own = PageColumn(transport, entry.title, entry.colour)
    native = PageColumn("eventsource", f"{entry.title}, EventSource", entry.colour)
    return (own, native) if transport == "sse" else (own,)


def add_routes(app: web.Application, race: Callable[[], PageRace], origins: Iterable[str] = ()) -> None:
    """Serve the page and `/race.json`. `origins`: what else than its own the page may talk to."""
    allowed = policy(origins)

    async def answer(request: web.Request) -> web.Response:
        return _answer(request, _files()[request.path], allowed)

    async def tell(_: web.Request) -> web.Response:
        body = msgspec.json.encode(race())
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    for path in _FILES:
        app.router.add_get(path, answer)
    app.router.add_get("/race.json", tell)
    app.router.add_get("/favicon.ico", _nothing)  # browsers ask for it
    _files()  # read now: at its limit of descriptors a server could not open them


async def _nothing(_: web.Request) -> web.Response:
    return web.Response(status=204)


def _answer(request: web.Request, file: _File, allowed: str) -> web.Response:
    headers = {
        "Cache-Control": "no-cache",  # kept, but asked for: a new version shows at once
        "Content-Security-Policy": allowed,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    known = any(tag.value in (file.etag, "*") for tag in request.if_none_match or ())
    response = web.Response(status=304, headers=headers)
    if not known:
        response = web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=headers)
    response.etag = file.etag
    return response


def policy(origins: Iterable[str]) -> str:
    """The page's Content-Security-Policy: nothing inline, nothing from elsewhere, no page may frame it."""
    http = tuple(origins)
    sources = " ".join(("'self'", *http, *(origin.replace("http", "ws", 1) for origin in http)))
    rules = ("default-src 'none'", "script-src 'self'", "style-src 'self'", f"connect-src {sources}", "base-uri 'none'")
    return "; ".join((*rules, "form-action 'none'", "frame-ancestors 'none'"))
