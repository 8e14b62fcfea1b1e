"""How long a server goes on for a connection that has dropped (pure).

A server tells when its work for each connection began and ended (servers.answering). What began within an attempt that
dropped was that attempt's; from the moment when the client noticed, its end is what is counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from clients.core.record import StreamRecord

ToldSpan = tuple[str, int, int | None]
"""Stream id, begin and end by the server's clock (ns); None: it goes on."""


def spans_told(stats: dict[str, object]) -> list[ToldSpan]:
    """What a server's `/stats?since=…` tells; nothing where it does not, as one of somebody else's."""
    try:
        return msgspec.convert(stats.get("answered", []), list[ToldSpan])
    except msgspec.ValidationError:
        return []


def enter_stops(records: Sequence[StreamRecord], spans: Sequence[ToldSpan], offset_ns: int) -> bool:
    """Fill in `stop_s` where something dropped: infinite for work that goes on, none where nothing had begun.

    `offset_ns`: the server's clock minus that of the records. Whether all of it is over.
    """
    by_id: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for stream_id, begin_ns, end_ns in spans:
        by_id[stream_id].append((begin_ns - offset_ns, math.inf if end_ns is None else end_ns - offset_ns))
    for record in records:
        names = [record.stream_id, *(f"{record.stream_id}-{k}" for k in range(1, record.attempts))]  # asked anew
        of_message = [span for name in names for span in by_id.get(name, [])]
        ends = [_end_of(of_message, *drop) for drop in record.drops_at_ns]
        went_on_ns = [max(0.0, end - at) for end, (_, at) in zip(ends, record.drops_at_ns, strict=True) if end]
        record.stop_s = sum(went_on_ns) / 1e9 if went_on_ns else None
    return all(record.stop_s != math.inf for record in records)


def _end_of(spans: list[tuple[float, float]], begun_ns: int, dropped_ns: int) -> float:
    """When the work that began within an attempt was over; 0 if there was none."""
    return max((end for begin, end in spans if begun_ns <= begin <= dropped_ns), default=0.0)
