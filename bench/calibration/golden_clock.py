"""The golden clock itself: server and client side by side, and how late the client's stamps are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from bench.analysis.measures.harness_error import ClientError
from bench.analysis.statistics.estimators import Ints
from bench.calibration.golden_client import ClientJob
from bench.calibration.golden_formats import GOLDEN_TRANSPORTS
from bench.running.machine import pinning
from bench.selfcost.child_process import running
from servers.user_errors import UserError

LEVELS = (1, 20, 50, 200)
"""Streams at once."""

GAP_MS = 20.0  # 50 tokens per second and stream
_INTERVAL_S = 0.25  # between polls
_LIMIT_S = 120.0
_LENGTH_S = 1.4  # of what is measured, at each level
_WHOLE_ANSWER_S = 0.3  # an answer that is sent whole gives one sample: many short ones


class GoldenError(UserError):
    """The golden clock could not be read."""


def client_errors(
    levels: Sequence[int] = LEVELS, transports: Sequence[str] = GOLDEN_TRANSPORTS, *, length_s: float = _LENGTH_S
) -> Iterator[ClientError]:
    """Each transport at each level, as it is measured. Raises GoldenError, ChildError."""
    cores = pinning()
    for transport in transports:
        with running("bench.calibration.golden_server", transport, str(GAP_MS), cores=cores["servers"]) as server:
            url = server.line()["url"]
            told = {streams: _received(transport, url, streams, length_s, cores["load"]) for streams in levels}
            server.terminate()
            sends = server.line_with("before", _LIMIT_S)
        for streams, received in told.items():
            yield compared(transport, streams, received, sends["before"], sends["after"])


def _received(
    transport: str, url: str, streams: int, length_s: float, cores: Sequence[int]
) -> Mapping[str, Sequence[int]]:
    """The stamps of a client process with so many users."""
    answer_s = _WHOLE_ANSWER_S if transport == "blocking" else length_s
    tokens, messages = round(1000 * answer_s / GAP_MS), max(round(length_s / answer_s), 1)
    spread_s = max(_INTERVAL_S, _WHOLE_ANSWER_S)
    job = ClientJob(transport, url, streams, messages, tokens, GAP_MS, _INTERVAL_S, spread_s)
    given = msgspec.json.encode(job)
    with running("bench.calibration.golden_client", cores=cores, standard_input=given) as client:
        told = client.line_with("received", _LIMIT_S)
    if told["failed"]:
        raise GoldenError(f"golden clock, {transport}: {'; '.join(told['failed'])}")
    received: Mapping[str, Sequence[int]] = told["received"]
    return received


def compared(
    transport: str,
    streams: int,
    received: Mapping[str, Sequence[int]],
    before: Mapping[str, Sequence[int]],
    after: Mapping[str, Sequence[int]],
) -> ClientError:
    """How much later than its send began what it brought was stamped (ns); a sample per send.

    What was stamped before it is `early`.
    """
    late_ns = np.concatenate([_since(before[name], stamps) for name, stamps in received.items()])
    sends_ns = np.concatenate([_since(before[name], after[name]) for name in received])
    p50, p99 = np.quantile(late_ns, (0.5, 0.99), method="inverted_cdf") / 1e6
    return ClientError(
        transport=transport,
        streams=streams,
        samples=len(late_ns),
        p50_ms=float(p50),
        p99_ms=float(p99),
        max_ms=float(late_ns.max()) / 1e6,
        early=int((late_ns < 0).sum()),
        send_p99_ms=float(np.quantile(sends_ns, 0.99, method="inverted_cdf")) / 1e6,
    )


def _since(before: Sequence[int], stamps: Sequence[int]) -> Ints:
    """From the beginning of each send to its stamp; tokens that were sent together are one."""
    sent_ns = np.array(before, np.int64)
    firsts = np.flatnonzero(np.diff(sent_ns, prepend=-1))
    since_ns: Ints = (np.array(stamps, np.int64) - sent_ns)[firsts]
    return since_ns
