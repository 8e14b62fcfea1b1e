"""What a plan's values take beside each other: checks behind those of each value alone (bench.plan)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.proxy import profile as proxy_profiles
from bench.proxy import real as real_proxy
from bench.table_checks import PlanError, unknown
from clients.chromium.browser import CAN_ASK
from clients.job import Load
from clients.traces import TraceError, read_trace
from servers import stacks
from servers.transport import CONTESTANTS, ENDPOINTS, HEAD_FIRST, PUSHED, STREAMING, TRANSPORTS

if TYPE_CHECKING:
    from bench.plan import Cell, Plan

# Which transports a word of a variant means something to; the others take every transport. nginx has no WebSocket over
# HTTP/2 (RFC 8441), and the clients here have none either.
_WORD_IS_FOR: dict[str, tuple[str, ...]] = {
    "http": tuple(name for name in TRANSPORTS if name != "websocket"),
    "interval": tuple(name for name, transport in TRANSPORTS.items() if transport.pulls),
    "wait": tuple(name for name, transport in TRANSPORTS.items() if transport.pulls),
    "head": HEAD_FIRST,
    "heartbeat": PUSHED,
    "method": ("sse",),
    "unread": PUSHED,
    "dialect": ("sse",),
    "model": tuple(ENDPOINTS),
    "limit": tuple(ENDPOINTS),
}

MAX_CELL_RUNS = 20_000  # cells times blocks
MAX_SPAN_S = 86_400.0  # from a cell's first message to its last


def check_cell(cell: Cell, where: str) -> None:
    """Raise PlanError where a cell's words make no sense together; its profile is another matter."""
    if cell.transport not in CONTESTANTS:
        raise unknown(f"{where} transport", cell.transport, CONTESTANTS)
    for word, transports in _WORD_IS_FOR.items():
        may_poll = cell.recovery == "fallback" and word in ("interval", "wait")
        if word in cell.variant and cell.transport not in transports and not may_poll:
            raise PlanError(f"{where} {word}: means nothing to {cell.transport}, only to {', '.join(transports)}")
    if cell.stack:
        _check_stack(cell, where)
    if cell.transport in ENDPOINTS and cell.recovery not in ("none", "restart"):
        raise PlanError(f"{where} recovery: {cell.transport} cannot resume an answer; takes none or restart")
    if cell.recovery == "fallback":
        _check_fallback(cell, where)
    if cell.client == "browser":
        _check_browser_can(cell, where)
    _check_shared(cell, where)


def _check_fallback(cell: Cell, where: str) -> None:
    if not TRANSPORTS[cell.transport].streams:
        raise PlanError(f"{where} recovery: fallback takes a transport that streams, not {cell.transport}")
    if cell.stack or cell.method == "get":
        word = "stack" if cell.stack else "method"
        raise PlanError(f"{where} {word}: takes no recovery fallback, which needs our own servers and a page's script")


def _check_browser_can(cell: Cell, where: str) -> None:
    if cell.transport not in CAN_ASK:
        raise PlanError(f"{where} client: no module of ours reads {cell.transport} in a browser; leave client out")
    if not cell.reuse:
        raise PlanError(f"{where} reuse: a browser decides by itself; leave it out where client is browser")
    if "share" in cell.variant:
        raise PlanError(f"{where} share: a browser's page is one user; leave it out where client is browser")
    if words := sorted({"backoff", "dialect", "unread"} & set(cell.variant)):
        raise PlanError(f"{where} {words[0]}: means nothing to a browser's client")
    if cell.recovery not in ("none", "resume"):
        raise PlanError(f"{where} recovery: a browser's client takes none or resume, not {cell.recovery}")


def _check_shared(cell: Cell, where: str) -> None:
    """A connection that users share is nobody's to stop reading, or to leave for another transport."""
    if cell.http == 2 and (cell.unread or cell.recovery == "fallback"):
        word = "unread" if cell.unread else "recovery fallback"
        raise PlanError(f"{where} {word}: takes HTTP/1.1; leave http = 2 out")


def _check_stack(cell: Cell, where: str) -> None:
    try:
        stacks.find_stack(cell.stack, cell.transport)
    except stacks.StackError as error:
        raise PlanError(f"{where} stack: {error}") from None
    if cell.heartbeat:
        raise PlanError(f"{where} heartbeat: means nothing to a stack, which has its framework's own")
    if cell.head == "late":
        raise PlanError(f"{where} head: means nothing to a stack, which has its framework's own")
    if cell.dialect:
        raise PlanError(f"{where} dialect: means nothing to a stack, only to our own server")


def check_profile(profile: str, where: str) -> None:
    """Raise PlanError where there is no such profile."""
    if profile == "direct":
        return
    real = [f"{real_proxy.PREFIX}{kind}" for kind in real_proxy.KINDS]
    if not profile.endswith(".toml") and profile not in (*proxy_profiles.names(), *real):
        raise unknown(f"{where} profile", profile, ["direct", *proxy_profiles.names(), *real, "FILE.toml"])
    try:
        if profile in real:
            real_proxy.find_program(profile.removeprefix(real_proxy.PREFIX))
        else:
            proxy_profiles.load_profile(profile)
    except (proxy_profiles.ProfileError, real_proxy.RealProxyError) as error:
        raise PlanError(f"{where} profile: {error}") from None


def check_plan(plan: Plan) -> None:
    """Raise PlanError where a plan's parts do not fit together, or are too many."""
    _check_references(plan)
    _check_size(plan)


def _check_references(plan: Plan) -> None:
    if plan.control not in (*CONTESTANTS, "none"):
        raise unknown("plan control", plan.control, [*CONTESTANTS, "none"])
    for cell in plan.cells:
        for word, named in (("load", plan.loads), ("stream", plan.streams), ("slo", plan.slos)):
            name = getattr(cell, word)
            if name and name not in named:
                raise unknown(f"[[cells]] {cell.key} {word}", name, list(named) or [f"a [{word}s.NAME] table"])
    keys = Counter(cell.key for cell in plan.cells)
    twice = next((key for key, count in keys.items() if count > 1), None)
    if twice:
        raise PlanError(f'[[cells]] {twice}: stands twice in the plan; give one another word, or copy = "aa"')
    for where, load in {"[load]": plan.load, **{f"[loads.{name}]": load for name, load in plan.loads.items()}}.items():
        _check_load(load, where)


def _check_load(load: Load, where: str) -> None:
    for name in load.fallback:
        if name not in STREAMING:
            raise unknown(f"{where} fallback", name, STREAMING)
    if load.arrivals == "trace" and load.trace is None:
        raise PlanError(f'{where} trace: arrivals = "trace" takes a file as Azure, BurstGPT or Mooncake publish them')
    if load.arrivals in ("poisson", "constant", "gamma", "burst") and load.streams / load.rate_per_s > MAX_SPAN_S:
        lasts = f"{load.streams} messages at {load.rate_per_s:g} a second last longer than {MAX_SPAN_S:g} s"
        raise PlanError(f"{where} rate_per_s: {lasts}")
    if load.trace is not None:
        try:
            read_trace(Path(load.trace), load.trace_s)
        except TraceError as error:
            raise PlanError(f"{where} trace: {error}") from None


def _check_size(plan: Plan) -> None:
    if (runs := plan.blocks * len(plan.cells)) > MAX_CELL_RUNS:
        text = f"{plan.blocks} times {len(plan.cells)} cells are {runs}; a run takes up to {MAX_CELL_RUNS}"
        raise PlanError(f"plan blocks: {text}")
