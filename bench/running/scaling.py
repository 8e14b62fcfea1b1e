"""A plan states real times; here they are divided by its time scale, all of them and nowhere else (pure).

What is divided: the answers, when messages start, think times, the clients' limits, intervals and backoff (below), the
servers' heartbeats and patience (bench.running.endpoints), and the proxies' rules (they divide by themselves). What a
machine needs is not: latencies of a profile that are `unscaled`, and the limits beyond which a cell is void.
"""

from __future__ import annotations

import msgspec

from bench.plan import Cell
from clients.job import Load
from servers.stream import StreamSpec
from servers.transport import CONTESTANTS

_LOAD_TIMES = ("think_s", "timeout_s", "silence_s", "token_silence_s", "backoff_s", "backoff_cap_s")
_LOAD_RATES = ("rate_per_s", "speed_up")
_STREAM_TIMES = ("ttft_ms", "gap_ms", "stall_ms")


def scaled_load(load: Load, time_scale: float) -> Load:
    """`load` with its times divided and its rates multiplied. A trace passes faster, and none of it is left out."""
    times = {name: value / time_scale for name in _LOAD_TIMES if (value := getattr(load, name)) is not None}
    rates = {name: getattr(load, name) * time_scale for name in _LOAD_RATES}
    return msgspec.structs.replace(load, **times, **rates)


def scaled_stream(stream: dict[str, object], time_scale: float) -> dict[str, object]:
    """A stream as requests carry it, with its times divided, those of its profile too. Raises StreamError."""
    if time_scale == 1:
        return stream
    spec = StreamSpec.parse(stream)
    scaled = stream | {name: getattr(spec, name) / time_scale for name in _STREAM_TIMES}
    if spec.times:
        scaled["times_speed_up"] = spec.times_speed_up * time_scale
    StreamSpec.parse(scaled)  # a scale below 1 makes times longer
    return scaled


def scaled_settings(cell: Cell, time_scale: float) -> dict[str, object]:
    """What the client takes instead of the cell's own words: how often it polls, how long a poll may be held, …"""
    if time_scale == 1:
        return {}
    unread = {"unread": cell.unread / time_scale} if cell.unread else {}
    if not CONTESTANTS[cell.transport].pulls and cell.recovery != "fallback":
        return {**unread}
    return {**unread, "interval": cell.interval / time_scale, "wait": cell.wait / time_scale}
