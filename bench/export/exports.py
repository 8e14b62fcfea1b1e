"""The files that a command is asked to leave for other programs: the options, and writing them.

"-" is standard output, for one of them; what people read then goes to standard error. Imports wait until something is
written, so that `--help` is quick.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.option_types import writable
from servers.user_errors import reason

if TYPE_CHECKING:
    from bench.analysis.findings.comparison import Comparison
    from bench.analysis.findings.gates import Gate
    from bench.analysis.measures.groups import Measurements
    from bench.console import Console

STANDARD_OUTPUT = "-"
Callback = Callable[..., Any]  # what click makes a command of
_FORMATS = {
    "json": 'The outcome as one JSON document ("-": to standard output; so may the others).',
    "markdown": "The outcome for a comment on a pull request, or a job's summary.",
    "junit": "The outcome as JUnit XML, which CI systems read.",
    "benchmark_json": "The numbers for github-action-benchmark (customSmallerIsBetter).",
}
COMPARISON_FORMATS = ("json", "markdown", "junit")


@dataclass(frozen=True)
class Exports:
    """Where each format goes, None where it is not wanted."""

    json: str | None = None
    markdown: str | None = None
    junit: str | None = None
    benchmark_json: str | None = None

    def console(self) -> Console:
        """Where people are told how it goes."""
        from bench.console import Console

        return Console(stderr=STANDARD_OUTPUT in vars(self).values())

    def write_run(self, measured: Measurements, judged: Sequence[Gate], folder: Path) -> list[str]:
        """Write what is wanted of a run; a line for each file that could not be written. Raises OutputLost."""
        from bench.export import benchmark_action, document, junit, markdown

        return self._write(
            json=lambda: document.encoded(document.run_document(measured, judged, folder.name)),
            markdown=lambda: markdown.run_markdown(measured, judged, folder.name).encode(),
            junit=lambda: junit.run_junit(measured, judged),
            benchmark_json=lambda: benchmark_action.benchmark_json(measured),
        )

    def write_comparison(self, comparison: Comparison, folders: tuple[str, str]) -> list[str]:
        """The same of a comparison of two folders, the earlier first."""
        from bench.export import document, junit, markdown

        return self._write(
            json=lambda: document.encoded(document.comparison_document(comparison, folders)),
            markdown=lambda: markdown.comparison_markdown(comparison, folders).encode(),
            junit=lambda: junit.comparison_junit(comparison),
        )

    def _write(self, **made: Callable[[], bytes]) -> list[str]:
        faults = []
        for name, make in made.items():
            target: str | None = getattr(self, name)
            if target is not None:
                try:
                    _put(target, make())
                except OSError as error:
                    faults.append(f"{_flag(name)}: cannot write {target[:200]}: {reason(error)}")
        return faults


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _put(target: str, data: bytes) -> None:
    """Write a file whole or not at all; into what is no file (a pipe, a device) as it comes."""
    from clients.whole_file import replace_file

    path = Path(target)
    if target == STANDARD_OUTPUT:
        _to_standard_output(data)
    elif path.exists() and not path.is_file():
        path.write_bytes(data)
    else:
        replace_file(path.resolve(), data)  # a link stays one


def _to_standard_output(data: bytes) -> None:
    from servers.user_errors import OutputLost

    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputLost(error) from error


def export_options(*formats: str) -> Callable[[Callback], Callback]:
    """A decorator: options for these formats (none named: for all), which the command gets as one `exports`."""
    chosen = formats or tuple(_FORMATS)

    def decorate(command: Callback) -> Callback:
        made: Callback = functools.wraps(command)(functools.partial(_call, command, chosen))
        for name in reversed(chosen):
            made = _option(name)(made)
        return made

    return decorate


def _call(command: Callback, chosen: Sequence[str], **options: Any) -> Any:
    exports = Exports(**{name: options.pop(name) for name in chosen})
    if list(vars(exports).values()).count(STANDARD_OUTPUT) > 1:
        raise click.UsageError('only one of the formats can go to standard output, "-"')
    return command(exports=exports, **options)


def _option(name: str) -> Callable[[Callback], Callback]:
    flag = f"--{name.replace('_', '-')}"
    kind = click.Path(allow_dash=True, dir_okay=False)
    return click.option(flag, name, type=kind, metavar="FILE", callback=writable, show_envvar=True, help=_FORMATS[name])
