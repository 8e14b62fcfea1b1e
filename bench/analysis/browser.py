"""What a browser adds to the first token, and what its six connections to a server cost (docs/browser.md).

Cells with `client=browser` have a row in painted.parquet for each message. They are set beside the same cell of the
asyncio clients, if the run has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.analysis.groups import Key, MeasuredCell, Measurements, transport_title
from bench.analysis.number_tables import Row, Table
from bench.analysis.theme import colour
from bench.analysis.wording import number

BROWSER = "client=browser"
_NATIVE, _TLS, _HTTP_2 = "method=get", "tls=on", "http=2"
_BURST = "burst"
_VERSIONS = {"http/1.1": "HTTP/1.1", "h2": "HTTP/2", "h3": "HTTP/3"}


def browser_cells(measured: Measurements) -> dict[int, pd.DataFrame]:
    """Of each cell that a browser asked (by its place in `measured.cells`) the messages, with what was painted."""
    painted = measured.painted
    if painted is None:
        return {}
    asked = {place: cell for place, cell in enumerate(measured.cells) if BROWSER in cell.key.words and cell.blocks}
    return {place: _with_painted(cell.messages, painted) for place, cell in asked.items()}


def _with_painted(messages: pd.DataFrame, painted: pd.DataFrame) -> pd.DataFrame:
    joined = messages.join(painted, on="stream_id", how="inner")
    is_painted = joined["completed"] & (joined["first_painted_ns"] > 0)
    to_paint_ms = ((joined["first_painted_ns"] - joined["first_token_ns"]) / 1e6).where(is_painted, np.inf)
    return joined.assign(painted_overhead_ms=joined["ttft_overhead_ms"] + to_paint_ms)


class FirstToken(NamedTuple):
    """Median times to the first token over the model's own, in ms: the asyncio clients', in script, painted."""

    cell: MeasuredCell
    asyncio_ms: float
    script_ms: float
    painted_ms: float


def first_tokens(measured: Measurements) -> list[FirstToken]:
    """For each cell that a browser asked, but for those with several messages at one moment."""
    found = browser_cells(measured)
    return [
        _first_token(measured, measured.cells[place], messages)
        for place, messages in found.items()
        if (_at_once(measured, measured.cells[place]) or 1) == 1
    ]


def _first_token(measured: Measurements, cell: MeasuredCell, messages: pd.DataFrame) -> FirstToken:
    twin = _twin(measured, cell)
    asyncio_ms = _median(twin.messages["ttft_overhead_ms"]) if twin else np.nan
    return FirstToken(cell, asyncio_ms, _median(messages["ttft_overhead_ms"]), _median(messages["painted_overhead_ms"]))


def _twin(measured: Measurements, cell: MeasuredCell) -> MeasuredCell | None:
    """The same cell as the asyncio clients asked it."""
    words = " ".join(word for word in cell.key.words if word != BROWSER)
    wanted = cell.key._replace(variant=words)
    return next((other for other in measured.cells if other.key == wanted and other.blocks), None)


def _median(values: pd.Series[float]) -> float:
    return float(values.median()) if len(values) else float("nan")


def _at_once(measured: Measurements, cell: MeasuredCell) -> int | None:
    """How many messages the cell's load starts at one moment; None where it is no load of bursts."""
    plan: Mapping[str, Any] = measured.run.plan
    name = next((word.removeprefix("load=") for word in cell.key.words if word.startswith("load=")), "")
    load = plan.get("loads", {}).get(name, {}) if name else plan.get("load", {})
    return int(load["concurrency"]) if load.get("arrivals") == _BURST else None


def way_title(key: Key, at_once: int | None = None) -> str:
    """How it is asked, for people: "SSE, EventSource · 12 at once · aws-alb"."""
    by = "" if key.transport != "sse" else ", EventSource" if _NATIVE in key.words else ", fetch"
    said = (BROWSER, _NATIVE, *(word for word in key.words if at_once and word.startswith("load=")))
    name = " ".join((f"{transport_title(key.transport)}{by}", *(word for word in key.words if word not in said)))
    crowd = f"{at_once} at once" if at_once and at_once > 1 else ""
    profile = "" if key.profile == "direct" else key.profile
    return " · ".join(filter(None, (name, crowd, profile)))


