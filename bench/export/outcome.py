"""The end of a run or a report: the limits of its plan judged, and what other programs are to have of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from bench.analysis.findings.gates import Gate, gates, not_met
from bench.analysis.findings.recommendation import that_count, unmet_recommendation
from bench.analysis.measures.groups import Measurements
from bench.analysis.statistics.wording import counted
from bench.console import Console
from bench.export.exports import Exports
from bench.store import RunFolder

MAX_LINES = 12  # of limits that are not met; the documents have all


def judge_run(measured: Measurements, folder: RunFolder, console: Console, exports: Exports) -> list[str]:
    """Write the exports; a line for each limit that is not met, and each file that could not be written.

    Raises StoreError, OutputLost.
    """
    judged = gates(measured)
    missed = that_count(measured, not_met(judged))
    if judged:
        text = f"{len(judged) - len(not_met(judged))} of {counted(len(judged), 'limit')} met"
        console.print(Text(f"SLO: {text}", style="bold red" if missed else "bold green"))
    return unmet_recommendation(measured) + _lines(missed) + exports.write_run(measured, judged, folder.path)


def _lines(missed: Sequence[Gate]) -> list[str]:
    lines = [f"slo {gate.sentence}" for gate in missed[:MAX_LINES]]
    more = len(missed) - MAX_LINES
    return [*lines, f"slo: and {counted(more, 'limit')} more not met"] if more > 0 else lines
