"""The claims of the story that this project began with, each beside what a run measured.

The story: a user waits half a minute for a model's answer. Polling was tried, then WebSocket, then chunked HTTP, and
Server-Sent Events stayed; on FastAPI and Flask, where the chunked connection closed and the access check knew HTTP
alone. `claims` asks for each step what the run's messages show, as a question, so that no text says
what its verdict denies; what the run has no cells or too few messages for is "not judged".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.measures.metrics import estimate
from bench.analysis.statistics.wording import counted, listed, number
from clients.minima import MESSAGES_NEEDED

StoryVerdict = Literal["yes", "no", "not judged"]

_NEEDED = MESSAGES_NEEDED[0.95]
_NEEDED_CUT = 5  # a cut is no percentile
_FASTAPI = "sse stack=fastapi"
_FLASK = "chunked load=few stack=flask-sync stream=uneven"
_STACKS = (_FASTAPI, _FLASK)
_LEFT_OUT = (
    "not in this run: --transports or --target leaves it out, or its packages are not installed (docs/stacks.md)"
)
_MIDDLEWARE, _DEPENDENCY = "fastapi-http-middleware", "fastapi"
# "Smooth": every message complete, at most one stall in 1,000 tokens (a gap over 100 ms longer than the model's,
# docs/metrics.md; a single pause of the machine makes one in each stream under way), and 95 % of the tokens within
# 100 ms, below which people take a response as immediate.
SMOOTH_DELAY_MS = 100.0
SMOOTH_STALLS_PER_1K = 1.0
FRAME_MS = 1000 / 60  # a difference that a screen does not show


@dataclass(frozen=True)
class Claim:
    """What the story says as a question, what was measured, and whether that bears it out."""

    text: str
    measured: str
    verdict: StoryVerdict


@dataclass(frozen=True)
class SeenCell:
    """What one cell's messages show: medians over messages, percentiles over tokens, a lost one infinitely late."""

    messages: int
    complete: int
    ttft_s: float
    answer_s: float  # from the question to the moment at which the model's last token was due
    requests: float  # mean per message
    tokens_per_read: float
    delay_ms_p50: float
    delay_ms_p95: float
    stalls_per_1k: float
    cut_s: float = math.nan  # median over those that are cut, from the question to the last token that came

    @property
    def smooth(self) -> bool:
        """Whether the answers came as they were made."""
        steady = self.stalls_per_1k <= SMOOTH_STALLS_PER_1K and self.delay_ms_p95 <= SMOOTH_DELAY_MS
        return self.complete == self.messages and steady


def seen(cell: MeasuredCell) -> SeenCell:
    """Sum up one cell's valid blocks."""
    return SeenCell(
        messages=len(cell.messages),
        complete=int(cell.messages["completed"].sum()),
        ttft_s=estimate(cell, "ttft_ms_p50").value / 1e3,
        answer_s=float(cell.messages["answer_ms"].median()) / 1e3,
        requests=estimate(cell, "requests_per_message").value,
        tokens_per_read=estimate(cell, "burst_tokens_mean").value,
        delay_ms_p50=estimate(cell, "delay_ms_p50").value,
        delay_ms_p95=estimate(cell, "delay_ms_p95").value,
        stalls_per_1k=estimate(cell, "stalls_per_1k_tokens").value,
        cut_s=_cut_s(cell),
    )


def _cut_s(cell: MeasuredCell) -> float:
    """When the last token came of what was cut; such a message has no end of its own."""
    cut = cell.messages[~cell.messages["completed"]]
    last_s = (cut["first_token_ns"] - cut["start_ns"]) / 1e9 + cut["client_span_ms"] / 1e3
    return float(last_s.median()) if len(cut) else math.nan


def claims(cells: Mapping[str, SeenCell], interval_s: float = 1.0) -> list[Claim]:
    """The claims about transports and stacks over what the cells showed.

    `cells` is keyed as in `run.json`, valid cells only.
    """
    return [
        _claim(cells, ("blocking", "sse"), "1. Without streaming, does the user stare at nothing?", _nothing_to_see),
        _claim(
            cells,
            ("polling",),
            f"2. Does polling cost a request every {interval_s:g} s, and do its tokens come in bursts?",
            lambda polling: _bursts(polling, interval_s),
        ),
        _claim(cells, ("websocket",), "3. Does WebSocket stream smoothly while nothing cuts it?", _smooth),
        _claim(cells, ("chunked",), "4. Does chunked HTTP stream smoothly while nothing cuts it?", _smooth),
        _claim(
            cells,
            ("sse", "sse method=get"),
            "5. Is SSE smooth over one request, by POST as well as by EventSource?",
            _one_request,
        ),
        _claim(cells, (_FASTAPI,), "6. Does FastAPI stream SSE smoothly through StreamingResponse?", _smooth),
        _claim(
            cells,
            (_FLASK,),
            "7. Under Flask (gunicorn's sync worker), does a chunked answer's connection close before its end?",
            _cut,
            _NEEDED_CUT,
        ),
    ]


def _claim(
    cells: Mapping[str, SeenCell],
    keys: tuple[str, ...],
    text: str,
    judge: Callable[..., tuple[str, bool]],
    needed: int = _NEEDED,
) -> Claim:
    missing = [key for key in keys if key not in cells]
    if missing:
        return Claim(text, f"no valid cell: {', '.join(missing)}", "not judged")
    few = [key for key in keys if cells[key].messages < needed or _lacks_p95(cells[key], needed)]
    measured, holds = judge(*(cells[key] for key in keys))
    if few:
        lacking = listed([f"{key} has {counted(cells[key].messages, 'message')}" for key in few])
        return Claim(text, f"{measured}; {lacking}, {needed} needed", "not judged")
    return Claim(text, measured, "yes" if holds else "no")


