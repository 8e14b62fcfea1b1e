"""Which versions of HTTP the way offers: by ALPN, over TLS (RFC 7301)."""

from __future__ import annotations

import asyncio

from bench.probe.asking import Asking
from bench.probe.finding import Finding
from bench.probe.question import ProbeQuestion
from clients.core.tls import HTTP_1, HTTP_2
from servers.transport import TRANSPORTS

CONNECT_S = 10.0
OFFERED = (HTTP_2, HTTP_1)


async def _ask(asking: Asking) -> Finding:
    endpoint = asking.deployment.endpoint(asking.transport)
    if not endpoint.secure:
        return _finding(asking, None, "not asked: without TLS there is no choice (RFC 9113 §3.1)")
    taken = [protocol for protocol in OFFERED if await _is_taken(asking, protocol)]
    return _finding(
        asking, ", ".join(taken) or "none", f"offers {', '.join(taken)}" if taken else "offers none by ALPN"
    )


async def _is_taken(asking: Asking, protocol: str) -> bool:
    """Whether the other side agrees to this one, offered alone."""
    endpoint, trust = asking.deployment.endpoint(asking.transport), asking.deployment.trust
    try:
        async with asking.deployment.slots, asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=trust.context_for(protocol))
    except (OSError, TimeoutError):  # some end the handshake where they know none of what is offered
        return False
    taken = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.transport.abort()
    return bool(taken == protocol)


def _finding(asking: Asking, value: str | None, words: str) -> Finding:
    return Finding(
        question="versions", transport=asking.transport, value=value, seen=int(value is not None), words=words
    )


QUESTIONS = (
    ProbeQuestion("versions", "Which versions of HTTP?", "shape", tuple(TRANSPORTS), 1, lambda _: 1.0, _ask, once=True),
)
