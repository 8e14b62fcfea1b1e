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

from bench.analysis.measures.groups import Key, MeasuredCell, Measurements, transport_title
from bench.analysis.report.number_tables import Row, Table
from bench.analysis.report.theme import colour
from bench.analysis.statistics.wording import number

BROWSER = "client=browser"
_NATIVE, _TLS, _HTTP_2 = "method=get", "tls=on", "http=2"
_BURST = "burst"
_VERSIONS = {"http/1.1": "HTTP/1.1", "h2": "HTTP/2", "h3": "HTTP/3"}


@dataclass(frozen=True)
class BrowserCell:
    """A cell that a browser asked: its messages with what was painted, and how many its load starts at one moment.

    `at_once` is None where that is no load of bursts.
    """

    cell: MeasuredCell
    messages: pd.DataFrame
    at_once: int | None

    @property
    def is_alone(self) -> bool:
        """Whether no message has others beside it from the same moment."""
        return self.at_once in (None, 1)


def browser_cells(measured: Measurements, *, with_void: bool = False) -> list[BrowserCell]:
    """The cells that a browser asked; the void blocks of those that have no valid one too, if so wished."""
    painted = measured.painted
    if painted is None:
        return []
    cells = _countable(measured, with_void=with_void)
    asked = [cell for cell in cells if BROWSER in cell.key.words]
    return [BrowserCell(cell, _with_painted(cell.messages, painted), _at_once(measured, cell)) for cell in asked]


def _countable(measured: Measurements, *, with_void: bool) -> list[MeasuredCell]:
    valid = {cell.key: cell for cell in measured.cells if cell.blocks}
    void = {cell.key: cell for cell in measured.void_cells if cell.key not in valid} if with_void else {}
    return [(valid | void)[cell.key] for cell in measured.cells if cell.key in valid or cell.key in void]


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
    return [_first_token(measured, found) for found in browser_cells(measured) if found.is_alone]


def _first_token(measured: Measurements, found: BrowserCell) -> FirstToken:
    """Beside the same cell as the asyncio clients asked it, if the run has it."""
    key = found.cell.key
    wanted = key._replace(variant=" ".join(word for word in key.words if word != BROWSER))
    others = _countable(measured, with_void=found.cell.is_void)
    twin = next((other for other in others if other.key == wanted), None)
    asyncio_ms = _median(twin.messages["ttft_overhead_ms"]) if twin else np.nan
    script_ms, painted_ms = (_median(found.messages[f"{name}_overhead_ms"]) for name in ("ttft", "painted"))
    return FirstToken(found.cell, asyncio_ms, script_ms, painted_ms)


def _median(values: pd.Series[float]) -> float:
    return float(values.median()) if len(values) else float("nan")


def _at_once(measured: Measurements, cell: MeasuredCell) -> int | None:
    plan: Mapping[str, Any] = measured.run.plan
    name = next((word.removeprefix("load=") for word in cell.key.words if word.startswith("load=")), "")
    load = plan.get("loads", {}).get(name, {}) if name else plan.get("load", {})
    return int(load.get("concurrency", 1)) if load.get("arrivals") == _BURST else None


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
    found = [each for each in browser_cells(measured, with_void=True) if each.is_alone or not only_alone]
    title = "First token over the model's own time, and what was painted"
    return [Table(title, _PAINTED_HEADINGS, [_painted_row(measured, each) for each in found])] if found else []


def _painted_row(measured: Measurements, found: BrowserCell) -> Row:
    cell, asyncio_ms, script_ms, painted_ms = _first_token(measured, found)
    messages, frames = found.messages, found.messages["frames"].sum()
    values = (
        *(asyncio_ms, script_ms, painted_ms),
        messages["tokens_painted"].sum() / frames if frames else np.nan,
        _median(messages["painted_gap_ms_max"]),
        *(float(messages[column].mean()) for column in ("frames_dropped", "long_tasks")),
        float(messages["clock_error_ns"].max()) / 1e6,
    )
    texts = [(number(value), "") for value in values]
    return Row(way_title(cell.key, found.at_once), colour(cell.key), texts, "void" if cell.is_void else "")


@dataclass(frozen=True)
class BrowserWay:
    """One way to ask, over one version of HTTP: `last_ms` is the first token of the last message of a burst, by how
    many the burst had; `all_ms` of every message. Medians over the bursts."""

    title: str
    colour: str
    version: str
    is_native: bool
    is_void: bool  # some of it
    last_ms: dict[int, float]
    all_ms: dict[int, list[float]]


def ways_at_once(measured: Measurements, *, with_void: bool = False) -> list[BrowserWay]:
    """TTFT by the number of messages at once, for each way to ask and each route; empty without loads of bursts."""
    routes: dict[Key, dict[int, BrowserCell]] = {}
    for found in browser_cells(measured, with_void=with_void):
        key = found.cell.key
        if found.at_once:
            route = key._replace(variant=" ".join(word for word in key.words if not word.startswith("load=")))
            routes.setdefault(route, {})[found.at_once] = found
    return [_way(route, dict(sorted(found.items()))) for route, found in routes.items() if len(found) > 1]


def _version(by_number: Mapping[int, BrowserCell]) -> str:
    """What Resource Timing says of the requests; of a WebSocket, which begins with HTTP/1.1, it says nothing."""
    told = pd.concat([each.messages["protocol"] for each in by_number.values()])
    found = told.replace("", "http/1.1").mode()[0]
    return _VERSIONS.get(str(found), str(found))


def _way(route: Key, by_number: Mapping[int, BrowserCell]) -> BrowserWay:
    told = (_version(by_number), "TLS" if _TLS in route.words else "", *([route.profile] * (route.profile != "direct")))
    plain = " ".join(word for word in route.words if word not in (_TLS, _HTTP_2))
    return BrowserWay(
        title=way_title(Key(route.transport, plain)),
        colour=colour(route),
        version=", ".join(filter(None, told)),
        is_native=_NATIVE in route.words,
        is_void=any(found.cell.is_void for found in by_number.values()),
        last_ms={n: _last_ms(found.messages) for n, found in by_number.items()},
        all_ms={n: found.messages["ttft_ms"].tolist() for n, found in by_number.items()},
    )


def _last_ms(messages: pd.DataFrame) -> float:
    """The median over bursts of the latest first token."""
    bursts = messages.groupby(["block", "intended_start_ns"])["ttft_ms"].max()
    return float(bursts.median())


def at_once_tables(measured: Measurements) -> list[Table]:
    """The first token of the last message, a row for each way and version."""
    ways = ways_at_once(measured, with_void=True)
    numbers = sorted({n for way in ways for n in way.last_ms})
    rows = [
        Row(
            f"{way.title} · {way.version}",
            way.colour,
            [(number(way.last_ms.get(n, np.nan)), "") for n in numbers],
            "void, some of it" if way.is_void else "",
        )
        for way in ways
    ]
    title = "First token of the last of so many at once, median of bursts"
    return [Table(title, [(f"{n} at once", "ms") for n in numbers], rows)] if rows else []
