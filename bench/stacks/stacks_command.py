"""The commands behind `python -m bench.stacks`: what is asked of which stacks, and the tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import click
from rich.console import Console
from rich.table import Table

from bench.analysis.statistics.wording import number
from bench.option_types import Names
from bench.stacks.leaving import WAYS, Left, leave_each_way
from bench.stacks.stream_limit import SECONDS_PER_STACK, STACK_LIMIT_MS, Borne, most_streams
from servers.arguments import HELP, Seconds
from servers.stacks import REMEDY, STACK_TRANSPORTS, STACKS
from servers.user_errors import UserError

OURS = "ours"
_DEFAULT = ",".join([OURS, *(name for name, stack in STACKS.items() if not stack.is_trap)])
_AT_ONCE = 4  # servers that are left at once: nothing there is about speed
TransportAndStack = tuple[str, str]
"""A transport and a stack."""


@click.group(context_settings=HELP)
def stacks() -> None:
    """What stacks are asked that no plan can (docs/stacks.md)."""


_which = click.option(
    "--stacks", "names", type=Names([OURS, *STACKS]), default=_DEFAULT, help="Which; else all without a known mistake."
)


@stacks.command(short_help="How long a server works for a client that has left.")
@_which
@click.option(
    "--transports",
    type=Names(STACK_TRANSPORTS),
    default=",".join(STACK_TRANSPORTS),
    show_default=True,
    help="Only these.",
)
@click.option("--seconds", default=4.0, show_default=True, type=Seconds(0.5, 300), help="Length of an answer.")
def leaving(names: tuple[str, ...], transports: tuple[str, ...], seconds: float) -> None:
    """How long each server goes on making tokens when its client has left."""
    here = _installed(names)
    subjects = [(transport, name) for name in here for transport in _transports(name) if transport in transports]
    table = Table(title=f"Tokens made for nobody in an answer of {seconds:g} s, and until when", show_lines=True)
    for title in ("stack", "transport", *WAYS):
        table.add_column(title)

    def left(subject: TransportAndStack) -> list[str]:
        try:
            found = leave_each_way(subject[0], _stack(subject[1]), seconds)
        except (UserError, OSError) as error:
            return [f"failed: {error}"]
        return [_left_text(found[way]) for way in WAYS]

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for (transport, name), found in zip(subjects, threads.map(left, subjects), strict=True):
            table.add_row(name, transport, *found)
    _print(table)


@stacks.command(short_help="How many streams a core bears on each stack.")
@_which
def load(names: tuple[str, ...]) -> None:
    """How many streams a core bears on each stack until its p99 token delay passes 50 ms (half a minute for each)."""
    subjects = [(transport, name) for name in _installed(names) for transport in _one_transport(name)]
    click.echo(f"This takes about {math.ceil(len(subjects) * SECONDS_PER_STACK / 60)} minutes.", err=True)
    table = Table(title=f"Most streams × 30 tokens/s on one core, p99 delay within {STACK_LIMIT_MS:g} ms")
    for title in ("stack", "transport", "streams", "CPU µs per token", "kB per stream"):
        table.add_column(title, justify="left" if title in ("stack", "transport") else "right")
    for transport, name in subjects:
        table.add_row(name, transport, *_borne_texts(most_streams(transport, _stack(name))))
    _print(table)


def _installed(names: Sequence[str]) -> list[str]:
    """Those that can be asked; says of each other what it needs."""
    missing = {name: STACKS[name].missing for name in names if name != OURS}
    for name, packages in missing.items():
        if packages:
            click.echo(f"left out: {name} needs {', '.join(packages)}: {REMEDY}", err=True)
    return [name for name in names if not missing.get(name)]


def _stack(name: str) -> str:
    return "" if name == OURS else name


def _transports(name: str) -> Sequence[str]:
    return STACK_TRANSPORTS if name == OURS else STACKS[name].transports


def _one_transport(name: str) -> Iterator[str]:
    """SSE, and the WebSocket of ours and of what has nothing else."""
    for transport in _transports(name):
        if transport == "sse" or (transport == "websocket" and (name == OURS or len(_transports(name)) == 1)):
            yield transport


def _left_text(left: Left) -> str:
    if not left.noticed:
        return f"{left.tokens}, to its end"
    return f"{left.tokens}, {left.seconds:.2f} s"


def _borne_texts(borne: Borne) -> list[str]:
    if not borne.streams:
        return ["none", "", ""]
    return [str(borne.streams), number(borne.cpu_us_per_token), number(borne.bytes_per_stream / 1000)]


def _print(table: Table) -> None:
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
