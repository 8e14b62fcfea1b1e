"""A few answers of each transport through the stamping proxy, and what each token went through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from bench.analysis.measures.waterfall import Waterfall, waterfall
from bench.calibration.waterfall_client import WaterfallJob
from bench.running.machine import pinning
from bench.selfcost.child_process import ChildError, running
from servers.transport import TRANSPORTS
from servers.user_errors import UserError

_STREAM: dict[str, object] = {"profile": "fast", "tokens": 60, "ttft_ms": 50, "gap_ms": 10}
_MESSAGES = 3
_INTERVAL_S = 0.1
_LIMIT_S = 60.0


class WaterfallError(UserError):
    """The stamps of a transport's tokens do not fit together."""


def waterfalls(transports: Sequence[str] = tuple(TRANSPORTS), messages: int = _MESSAGES) -> Iterator[Waterfall]:
    """Each transport's, as it is measured; where there is no Redis, without those that need it.

    Raises WaterfallError, ChildError.
    """
    for transport in transports:
        try:
            yield _measured(transport, messages)
        except ChildError:
            if not TRANSPORTS[transport].needs_redis:
                raise


def _measured(transport: str, messages: int) -> Waterfall:
    cores = pinning()
    with running("servers", transport, cores=cores["servers"]) as server:
        upstream = urlsplit(str(server.line()["url"]))
        address = str(upstream.hostname), str(upstream.port)
        with running("bench.calibration.tapped_proxy", *address, cores=cores["servers"]) as proxy:
            job = WaterfallJob(transport, proxy.line()["url"], messages, _STREAM, _INTERVAL_S)
            given = msgspec.json.encode(job)
            with running("bench.calibration.waterfall_client", cores=cores["load"], standard_input=given) as client:
                told = client.line_with("tokens", _LIMIT_S)
            proxy.terminate()
            passed = proxy.line_with("tokens", _LIMIT_S)["tokens"]
    if told["failed"]:
        raise WaterfallError(f"waterfall, {transport}: {'; '.join(told['failed'])}")
    return waterfall(transport, joined(transport, told["tokens"], passed))


def joined(transport: str, received: Sequence[Sequence[int]], passed: Sequence[Sequence[int]]) -> list[list[int]]:
    """The six stamps of each token. One user asks one question after the other, so both sides have one order."""
    if [token[0] for token in received] != [token[0] for token in passed]:
        counts = f"{len(received)} came, {len(passed)} passed the proxy"
        raise WaterfallError(f"waterfall, {transport}: not the tokens that passed the proxy ({counts})")
    return [
        [due, sent, in_ns, out_ns, read, decoded]
        for (_, due, sent, read, decoded), (_, in_ns, out_ns) in zip(received, passed, strict=True)
    ]
