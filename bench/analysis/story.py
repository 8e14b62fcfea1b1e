"""The claims of the story that this project began with, each beside what a run measured.

The story: a user waits half a minute for a model's answer. Polling was tried, then WebSocket, then chunked HTTP, and
Server-Sent Events stayed. `claims` says for each step what the run's messages show; a claim that the run has no cells
or too few messages for is "not resolved".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from bench.store import Run, RunFolder

Verdict = Literal["holds", "does not hold", "not resolved"]

MESSAGES_NEEDED = 20  # below, a median's interval is wide
# "Smooth": every message complete, no transport stall (a gap over 100 ms longer than the model's, as in
# docs/metrics.md), and 99 % of the tokens within 100 ms, below which people take a response as immediate.
STALL_MS = 100.0
SMOOTH_DELAY_MS = 100.0
FRAME_MS = 1000 / 60  # a difference that a screen does not show


@dataclass(frozen=True)
class Claim:
    """What the story says, what was measured, and whether the one bears the other out."""

    text: str
    measured: str
    verdict: Verdict


@dataclass(frozen=True)
class Seen:
    """What one cell's messages show: medians over messages, delays over all tokens, a lost one being infinite."""

    messages: int
    complete: int
    ttft_s: float
    answer_s: float  # from the question to the moment at which the model's last token was due
    requests: float  # mean per message
    tokens_per_read: float
    delay_ms_p50: float
    delay_ms_p99: float
    stalls: int

    @property
    def smooth(self) -> bool:
        """Whether the answers came as they were made."""
        return self.complete == self.messages and self.stalls == 0 and self.delay_ms_p99 <= SMOOTH_DELAY_MS


def seen(messages: pd.DataFrame, tokens: pd.DataFrame, clock_offset_ns: int = 0) -> Seen:
    """Sum up one cell from its rows of `streams.parquet` and `tokens.parquet`; a failed message is infinitely late."""
    tokens = tokens.sort_values(["stream_id", "i"], kind="stable").drop_duplicates(["stream_id", "i"])
    delay_ms = (tokens["received_ns"] - (tokens["due_ns"] - clock_offset_ns)) / 1e6
    excess_ms = delay_ms.groupby(tokens["stream_id"]).diff()
    complete = messages["outcome"] == "ok"
    ttft_s = ((messages["first_token_ns"] - messages["intended_start_ns"]) / 1e9).where(complete, np.inf)
    last_due_ns = tokens.groupby("stream_id")["due_ns"].max() - clock_offset_ns
    answer_s = (last_due_ns - messages.set_index("stream_id")["intended_start_ns"]) / 1e9
    delays = np.concatenate([delay_ms.to_numpy(float), np.full(int(messages["tokens_lost"].sum()), np.inf)])
    return Seen(
        messages=len(messages),
        complete=int(complete.sum()),
        ttft_s=float(ttft_s.median()),
        answer_s=float(answer_s.median()),
        requests=float(messages["requests"].mean()),
        tokens_per_read=len(tokens) / max(1, len(tokens[["stream_id", "read"]].drop_duplicates())),
        delay_ms_p50=_quantile(delays, 0.5),
        delay_ms_p99=_quantile(delays, 0.99),
        stalls=int((excess_ms > STALL_MS).sum()),
    )


def _quantile(values: np.ndarray, p: float) -> float:
    return float(np.quantile(values, p, method="higher")) if len(values) else float("inf")


def claims(cells: Mapping[str, Seen], interval_s: float = 1.0) -> list[Claim]:
    """The five claims over what the cells showed; `cells` is keyed as in `run.json`, valid cells only."""
    return [
        _claim(cells, ("blocking", "sse"), "1. Without streaming, the user stares at nothing", _nothing_to_see),
        _claim(
            cells,
            ("polling",),
            f"2. Polling costs a request every {interval_s:g} s, and tokens come in bursts",
            lambda polling: _bursts(polling, interval_s),
        ),
        _claim(cells, ("websocket",), "3. WebSocket streams smoothly while nothing cuts it", _smooth),
        _claim(cells, ("chunked",), "4. Chunked HTTP streams smoothly while nothing cuts it", _smooth),
        _claim(
            cells,
            ("sse", "sse method=get"),
            "5. SSE is smooth over one request, and a POST works as well as EventSource",
            _one_request,
        ),
    ]


