"""What a message's tokens say of it, as columns beside those of streams.parquet (formulas: docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bench.analysis.measures.goodput import Limits, within
from bench.analysis.measures.reading import TokenCounts
from bench.analysis.statistics.estimators import Ints

_OF_TOKENS = [
    *("answer_ms", "model_span_ms", "client_span_ms", "reads", "emissions"),
    *("tpot_ms", "wait_s", "stamp_bytes", "within_slo"),
]
_STAMPS_BYTES = len(',"due":') + len(',"sent":')  # of a token message, without the two numbers


def add_counts(messages: pd.DataFrame, counts: TokenCounts, limits: Mapping[str, Limits]) -> None:
    """Add to `messages`, in place, what was counted of their tokens. A message that failed is infinitely late.

    What is measured against the model's own times is NaN where nobody tells them (`has_due`).

    `taken_ns`: when the server took the question and began with its answer, or when it was sent, where nobody knows;
    `answer_ms` from the question to the model's last token; `reads` and `emissions` in which its tokens came and were
    made, over how long (`client_span_ms`, `model_span_ms`); `e2e_ms`, `tpot_ms`, `tokens_per_s` and `wait_s`; the bytes
    of our own stamps (`stamp_bytes`); and whether it is `within_slo`, NaN where `limits` has none of its cell. All of
    it is NaN where tokens came and were not counted, as those of void cells: from nothing no number is made.
    """
    has_due = messages["has_due"]
    taken_ns = (counts.first_due_ns - messages["ttft_scheduled_ns"]).where(has_due & (counts.received > 0), 0)
    messages["taken_ns"] = np.maximum(taken_ns, messages["start_ns"])
    messages["answer_ms"] = ((counts.last_due_ns - messages["intended_start_ns"]) / 1e6).where(has_due)
    messages["model_span_ms"] = np.where(has_due, (counts.last_due_ns - counts.first_due_ns) / 1e6, np.nan)
    messages["client_span_ms"] = (counts.last_received_ns - counts.first_received_ns) / 1e6
    messages["reads"], messages["emissions"] = counts.message_reads, counts.message_emissions
    messages["e2e_ms"] = _or_never(messages, (messages["end_ns"] - messages["intended_start_ns"]) / 1e6)
    tokens = messages["usage_tokens"].astype(float).fillna(messages["tokens_expected"])
    gaps = tokens - 1
    messages["tpot_ms"] = _or_never(messages, messages["client_span_ms"]) / gaps.where(gaps > 0)
    messages["tokens_per_s"] = 1000 * tokens / messages["e2e_ms"]
    messages["wait_s"] = _or_never(messages, _wait_ms(messages, counts) / 1e3).where(has_due)
    digits = _digits(counts.first_due_ns) + _digits(counts.last_due_ns)  # of `due` and `sent`, on an average
    stamps = (counts.received + messages["tokens_duplicated"]) * (_STAMPS_BYTES + digits)
    messages["stamp_bytes"] = stamps.where(has_due, 0)
    messages["within_slo"] = within(messages, limits)
    messages[_OF_TOKENS] = messages[_OF_TOKENS].where((counts.received > 0) | (messages["tokens_received"] == 0))


def span_s(messages: pd.DataFrame) -> float:
    """From the first intended start to the end of the last message, over which a cell's rate is taken; NaN of none."""
    ended_ns = np.maximum(messages["end_ns"], messages["start_ns"])
    return float(ended_ns.max() - messages["intended_start_ns"].min()) / 1e9


def open_most(messages: pd.DataFrame) -> int:
    """The most of them that a server had open at one moment; a question that waits in its queue is not yet one."""
    starts_ns = messages["taken_ns"].to_numpy(np.int64)
    moments = np.concatenate([starts_ns, np.maximum(messages["end_ns"].to_numpy(np.int64), starts_ns)])
    changes = np.repeat([1, -1], len(messages))
    in_order = np.lexsort((changes, moments))  # one that ends makes room for one that begins at the same moment
    return int(changes[in_order].cumsum().max(initial=0))


def _or_never(messages: pd.DataFrame, values: pd.Series[float]) -> pd.Series[float]:
    return values.where(messages["completed"], np.inf)


def _wait_ms(messages: pd.DataFrame, counts: TokenCounts) -> pd.Series[float]:
    """How much later than the model a reader is through who reads at its pace: the most that any token was late.

    Late against the question and the model's own time, not against `due`: the way of the question counts too.
    """
    asked_late_ns = counts.first_due_ns - messages["intended_start_ns"] - messages["ttft_scheduled_ns"]
    late_ms: pd.Series[float] = (asked_late_ns + counts.worst_delay_ns) / 1e6
    return late_ms


def _digits(stamps_ns: Ints) -> Ints:
    return np.char.str_len(stamps_ns.astype(str)).astype(np.int64)
