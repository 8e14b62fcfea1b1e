"""How each transport speaks, as tests know it: a module each, found by its name.

Such a module shares no code with the project's client, so that both cannot be wrong in the same way. It has

    ask(url, body)           an independent client: the Answer to a chat request
    responses(peer, body)    what a real server sends to one, response by response, over a raw socket
    TOKEN, END               patterns whose matches end with the last byte of a token's message and of the end message
    pieces(answer)           pushed transports: what a scripted server sends, a head, a piece per token, the end
    HEARTBEAT                pushed transports: what a heartbeat begins with

A transport without a module is spoken for by its own client (support.own_client), so that it is tested all the same;
what needs a scripted server's bytes leaves it out.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from support import own_client
from support.independent import TIMEOUT_S, Answer

from servers.stream import Schedule
from servers.transport import PUSHED, TRANSPORTS

KNOWN: dict[str, ModuleType] = {
    name: import_module(f"{__name__}.{name}") for name in TRANSPORTS if find_spec(f"{__name__}.{name}")
}
SCRIPTED = [name for name in PUSHED if name in KNOWN]
ASK: dict[str, Callable[..., Answer]] = {
    name: KNOWN[name].ask if name in KNOWN else partial(own_client.ask, name) for name in TRANSPORTS
}


def pieces(transport: str, answer: Schedule) -> list[bytes]:
    """What a scripted server of a transport in SCRIPTED sends: a head, then a piece per token, then the end."""
    found: list[bytes] = KNOWN[transport].pieces(answer)
    return found


def record(transport: str, url: str, body: dict[str, Any]) -> tuple[bytes, ...]:
    """What a real server sends for one question: a response per request (a WebSocket's first is the handshake)."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=TIMEOUT_S) as peer:
        if transport in KNOWN:
            return tuple(KNOWN[transport].responses(peer, body))
        return own_client.responses(transport, peer, body)


def has_end(transport: str, data: bytes) -> bool:
    """Whether these bytes of one connection have a whole end message."""
    if transport in KNOWN:
        return KNOWN[transport].END.search(data) is not None
    return own_client.hear(transport, data).end_ns > 0


def message_ends(transport: str, responses: tuple[bytes, ...]) -> tuple[list[int], int]:
    """The offsets behind which a client can know each token, and the answer's end, over all bytes of `responses`."""
    if transport not in KNOWN:
        heard = own_client.hear(transport, b"".join(responses))
        return [*heard.received_ns], heard.end_ns
    module, whole = KNOWN[transport], transport not in PUSHED  # in a page, or a whole answer, none before the last byte
    tokens: list[int] = []
    start = end = 0
    for response in responses:
        tokens += [start + (len(response) if whole else match.end()) for match in module.TOKEN.finditer(response)]
        end = max([end, *(start + match.end() for match in module.END.finditer(response))])
        start += len(response)
    return tokens, end
