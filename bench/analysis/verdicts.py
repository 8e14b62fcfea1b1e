"""What may be said: a sentence per question, and the pairs behind it.

All pairs and numbers of a run are one family of tests for bench.analysis.claims; what that does not let be claimed is
"not resolved". Void and failed cells take no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from bench.analysis import intervals
from bench.analysis.claims import MIN_BLOCKS, JudgedContrast, Obstacle, control_pairs, judged, noise_of
from bench.analysis.estimators import Floats
from bench.analysis.groups import Key, MeasuredCell, Measurements
from bench.analysis.intervals import Contrast
from bench.analysis.metrics import METRICS, estimate, estimator
from bench.analysis.wording import count, counted, listed, percent, times, with_unit

MAX_GROUPS = 6  # races told in words; the table has all

Status = Literal["resolved", "not resolved", "no claim"]


@dataclass(frozen=True)
class Topic:
    """A question, and the numbers that answer it, most important first; all are better when smaller.

    Where `highest` is set only the first number that every contestant's sample carries is used.
    """

    question: str
    columns: tuple[str, ...]
    highest: bool = False


TOPICS = (
    Topic("Who brought the first token soonest?", ("ttft_overhead_ms_p50", "ttft_overhead_ms_p99")),
    Topic("Whose tokens came with the least delay?", ("delay_ms_p99", "delay_ms_p95", "delay_ms_p50"), highest=True),
    Topic("Whose tokens came least in bursts?", ("burst_tokens_mean",)),
    Topic("What did it cost?", ("requests_per_message", "bytes_per_token", "cpu_us_per_token")),
)
COMPLETENESS = "Did everything arrive?"

_LEADS = {
    "ttft_overhead_ms_p50": "At the median, over the model's own time",
    "ttft_overhead_ms_p99": "At the 99th percentile",
    "delay_ms_p99": "At the 99th percentile of tokens",
    "delay_ms_p95": "At the 95th percentile of tokens",
    "delay_ms_p50": "At the median of tokens",
    "burst_tokens_mean": "Tokens that arrive together, on average",
    "requests_per_message": "Requests",
    "bytes_per_token": "Bytes, both ways",
    "cpu_us_per_token": "CPU of client, server and Redis",
}


@dataclass(frozen=True)
class Pair:
    """Two cells at one number: is `worse` really worse than `better`? `contrast` is worse against better."""

    column: str
    better: Key
    worse: Key
    contrast: Contrast
    adjusted_p: float
    claimed: bool
    obstacle: Obstacle | None = None


@dataclass(frozen=True)
class Verdict:
    """The answer to a question for cells that raced under equal conditions (`group`, empty for the plain one)."""

    question: str
    group: str
    column: str
    sentence: str
    status: Status
    pairs: tuple[Pair, ...] = ()


class _Race:
    """The cells of one group: contestants, and A/A controls that say how much equal cells differ."""

    def __init__(self, cells: Sequence[MeasuredCell]) -> None:
        self.contestants = [g for g in cells if g.blocks and not g.key.is_control]
        self._controls = control_pairs(cells)
        self._draws: dict[tuple[str, Key, tuple[int, ...]], Floats] = {}

    @property
    def has_control(self) -> bool:
        return bool(self._controls)

    def contrast(self, column: str, a: MeasuredCell, b: MeasuredCell) -> Contrast:
        """a against b on their common blocks; each cell's resamples are computed once."""
        common = tuple(sorted(set(estimator(a, column).blocks) & set(estimator(b, column).blocks)))
        draws = [self._drawn(column, cell, common) for cell in (a, b)] if len(common) > 1 else None
        return intervals.paired(estimator(a, column).on(common), estimator(b, column).on(common), draws)

    def _drawn(self, column: str, cell: MeasuredCell, blocks: tuple[int, ...]) -> Floats:
        key = (column, cell.key, blocks)
        if key not in self._draws:
            self._draws[key] = intervals.draws(estimator(cell, column).on(blocks))
        return self._draws[key]

    def noise(self, column: str) -> float:
        """The largest |ln ratio| of two equal cells that the controls allow; infinite without controls."""
        return noise_of(self.contrast(column, copy, original) for copy, original in self._controls)

    def ranked(self, column: str) -> list[MeasuredCell]:
        """The contestants that have this number, best first."""
        having = [g for g in self.contestants if not math.isnan(estimate(g, column).value)]
        return sorted(having, key=lambda g: estimate(g, column).value)

    def pairs(self, column: str) -> list[Pair]:
        """All pairs at one number, not judged yet."""
        found = []
        for better, worse in combinations(self.ranked(column), 2):
            contrast = self.contrast(column, worse, better)
            if math.isnan(contrast.ratio.value) or contrast.ratio.value >= 1:
                found.append(Pair(column, better.key, worse.key, contrast, 1.0, False))
            else:  # on the blocks that both have it is the other way round
                swapped = self.contrast(column, better, worse)
                found.append(Pair(column, worse.key, better.key, swapped, 1.0, False))
        return found

    def columns(self, topic: Topic) -> tuple[str, ...]:
        """The topic's numbers that at least two contestants have."""
        if not topic.highest:
            return tuple(c for c in topic.columns if len(self.ranked(c)) > 1)
        for column in topic.columns:
            if len(self.ranked(column)) == len(self.contestants) > 1:
                return (column,)
        return ()


