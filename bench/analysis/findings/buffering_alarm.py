"""The buffering alarm: answers whose tokens came in fewer, larger bursts than they were sent.

What holds tokens back makes the mean gap between them smaller, not larger: a buffered answer looks better on average,
and only its bursts (and its first token) tell. So reads are counted against emissions, message by message.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from bench.analysis.measures.groups import Key, MeasuredCell, Measurements
from bench.analysis.statistics import intervals
from bench.analysis.statistics.wording import count, number
from servers.transport import TRANSPORTS

MIN_EMISSIONS = 8  # an answer of fewer may well come in a few reads,
MIN_SPAN_MS = 1000  # unless the model took so long for it
MAX_READS_SHARE = 0.5  # fewer reads than this share of the emissions: held back
MAX_HELD_SHARE = 0.05  # of the answers, by the lower end of Wilson's interval: above, the alarm rings


@dataclass(frozen=True)
class HeldBack:
    """A cell whose answers were held back. Medians over those answers; gaps are means within an answer."""

    key: Key
    held: int
    answers: int
    emissions: float
    reads: float
    gap_model_ms: float
    gap_client_ms: float

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        gaps = f"{number(self.gap_client_ms)} ms, the model's {number(self.gap_model_ms)} ms"
        tells = "hides this" if self.gap_client_ms <= self.gap_model_ms else "is longer"
        return (
            f"{self.key.title}: buffered in {count(self.held)} of {count(self.answers)} answers: "
            f"{number(self.emissions)} chunks sent, {number(self.reads)} received (medians); the mean inter-token gap "
            f"{tells} ({gaps})."
        )


def held_back(measured: Measurements) -> list[HeldBack]:
    """The cells of a run that stream, and yet did not."""
    return [alarm for cell in measured.cells if (alarm := held_back_of(cell))]


def held_back_of(cell: MeasuredCell) -> HeldBack | None:
    """The alarm for one cell, if it rings."""
    answers = _answers(cell)
    held = answers[answers["reads"] <= MAX_READS_SHARE * answers["emissions"]]
    if not intervals.wilson(len(held), len(answers))[0] > MAX_HELD_SHARE:
        return None
    gaps = held["tokens_expected"] - 1
    return HeldBack(
        cell.key,
        len(held),
        len(answers),
        float(held["emissions"].median()),
        float(held["reads"].median()),
        float((held["model_span_ms"] / gaps).median()),
        float((held["client_span_ms"] / gaps).median()),
    )


def _answers(cell: MeasuredCell) -> pd.DataFrame:
    """The messages that could tell: streamed, complete, and in one attempt, behind which a backlog comes at once."""
    transport = TRANSPORTS.get(cell.key.transport)
    reads_all = not any(word.startswith("unread=") for word in cell.key.words)  # else the client itself held them back
    if transport is None or not transport.streams or transport.pulls or not reads_all:
        return cell.messages.iloc[:0]
    m = cell.messages
    telling = (m["emissions"] >= MIN_EMISSIONS) | ((m["emissions"] > 1) & (m["model_span_ms"] >= MIN_SPAN_MS))
    return m[m["completed"] & (m["drops"] == 0) & ~(m["attempts"] > 1) & telling]