def _lacks_p95(cell: SeenCell, needed: int) -> bool:
    return needed == _NEEDED and math.isnan(cell.delay_ms_p95)


def _nothing_to_see(blocking: SeenCell, sse: SeenCell) -> tuple[str, bool]:
    measured = (
        f"first word after {number(blocking.ttft_s)} s of a {number(blocking.answer_s)} s answer; "
        f"streamed (SSE) after {number(sse.ttft_s)} s"
    )
    return measured, blocking.ttft_s >= 0.95 * blocking.answer_s and sse.ttft_s <= 0.5 * blocking.ttft_s


def _bursts(polling: SeenCell, interval_s: float) -> tuple[str, bool]:
    expected = polling.answer_s / interval_s
    measured = (
        f"{number(polling.requests)} requests a message for a {number(polling.answer_s)} s answer, "
        f"{number(polling.tokens_per_read)} tokens at a time, each {number(polling.delay_ms_p50)} ms late (p50)"
    )
    return measured, polling.requests >= 0.8 * expected and polling.tokens_per_read >= 2


def _smooth(cell: SeenCell) -> tuple[str, bool]:
    return _smoothness(cell), cell.smooth


def _smoothness(cell: SeenCell) -> str:
    return (
        f"{cell.complete} of {cell.messages} complete, token delay p50 {number(cell.delay_ms_p50)} ms, "
        f"p95 {number(cell.delay_ms_p95)} ms, {number(cell.stalls_per_1k)} stalls in 1,000 tokens"
    )


def _one_request(post: SeenCell, get: SeenCell) -> tuple[str, bool]:
    difference_ms = abs(post.delay_ms_p95 - get.delay_ms_p95)
    measured = (
        f"{number(post.requests)} requests a message; POST: {_smoothness(post)}; EventSource: {_smoothness(get)}; "
        f"their p95 differ by {number(difference_ms)} ms; a screen shows a frame every {number(FRAME_MS)} ms"
    )
    return measured, post.smooth and get.smooth and post.requests == 1 and difference_ms <= FRAME_MS


def _cut(cell: SeenCell) -> tuple[str, bool]:
    whole = f"{cell.complete} of {cell.messages} answers of about {number(cell.answer_s)} s arrived whole"
    return (
        (f"{whole}; the others were cut after {number(cell.cut_s)} s", True)
        if cell.complete < cell.messages
        else (whole, False)
    )


def access_claim(upgrades: Mapping[str, Mapping[str, int]]) -> Claim:
    """The claim about the access check; `upgrades` as in `run.json`: what came of asking without a token."""
    text = "8. Does a WebSocket upgrade pass an access check that is HTTP middleware?"
    found, other = upgrades.get(_MIDDLEWARE), upgrades.get(_DEPENDENCY)
    if found is None or other is None:
        return Claim(text, _LEFT_OUT, "not judged")
    measured = (
        f"FastAPI without a token: a request gets {found['request']}, an upgrade {found['upgrade']}; "
        f"with the check as a dependency {other['request']} and {other['upgrade']}"
    )
    return Claim(text, measured, "yes" if found["request"] == 401 and found["upgrade"] == 101 else "no")


def claims_in(measured: Measurements) -> list[Claim]:
    """The claims over the valid cells that no proxy stands before, and over what was asked about access."""
    plain = [g for g in measured.cells if g.blocks and (g.key.profile, g.key.recovery) == ("direct", "none")]
    of_cells = claims({f"{g.key.transport} {g.key.variant}".strip(): seen(g) for g in plain})
    planned = {record.cell for record in measured.run.cells}
    of_stacks = [
        _said_left_out(claim) if key not in planned else claim
        for key, claim in zip(_STACKS, of_cells[-2:], strict=True)
    ]
    return [*of_cells[:-2], *of_stacks, access_claim(measured.run.upgrades)]


def claims_told(measured: Measurements) -> list[Claim]:
    """The claims of a run that was made to judge the story; of another run none."""
    return claims_in(measured) if measured.run.plan.get("story") else []


def _said_left_out(claim: Claim) -> Claim:
    return replace(claim, measured=_LEFT_OUT)


def answer_of(found: Sequence[Claim]) -> str:
    """All in one sentence."""
    points: dict[StoryVerdict, list[str]] = {"yes": [], "no": [], "not judged": []}
    for claim in found:
        points[claim.verdict].append(claim.text.partition(".")[0])
    said = f"This run bears the story out in {len(points['yes'])} of its {len(found)} points."
    denied = f" It denies {_points(points['no'])}." if points["no"] else ""
    open_points = f" Not judged: {_points(points['not judged'])}." if points["not judged"] else ""
    return said + denied + open_points


def _points(numbers: Sequence[str]) -> str:
    return f"point{'s' * (len(numbers) > 1)} {listed(numbers)}"


def print_claims(found: list[Claim], console: Console) -> None:
    """The claims as a table."""
    table = Table(title="The story, claim by claim", show_lines=True)
    for title in ("question", "measured", "answer"):
        table.add_column(title)
    colours = {"yes": "green", "no": "red", "not judged": "yellow"}
    for claim in found:
        table.add_row(Text(claim.text), Text(claim.measured), Text(claim.verdict, style=colours[claim.verdict]))
    console.print(table)
