"""The registry of transports, and of what else can be measured.

A fifth transport is a folder under `servers/`, a module under `clients/` and a line here.

Everything that differs between transports is found through this table: the server's application
(`servers.<name>.app`), its wire format (`servers.<name>.wire`), the client (`clients.<name>`), Locust's user, the title
and the colour that reports use everywhere. A new line goes to the end: tables and the ports of Compose have this order.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transport:
    """A way to bring tokens to a client.

    `name` is the word in plans, `title` the one for people, `colour` from the Okabe-Ito palette, which people
    with any common colour blindness can tell apart. `streams` is false for a baseline that answers all at once, and
    `pulls` is true where tokens travel only when the client asks, `head_first` where an HTTP response begins before its
    first token.
    """

    name: str
    title: str
    colour: str
    streams: bool = True
    pulls: bool = False
    needs_redis: bool = False
    head_first: bool = False

    @property
    def user_class(self) -> str:
        """What its users are called in Locust: `SSEUser`."""
        return f"{''.join(filter(str.isalnum, self.title))}User"


TRANSPORTS: dict[str, Transport] = {
    t.name: t
    for t in (
        Transport("polling", "Polling", "#E69F00", pulls=True, needs_redis=True),
        Transport("websocket", "WebSocket", "#CC79A7"),
        Transport("chunked", "Chunked", "#0072B2", head_first=True),
        Transport("sse", "SSE", "#009E73", head_first=True),
        Transport("blocking", "Blocking", "#7F7F7F", streams=False),
    )
}

ENDPOINTS: dict[str, Transport] = {"openai": Transport("openai", "OpenAI endpoint", "#D55E00")}
"""What only a client is here for: servers of others, which do not say when their model made a token."""
CONTESTANTS: dict[str, Transport] = TRANSPORTS | ENDPOINTS
"""All that can be measured: the words that a plan's `transport` takes."""

STREAMING: tuple[str, ...] = tuple(name for name, transport in TRANSPORTS.items() if transport.streams)
"""All but the baselines, which have no tokens to watch: no user in Locust, no address of their own under Compose."""
PUSHED: tuple[str, ...] = tuple(name for name in STREAMING if not TRANSPORTS[name].pulls)
"""Those whose server sends a token as soon as there is one, so that heartbeats and cut connections mean something."""
HEAD_FIRST: tuple[str, ...] = tuple(name for name, transport in TRANSPORTS.items() if transport.head_first)
"""Those whose server may as well withhold the head of its response until there is a token."""