@dataclass(frozen=True)
class _Test:
    """One number of one topic in one race, with all its pairs."""

    group: str
    race: _Race
    topic: Topic
    column: str
    pairs: tuple[Pair, ...]

    def family(self) -> list[tuple[Contrast, float]]:
        """Its comparisons, each with the noise of this race."""
        noise = self.race.noise(self.column)
        return [(pair.contrast, noise) for pair in self.pairs]

    def judged(self, findings: Iterator[JudgedContrast]) -> _Test:
        """The same with each pair claimed or not."""
        return replace(self, pairs=tuple(_with(pair, next(findings)) for pair in self.pairs))

    def verdict(self, sentence: str, status: Status) -> Verdict:
        """The answer in words."""
        return Verdict(self.topic.question, self.group, self.column, sentence, status, self.pairs)

    def measured(self, cell: MeasuredCell) -> str:
        """A contestant and its value."""
        return f"{cell.key.title} {with_unit(estimate(cell, self.column).value, METRICS[self.column].unit)}"


def verdicts(measured: Measurements) -> list[Verdict]:
    """The answers to all questions, group by group; one family of tests for Holm's adjustment."""
    tests = [
        _Test(group, race, topic, column, tuple(race.pairs(column)))
        for group, race in _races(measured)
        for topic in TOPICS
        for column in race.columns(topic)
    ]
    findings = iter(judged([member for test in tests for member in test.family()]))
    return [*(_answer(test.judged(findings)) for test in tests), _completeness(measured)]


def judged_pairs(measured: Measurements, columns: Sequence[str]) -> list[Pair]:
    """All pairs at these numbers, in every group, as one family."""
    raced = [(race, race.pairs(column), race.noise(column)) for _, race in _races(measured) for column in columns]
    findings = iter(judged([(pair.contrast, noise) for _, pairs, noise in raced for pair in pairs]))
    return [_with(pair, next(findings)) for _, pairs, _ in raced for pair in pairs]


def _races(measured: Measurements) -> list[tuple[str, _Race]]:
    """The groups with a race in them, the plain one first, then by size; titles say what is set, if anything is."""
    groups: dict[tuple[str, ...], list[MeasuredCell]] = {}
    for cell in measured.cells:
        groups.setdefault(cell.key.group, []).append(cell)
    races = {group: _Race(cells) for group, cells in groups.items()}
    order = sorted(
        (a for a, race in races.items() if len(race.contestants) > 1),
        key=lambda a: (a != ("direct", "none"), -len(races[a].contestants)),
    )
    return [(group_title(group), races[group]) for group in order[:MAX_GROUPS]]


def group_title(group: tuple[str, ...]) -> str:
    """What is set for a group, for people; empty for the plain one."""
    profile, recovery, *words = group
    return " · ".join(
        filter(None, (profile if profile != "direct" else "", recovery if recovery != "none" else "", *words))
    )