def _claim(
    cells: Mapping[str, Seen], keys: tuple[str, ...], text: str, judge: Callable[..., tuple[str, bool]]
) -> Claim:
    missing = [key for key in keys if key not in cells]
    if missing:
        return Claim(text, f"no valid cell: {', '.join(missing)}", "not resolved")
    few = [key for key in keys if cells[key].messages < MESSAGES_NEEDED]
    measured, holds = judge(*(cells[key] for key in keys))
    if few:
        needed = f"fewer than {MESSAGES_NEEDED} messages: {', '.join(few)}"
        return Claim(text, f"{measured}; {needed}", "not resolved")
    return Claim(text, measured, "holds" if holds else "does not hold")


def _nothing_to_see(blocking: Seen, sse: Seen) -> tuple[str, bool]:
    measured = (
        f"first word after {blocking.ttft_s:.2f} s of a {blocking.answer_s:.1f} s answer; "
        f"streamed (SSE) after {sse.ttft_s:.2f} s"
    )
    return measured, blocking.ttft_s >= 0.95 * blocking.answer_s and sse.ttft_s <= 0.5 * blocking.ttft_s


def _bursts(polling: Seen, interval_s: float) -> tuple[str, bool]:
    expected = polling.answer_s / interval_s
    measured = (
        f"{polling.requests:.1f} requests a message for a {polling.answer_s:.1f} s answer, "
        f"{polling.tokens_per_read:.1f} tokens at a time, each {polling.delay_ms_p50:.0f} ms late (p50)"
    )
    return measured, polling.requests >= 0.8 * expected and polling.tokens_per_read >= 2


def _smooth(cell: Seen) -> tuple[str, bool]:
    return _smoothness(cell), cell.smooth


def _smoothness(cell: Seen) -> str:
    return (
        f"{cell.complete} of {cell.messages} complete, token delay p50 {cell.delay_ms_p50:.2f} ms, "
        f"p99 {cell.delay_ms_p99:.2f} ms, {cell.stalls} stalls"
    )


def _one_request(post: Seen, get: Seen) -> tuple[str, bool]:
    difference_ms = abs(post.delay_ms_p99 - get.delay_ms_p99)
    measured = (
        f"{post.requests:.1f} requests a message; POST: {_smoothness(post)}; EventSource: {_smoothness(get)}; "
        f"a difference below {FRAME_MS:.1f} ms does not show on a screen"
    )
    return measured, post.smooth and get.smooth and post.requests == 1 and difference_ms <= FRAME_MS


def claims_of(folder: RunFolder) -> list[Claim]:
    """The claims over the valid cells of a run."""
    run = folder.load()
    messages: pd.DataFrame = pq.read_table(folder.streams_path).to_pandas()
    tokens: pd.DataFrame = pq.read_table(folder.tokens_path).to_pandas()
    offsets = {cell.cell: cell.clock_offset_ns for cell in run.cells}
    found = {}
    for key, rows in _valid(messages, run).groupby("cell"):
        own = tokens[tokens["stream_id"].isin(rows["stream_id"])]
        found[str(key)] = seen(rows, own, offsets[str(key)])
    return claims(found)


def _valid(messages: pd.DataFrame, run: Run) -> pd.DataFrame:
    valid = pd.MultiIndex.from_tuples([(c.block, c.cell) for c in run.cells if c.status == "ok"] or [(0, "")])
    return messages[pd.MultiIndex.from_frame(messages[["block", "cell"]]).isin(valid)]


def print_claims(found: list[Claim], console: Console) -> None:
    """The claims as a table."""
    table = Table(title="The story, claim by claim", show_lines=True)
    for title in ("claim", "measured", "verdict"):
        table.add_column(title)
    colours = {"holds": "green", "does not hold": "red", "not resolved": "yellow"}
    for claim in found:
        table.add_row(claim.text, claim.measured, f"[{colours[claim.verdict]}]{claim.verdict}[/]")
    console.print(table)
