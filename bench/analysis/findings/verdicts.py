"""What may be said: a sentence per question, and whether everything arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.findings.scoreboard import Pair, QuestionStatus, group_answers
from bench.analysis.findings.topics import COMPLETED
from bench.analysis.measures.groups import MeasuredCell, Measurements
from bench.analysis.statistics.wording import count, counted, listed
from bench.run_record import CellRecord

COMPLETENESS = "Did everything arrive?"


@dataclass(frozen=True)
class Verdict:
    """The answer to a question for cells that raced under equal conditions (`group`, empty for the plain one)."""

    question: str
    group: str
    column: str
    sentence: str
    status: QuestionStatus
    pairs: tuple[Pair, ...] = ()


def verdicts(measured: Measurements) -> list[Verdict]:
    """The answers to all questions, group by group, and at the end what did not arrive."""
    found = [
        Verdict(a.topic.question, a.question.group, a.question.column, a.question.sentence, a.question.status, a.pairs)
        for a in group_answers(measured)
        if a.question.column != COMPLETED
    ]
    return [*found, _completeness(measured)]


def _completeness(measured: Measurements) -> Verdict:
    """Counts, not estimates: what was sent and did not arrive whole."""
    total = sum(len(cell.messages) for cell in measured.cells)
    broken = [cell for cell in measured.cells if len(cell.messages) and not cell.messages["completed"].all()]
    if not total:
        sentence = "No valid cell, nothing is known of times."
    elif broken:
        whole = total - sum(len(cell.messages) for cell in broken)
        rest = f" All {count(whole)} messages of the other cells arrived whole." if whole else ""
        sentence = f"{'; '.join(_breakage(cell) for cell in broken)}.{rest}"
    else:
        sentence = f"Yes: all {count(total)} messages arrived whole, no token lost, repeated, out of order or altered."
    sentence += _left_out(measured)
    return Verdict(COMPLETENESS, "", COMPLETED, sentence, "resolved" if total else "no claim")


def _left_out(measured: Measurements) -> str:
    """The times of such cells are in no number, but what they lost was lost all the same."""
    void = [cell for cell in measured.excluded if cell.status == "void"]
    said = _fate(void, counted(len(void), "void cell")) if void else ""
    if beside := measured.uncounted:
        said += _fate(beside, f"{counted(len(beside), 'valid cell')} of blocks in which a rival was void")
    failed = len(measured.excluded) - len(void)
    return said + (f" Left out: {counted(failed, 'failed cell')}." if failed else "")


def _fate(cells: Sequence[CellRecord], what: str) -> str:
    sent, broken = sum(cell.messages for cell in cells), sum(cell.failed_messages for cell in cells)
    fate = f"{count(broken)} did not arrive whole" if broken else "all arrived whole"
    return f" In the {what}, whose times do not count: of {count(sent)} messages {fate}."


def _breakage(cell: MeasuredCell) -> str:
    failed = cell.messages[~cell.messages["completed"]]
    kinds = listed([f"{count(many)} {kind}" for kind, many in failed["outcome"].value_counts().items()])
    lost, repeated = (int(cell.messages[c].sum()) for c in ("tokens_lost", "tokens_duplicated"))
    tokens = f"{counted(lost, 'token')} lost, {count(repeated)} repeated"
    return (
        f"{cell.key.title}: {count(len(failed))} of {counted(len(cell.messages), 'message')} failed ({kinds}), {tokens}"
    )