_PAINTED_HEADINGS = [
    ("asyncio client", "ms"),
    ("in script", "ms"),
    ("painted", "ms"),
    ("tokens per frame", ""),
    ("longest gap", "ms"),
    ("dropped frames", ""),
    ("long tasks", ""),
    ("clock ±", "ms"),
]


def painted_tables(measured: Measurements, *, only_alone: bool = False) -> list[Table]:
    """What was painted: a row for each cell that a browser asked. First tokens are over the model's own time.

    Medians; frames that were dropped and long tasks are per message. `only_alone`: without messages beside them.
    """
    rows = [
        _painted_row(measured, cell, messages)
        for place, messages in browser_cells(measured).items()
        if (_at_once(measured, cell := measured.cells[place]) or 1) == 1 or not only_alone
    ]
    return (
        [Table("First token over the model's own time, and what was painted", _PAINTED_HEADINGS, rows)] if rows else []
    )


def _painted_row(measured: Measurements, cell: MeasuredCell, messages: pd.DataFrame) -> Row:
    _, asyncio_ms, script_ms, painted_ms = _first_token(measured, cell, messages)
    frames = messages["frames"].sum()
    values = (
        *(asyncio_ms, script_ms, painted_ms),
        messages["tokens_painted"].sum() / frames if frames else np.nan,
        _median(messages["painted_gap_ms_max"]),
        *(float(messages[column].mean()) for column in ("frames_dropped", "long_tasks")),
        float(messages["clock_error_ns"].max()) / 1e6,
    )
    return Row(
        way_title(cell.key, _at_once(measured, cell)), colour(cell.key), [(number(value), "") for value in values]
    )


@dataclass(frozen=True)
class Way:
    """One way to ask, over one version of HTTP: `last_ms` is the first token of the last message of a burst, by how
    many the burst had; `all_ms` of every message. Medians over the bursts."""

    title: str
    colour: str
    version: str
    is_native: bool
    last_ms: dict[int, float]
    all_ms: dict[int, list[float]]


def ways_at_once(measured: Measurements) -> list[Way]:
    """TTFT by the number of messages at once, for each way to ask and each route; empty without loads of bursts."""
    routes: dict[Key, dict[int, pd.DataFrame]] = {}
    for place, messages in browser_cells(measured).items():
        key = measured.cells[place].key
        if at_once := _at_once(measured, measured.cells[place]):
            route = key._replace(variant=" ".join(word for word in key.words if not word.startswith("load=")))
            routes.setdefault(route, {})[at_once] = messages
    return [_way(route, found) for route, found in routes.items() if len(found) > 1]


def _version(by_number: Mapping[int, pd.DataFrame]) -> str:
    """What Resource Timing says of the requests; of a WebSocket, which begins with HTTP/1.1, it says nothing."""
    found = pd.concat(list(by_number.values()))["protocol"].replace("", "http/1.1").mode()[0]
    return _VERSIONS.get(str(found), str(found))


def _way(route: Key, by_number: Mapping[int, pd.DataFrame]) -> Way:
    told = (_version(by_number), "TLS" if _TLS in route.words else "", *([route.profile] * (route.profile != "direct")))
    plain = " ".join(word for word in route.words if word not in (_TLS, _HTTP_2))
    return Way(
        title=way_title(Key(route.transport, plain)),
        colour=colour(route),
        version=", ".join(filter(None, told)),
        is_native=_NATIVE in route.words,
        last_ms={n: _last_ms(messages) for n, messages in sorted(by_number.items())},
        all_ms={n: messages["ttft_ms"].tolist() for n, messages in sorted(by_number.items())},
    )


def _last_ms(messages: pd.DataFrame) -> float:
    """The median over bursts of the latest first token."""
    bursts = messages.groupby(["block", "intended_start_ns"])["ttft_ms"].max()
    return float(bursts.median())


def at_once_tables(measured: Measurements) -> list[Table]:
    """The first token of the last message, a row for each way and version."""
    ways = ways_at_once(measured)
    numbers = sorted({n for way in ways for n in way.last_ms})
    rows = [
        Row(
            f"{way.title} · {way.version}",
            way.colour,
            [(number(way.last_ms.get(n, float("nan"))), "") for n in numbers],
        )
        for way in ways
    ]
    title = "First token of the last of so many at once, median of bursts"
    return [Table(title, [(f"{n} at once", "ms") for n in numbers], rows)] if rows else []
