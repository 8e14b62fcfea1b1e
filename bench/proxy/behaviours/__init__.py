"""Every behaviour, one a file, by the name that profiles use. A new one is a file and a line here."""

from __future__ import annotations

from bench.proxy.behaviours.bandwidth import Bandwidth
from bench.proxy.behaviours.cache import Cache
from bench.proxy.behaviours.chunked_truncation import ChunkedTruncation
from bench.proxy.behaviours.coalescing import Coalescing
from bench.proxy.behaviours.cut import Cut
from bench.proxy.behaviours.cut_all import CutAll
from bench.proxy.behaviours.first_byte_timeout import FirstByteTimeout
from bench.proxy.behaviours.gzip_holdback import GzipHoldback
from bench.proxy.behaviours.head_holdback import HeadHoldback
from bench.proxy.behaviours.idle_timeout import IdleTimeout
from bench.proxy.behaviours.keepalive_timeout import KeepaliveTimeout
from bench.proxy.behaviours.latency import Latency
from bench.proxy.behaviours.max_age import MaxAge
from bench.proxy.behaviours.max_duration import MaxDuration
from bench.proxy.behaviours.max_requests import MaxRequests
from bench.proxy.behaviours.nagle import Nagle
from bench.proxy.behaviours.noop import Noop
from bench.proxy.behaviours.refuse import Refuse
from bench.proxy.behaviours.response_buffering import ResponseBuffering
from bench.proxy.behaviours.slicing import Slicing
from bench.proxy.behaviours.slow_close import SlowClose
from bench.proxy.behaviours.unreachable import Unreachable
from bench.proxy.behaviours.upgrade import Upgrade
from bench.proxy.behaviours.upstreams import Upstreams
from bench.proxy.behaviours.websocket_close import WebsocketClose
from bench.proxy.rule import Rule

BEHAVIOURS: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        Bandwidth,
        Cache,
        ChunkedTruncation,
        Coalescing,
        Cut,
        CutAll,
        FirstByteTimeout,
        GzipHoldback,
        HeadHoldback,
        IdleTimeout,
        KeepaliveTimeout,
        Latency,
        MaxAge,
        MaxDuration,
        MaxRequests,
        Nagle,
        Noop,
        Refuse,
        ResponseBuffering,
        Slicing,
        SlowClose,
        Unreachable,
        Upgrade,
        Upstreams,
        WebsocketClose,
    )
}
"""Behaviour name -> its parameters' class."""