def _with(pair: Pair, finding: JudgedContrast) -> Pair:
    return replace(pair, adjusted_p=finding.adjusted_p, claimed=finding.claimed, obstacle=finding.obstacle)


def _answer(test: _Test) -> Verdict:
    """The sentence: who is first, or who cannot be told apart, and who is behind by how much."""
    ranked = test.race.ranked(test.column)
    lead = _LEADS[test.column]
    reason = _why_no_claim(test.race, test.pairs)
    if reason:
        values = listed([test.measured(g) for g in ranked])
        return test.verdict(f"{lead}: no claim, {reason}. Measured: {values}.", "no claim")
    behind = {pair.worse: pair.contrast for pair in test.pairs if pair.claimed and pair.better == ranked[0].key}
    first = [g for g in ranked if g.key not in behind]
    rest = [f"{test.measured(g)}, {times(behind[g.key].ratio)}" for g in ranked if g.key in behind]
    then = f" Behind: {'; '.join(rest)}." if rest else ""
    value = with_unit(estimate(ranked[0], test.column).value, METRICS[test.column].unit)
    if len(first) == 1:
        return test.verdict(f"{lead}: {first[0].key.title} is first with {value}.{then}", "resolved")
    if len({estimate(g, test.column) for g in first}) == 1:
        return test.verdict(f"{lead}: {listed([g.key.title for g in first])} are equal, {value}.{then}", "resolved")
    names = listed([test.measured(g) for g in first])
    noise = test.race.noise(test.column)
    limit = (
        f"equal cells may differ by {percent(noise)} here"
        if math.isfinite(noise)
        else "the A/A control is too small here"
    )
    return test.verdict(f"{lead}: not resolved between {names}; {limit}.{then}", "not resolved")


def _why_no_claim(race: _Race, pairs: Sequence[Pair]) -> str:
    if not race.has_control:
        return "the run has no A/A control here (two equal cells)"
    most = max((pair.contrast.blocks for pair in pairs), default=0)
    return f"{counted(most, 'valid block')} of the {MIN_BLOCKS} needed" if most < MIN_BLOCKS else ""


def _completeness(measured: Measurements) -> Verdict:
    """Counts, not estimates: what was sent and did not arrive whole."""
    total = sum(len(g.messages) for g in measured.cells)
    broken = [g for g in measured.cells if len(g.messages) and not g.messages["completed"].all()]
    if not total:
        sentence = "No valid cell, nothing is known of times."
    elif broken:
        whole = sum(int(g.messages["completed"].sum()) for g in measured.cells)
        rest = f" The other {counted(whole, 'message')} arrived whole." if whole else ""
        sentence = "; ".join(_breakage(g) for g in broken) + f".{rest}"
    else:
        sentence = f"Yes: all {count(total)} messages arrived whole, no token lost, repeated, out of order or altered."
    sentence += _completeness_of_excluded(measured)
    return Verdict(COMPLETENESS, "", "completed_ratio", sentence, "resolved" if total else "no claim")


def _completeness_of_excluded(measured: Measurements) -> str:
    """A void cell's times are not the transport's, but what it lost was lost all the same."""
    void = [cell for cell in measured.excluded if cell.status == "void"]
    sent, broken = sum(cell.messages for cell in void), sum(cell.failed_messages for cell in void)
    fate = f"{count(broken)} did not arrive whole" if broken else "all arrived whole"
    said = (
        f" In the {len(void)} void cells, whose times do not count: of {count(sent)} messages {fate}." if void else ""
    )
    unfinished = len(measured.excluded) - len(void)
    return said + (f" Left out: {counted(unfinished, 'failed cell')}." if unfinished else "")


def _breakage(cell: MeasuredCell) -> str:
    failed = cell.messages[~cell.messages["completed"]]
    kinds = listed([f"{count} {kind}" for kind, count in failed["outcome"].value_counts().items()])
    lost, repeated = (int(cell.messages[c].sum()) for c in ("tokens_lost", "tokens_duplicated"))
    tokens = f"{lost} tokens lost, {repeated} repeated"
    return f"{cell.key.title}: {len(failed)} of {len(cell.messages)} messages failed ({kinds}), {tokens}"
