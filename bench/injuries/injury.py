"""The injuries: what is done to which part of a run, and for which reason the cell has to be void then (data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from servers.redis_server import find_executable

RunPart = Literal["load", "server", "redis", "proxy"]
STALL_S, STOP_S = 0.05, 1.0
_OFTEN: Mapping[str, Any] = {"stop_s": 0.03, "times": 40, "at": 0.0}  # each too short for the limit on a single stall
_CLOSED: Mapping[str, object] = {"arrivals": "closed", "concurrency": 8, "streams": 24}


def command_words(part: RunPart) -> str:
    """What the part's command line has, and no other's."""
    redis = (find_executable() or "redis-server").rpartition("/")[2]
    return {"load": "-m clients.load", "server": "-m servers", "redis": redis, "proxy": "-m bench.proxy"}[part]


@dataclass(frozen=True)
class Injury:
    """What is done to a run of one cell.

    `stop` stands still (SIGSTOP) for `stop_s` once the share `at` of the messages is complete, so many `times` with as
    long a rest in between; `hog` is the core, the load's or the servers', on which another program computes all the
    while; `server` is one that keeps another time (bench.injuries.SERVER_server). `reasons` are the beginnings of those
    for which the cell must be void; none where nothing is done. `cell` and `load` are tables of a plan.
    """

    name: str
    reasons: tuple[str, ...] = ()
    stop: RunPart | None = None
    stop_s: float = STOP_S
    times: int = 1
    at: float = 0.3
    hog: Literal["load", "servers"] | None = None
    server: Literal["", "slow", "early"] = ""
    cell: Mapping[str, object] = field(default_factory=lambda: {"transport": "sse"})
    load: Mapping[str, object] = field(default_factory=dict)


_CLIENT = ("client's event loop stood still",)
_SERVER = "server's event loop stood still"
_FOREIGN = ("CPU time of other programs",)
_BEHIND_PROXY = {"transport": "sse", "profile": "aws-alb"}
_POLLED = {"transport": "polling", "interval": 0.05}

UNHURT = Injury("nothing")
INJURIES = (
    Injury("load process stands still for 50 ms, open loop", _CLIENT, stop="load", stop_s=STALL_S),
    Injury("load process stands still for 50 ms, closed loop", _CLIENT, stop="load", stop_s=STALL_S, load=_CLOSED),
    Injury("server emits up to 3 ms early", ("server emitted early",), server="early"),
    Injury("server emits up to 60 ms late", ("server emitted late",), server="slow"),
    Injury("another program computes on the load's core", _FOREIGN, hog="load"),
    Injury("another program computes on the servers' core", _FOREIGN, hog="servers"),
    Injury("server stopped for 1 s, answers to begin", ("server had its requests late", _SERVER), stop="server", at=0),
    Injury("server stopped for 1 s, answers under way", ("server emitted late", _SERVER), stop="server"),
    Injury("Redis stopped for 1 s", ("Redis answered late",), stop="redis", cell={"transport": "polling"}),
    Injury("proxy stopped for 1 s", ("proxy's event loop stood still",), stop="proxy", cell=_BEHIND_PROXY),
    Injury("Redis stopped for 30 ms, 40 times", ("Redis answered late: p99",), "redis", **_OFTEN, cell=_POLLED),
    Injury("proxy stopped for 30 ms, 40 times", ("proxy's event loop late",), "proxy", **_OFTEN, cell=_BEHIND_PROXY),
)
