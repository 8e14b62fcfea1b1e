"""The registry of transports. A fifth one is a folder under `servers/`, a module under `clients/` and a line here.

Everything that differs between transports is found through this table: the server's application
(`servers.<name>.app`), its wire format (`servers.<name>.wire`), the client (`clients.<name>`), the title and the colour
that reports use everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transport:
    """A way to bring tokens to a client.

    `name` is the word in plans, `title` the one for people, `colour` from the Okabe-Ito palette, which people
    with any common colour blindness can tell apart. `streams` is false for a baseline that answers all at once, and
    `pulls` is true where tokens travel only when the client asks.
    """

    name: str
    title: str
    colour: str
    streams: bool = True
    pulls: bool = False
    needs_redis: bool = False


TRANSPORTS: dict[str, Transport] = {
    t.name: t
    for t in (
        Transport("polling", "Polling", "#E69F00", pulls=True, needs_redis=True),
        Transport("websocket", "WebSocket", "#CC79A7"),
        Transport("chunked", "Chunked", "#0072B2"),
        Transport("sse", "SSE", "#009E73"),
        Transport("blocking", "Blocking", "#7F7F7F", streams=False),
    )
}
