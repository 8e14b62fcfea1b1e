"""Plans: TOML files that say what a run does, read into frozen structs and checked before anything starts.

A plan names the simulated stream, the load, when a cell is void, and the cells. A value of `[[cells]]` may be a list:
that table then stands for one cell per value (`transport = ["sse", "websocket"]`, `interval = [1.0, 0.1]`). A cell
may name another load or stream, `load = "bursty"` and `stream = "long"`, described in `[loads.bursty]` (what it does
not set is as in `[load]`) and `[streams.long]` (stands for itself). What the numbers must keep is `[slo]`, or what
`[slos.NAME]` says for cells with `slo = "NAME"` (bench.slo).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bench import slo as slo_checks
from bench.plan_checks import check_cell, check_plan, check_profile
from bench.secure_cells import check_secure
from bench.table_checks import PlanError, check_keys, to_struct, unknown
from bench.toml_file import read_toml
from clients.core.fallback import order_from
from clients.core.settings import MAX_SHARE
from clients.job import Load
from servers.checks import shown
from servers.recording import load_recording
from servers.stream import StreamSpec, check_times
from servers.transport import CONTESTANTS

MAX_CELLS = 2000  # of a plan; each is a load process in each block
MAX_TABLES = 32  # of [loads], of [streams] and of [slos]

Recovery = Literal["none", "restart", "resume", "fallback"]
PlanSeconds = Annotated[float, Meta(ge=0, le=3600)]
_NAME = "letters, digits, dots, dashes or underscores"
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z", description=f"1 to 64 {_NAME}")]
NameOrNone = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,64}\Z", description=f"up to 64 {_NAME}")]
ModelOrNone = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9._:/@+-]{0,128}\Z", description="up to 128 of A-Z a-z 0-9 . _ : / @ + -")
]

_VARIANT = (
    "backoff",
    "client",
    "copy",
    "dialect",
    "head",
    "heartbeat",
    "http",
    "interval",
    "limit",
    "load",
    "method",
    "model",
    "reuse",
    "share",
    "stack",
    "stream",
    "tls",
    "unread",
    "wait",
)  # sorted, as in a variant


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """When a cell is void: limits chosen before the run (docs/methodology.md), 99th percentiles and shares.

    A lag voids a cell above its limit, or above 2 % of the median delay of the cell's tokens where that is more.
    """

    generator_lag_ms_p99: Annotated[float, Meta(gt=0)] = 5.0  # start - intended: the load came late
    request_lag_ms_p99: Annotated[float, Meta(gt=0)] = 25.0  # start until our server had it, with nothing in between
    emit_lag_ms_p99: Annotated[float, Meta(gt=0)] = 5.0  # sent - due: the simulated model came late
    loop_lag_ms_p99: Annotated[float, Meta(gt=0)] = 10.0  # the event loop of load, server or proxy was late, or Redis
    loop_lag_ms_max: Annotated[float, Meta(gt=0)] = 30.0  # the same, once
    foreign_cpu_ratio: Annotated[float, Meta(gt=0)] = 0.25  # of one core: what other programs took of the run's cores
    steal_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.05  # share of CPU time that the hypervisor took
    client_cpu_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.8  # share of one core that the load process used
    attempts: Annotated[int, Meta(ge=1, le=10)] = 3  # a void cell is run again at the end of its block, in all so often


class Cell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to measure. Words left at their defaults do not appear in its variant."""

    transport: str
    backoff: Literal["jitter", "constant"] = (
        "jitter"  # "constant": always `backoff_s` of the load before another attempt
    )
    client: Literal["asyncio", "browser"] = "asyncio"  # "browser": a page in Chromium asks (docs/browser.md)
    copy: Literal["", "aa"] = ""  # "aa": the same again, to see how much two equal cells differ
    dialect: Literal["", "openai", "ai-sdk", "cumulative"] = ""  # in which form SSE is to say it; "": our own
    head: Literal["early", "late"] = "early"  # "late": the server withholds the response's head until the first token
    heartbeat: PlanSeconds = 0.0  # the server sends a sign of life after so long a silence; 0: never
    http: Literal[1, 2] = 1  # 2: HTTP/2, whose connections users share; takes tls = true, as browsers do
    interval: Annotated[float, Meta(ge=0.001, le=3600)] = 1.0  # seconds between polls, the story's default
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # the key that bounds an endpoint's answer
    load: NameOrNone = ""  # one of [loads]
    method: Literal["post", "get"] = "post"  # "get": as a browser's EventSource asks
    model: ModelOrNone = ""  # what an OpenAI-compatible endpoint is asked for
    reuse: bool = True  # keep connections for later requests
    share: Annotated[int, Meta(ge=1, le=MAX_SHARE)] = 50  # users of one connection, with http = 2
    slo: NameOrNone = ""  # one of [slos]; changes nothing of what is measured, and stands in no variant
    stack: NameOrNone = ""  # the server as people write it on a framework (docs/stacks.md); "": ours
    stream: NameOrNone = ""  # one of [streams]
    tls: bool = False  # by a real nginx before the server, or by the profile, if that is one that speaks TLS
    unread: Annotated[float, Meta(ge=0, le=86_400)] = (
        0.0  # seconds for which the client reads nothing, from the first token
    )
    wait: Annotated[float, Meta(ge=0, le=300)] = 0.0  # seconds that a poll may be held open (long polling)
    profile: str = "direct"  # what stands between client and server: a proxy profile's name, or one's own file
    recovery: Recovery = "none"

    @property
    def variant(self) -> dict[str, object]:
        """The words that differ from the defaults, sorted, with their values as they are written."""
        defaults = type(self)(transport=self.transport)
        differing = (word for word in _VARIANT if getattr(self, word) != getattr(defaults, word))
        return {word: _written(getattr(self, word)) for word in differing}

    @property
    def variant_text(self) -> str:
        """The variant as result files write it: "copy=aa interval=0.1"."""
        return " ".join(f"{word}={value}" for word, value in self.variant.items())

    @property
    def profile_name(self) -> str:
        """The profile without its folder and ending, if it is a file of the user's own."""
        return profile_name(self.profile)

    @property
    def key(self) -> str:
        """What names this cell in every block, e.g. "websocket heartbeat=15 aws-alb resume"."""
        profile = self.profile_name if self.profile != "direct" else ""
        recovery = self.recovery if self.recovery != "none" else ""
        return " ".join(filter(None, (self.transport, self.variant_text, profile, recovery)))


def profile_name(profile: str) -> str:
    """A profile without its folder and ending, if it is a file of the user's own."""
    return Path(profile).name.removesuffix(".toml")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server, or an endpoint, that runs already; the command line's `--target` goes before it."""

    transport: str
    url: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does. All times are real ones, and `time_scale` divides every one of them (bench.running.scaling)."""

    name: Name  # of the run's folder
    description: str = ""
    blocks: Annotated[int, Meta(ge=1, le=1000)] = 10  # how often each cell runs
    seed: Annotated[int, Meta(ge=0, lt=2**53)] = 1  # another one: other answers, arrivals and order of cells
    time_scale: Annotated[float, Meta(ge=0.01, le=1000)] = 1.0  # every time of the plan is divided by it
    parallel: Annotated[int, Meta(ge=1, le=64)] = 1  # cells that run at once: for what survives, not for what it costs
    control: str = "sse"  # the transport that runs twice as the A/A control, or "none"
    story: bool = False  # print what was measured for each claim of the story behind this project
    decision: bool = False  # say one recommendation for the plan's intermediary (tokenderby decide)
    stream: dict[str, Any] = {}
    streams: dict[Name, dict[str, Any]] = {}
    load: Load = msgspec.field(default_factory=Load)
    loads: dict[Name, Load] = {}
    validity: Validity = msgspec.field(default_factory=Validity)
    slo: dict[str, Any] = {}
    slos: dict[Name, dict[str, Any]] = {}
    targets: tuple[Target, ...] = ()
    cells: tuple[Cell, ...] = ()

    def load_of(self, cell: Cell) -> Load:
        """The load of this cell."""
        return self.loads[cell.load] if cell.load else self.load

    def order_of(self, cell: Cell) -> tuple[str, ...]:
        """The transports that may carry the cell's messages, its own first: others only with recovery `fallback`."""
        if cell.recovery != "fallback":
            return (cell.transport,)
        return order_from(cell.transport, self.load_of(cell).fallback)

    def stream_of(self, cell: Cell) -> dict[str, Any]:
        """The stream table of this cell, `recording` still a file."""
        return self.streams[cell.stream] if cell.stream else self.stream


def _written(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plan_names() -> list[str]:
    """The names of the plans that come with the project."""
    return sorted(entry.name[:-5] for entry in files("bench.plans").iterdir() if entry.name.endswith(".toml"))


def read_plan(name_or_file: str) -> Plan:
    """The plan of that name, or in that file. Raises PlanError."""
    path = Path(name_or_file)
    if path.suffix != ".toml" and len(path.parts) == 1:
        if name_or_file not in plan_names():
            raise unknown("plan", name_or_file, [*plan_names(), "FILE.toml"])
        path = Path(str(files("bench.plans").joinpath(f"{name_or_file}.toml")))
    table = read_toml(path, "plan", PlanError)
    return parse(table | {"name": table.get("name", path.stem)}, path.parent)


def parse(table: Mapping[str, Any], folder: Path | None = None) -> Plan:
    """The plan that `table` describes; files in it are looked for in `folder`, then here. Raises PlanError."""
    check_keys(table, "plan", Plan.__struct_fields__)
    folder = folder or Path()
    load = _table(table.get("load", {}), "[load]")
    named_loads = _tables(
        table, "loads", lambda t, w: to_struct(_with_file({**load, **t}, "trace", w, folder), Load, w)
    )
    parsed = dict(table) | {
        "load": to_struct(_with_file(load, "trace", "[load]", folder), Load, "[load]"),
        "loads": named_loads,
        "stream": _stream(table.get("stream", {"profile": "hosted"}), "[stream]", folder),
        "streams": _tables(table, "streams", lambda t, w: _stream(t, w, folder)),
        "validity": to_struct(table.get("validity", {}), Validity, "[validity]"),
        "slo": slo_checks.checked_slo(_table(table.get("slo", {}), "[slo]"), "[slo]"),
        "slos": _tables(table, "slos", slo_checks.checked_slo),
        "targets": _targets(table.get("targets", ())),
        "cells": _cells(table.get("cells"), folder),
    }
    plan = to_struct(parsed, Plan, "plan")
    check_plan(plan)
    return plan


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise PlanError(f"{where}: takes a table, not {shown(value)}")
    return dict(value)


def _tables(table: Mapping[str, Any], key: str, read: Callable[[dict[str, Any], str], Any]) -> dict[str, Any]:
    tables = _table(table.get(key, {}), f"[{key}]")
    if len(tables) > MAX_TABLES:
        raise PlanError(f"[{key}]: {len(tables)} tables; takes up to {MAX_TABLES}")
    return {name: read(_table(value, f"[{key}.{name}]"), f"[{key}.{name}]") for name, value in tables.items()}


def _with_file(table: dict[str, Any], key: str, where: str, folder: Path) -> dict[str, Any]:
    """`table` with the file that it names under `key` found, as an absolute path."""
    name = table.get(key)
    if name is None:
        return table
    if not isinstance(name, str):
        raise PlanError(f"{where} {key}: takes the name of a file, not {shown(name)}")
    found = next((path for path in (folder / name, Path(name)) if _is_file(path)), None)
    if found is None:
        raise PlanError(f"{where} {key}: no file {shown(name)} beside the plan or in the working directory")
    return table | {key: str(found.resolve())}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say
        return False


def _stream(value: object, where: str, folder: Path) -> dict[str, Any]:
    table = _with_file(_table(value, where), "recording", where, folder)
    try:
        spec = StreamSpec.parse({key: each for key, each in table.items() if key != "recording"})
        recording = None if table.get("recording") is None else load_recording(table["recording"])
        if spec.times:
            check_times(recording)
    except ValueError as error:  # a StreamError, or an integer of more digits than Python writes
        raise PlanError(f"{where}: {error}") from None
    return table


def _targets(value: object) -> list[Target]:
    """Their addresses are checked where they are used (bench.running.runner)."""
    if not isinstance(value, list | tuple):
        raise PlanError(f"[[targets]]: takes tables with a transport and a url, not {shown(value)}")
    found: dict[str, Target] = {}
    for number, each in enumerate(value, 1):
        where = f"[[targets]] {number}"
        target = to_struct(_table(each, where), Target, where)
        if target.transport not in CONTESTANTS:
            raise unknown(f"{where} transport", target.transport, CONTESTANTS)
        if target.transport in found:
            raise PlanError(f"{where} transport: {target.transport} has a target already")
        found[target.transport] = target
    return list(found.values())


def _cells(value: object, folder: Path) -> list[Cell]:
    if not isinstance(value, list | tuple) or not value:
        raise PlanError("plan: takes at least one [[cells]] table with a transport")
    tables = [(f"[[cells]] {number}", _choices(each, f"[[cells]] {number}")) for number, each in enumerate(value, 1)]
    count = sum(prod(map(len, choices.values())) for _, choices in tables)
    if count > MAX_CELLS:  # said before they are made
        raise PlanError(f"[[cells]]: the lists make {count} cells; a plan takes up to {MAX_CELLS}")
    checked: set[str] = set()
    return [cell for where, choices in tables for cell in _expand(choices, where, folder, checked)]


def _choices(value: object, where: str) -> dict[str, list[Any]]:
    """The values of each key of a table of cells."""
    table = _table(msgspec.to_builtins(value) if isinstance(value, Cell) else value, where)
    if empty := next((key for key, each in table.items() if each == []), None):
        raise PlanError(f"{where} {empty}: takes a value, or a list of at least one")
    return {key: each if isinstance(each, list) else [each] for key, each in table.items()}


def _expand(choices: dict[str, list[Any]], where: str, folder: Path, checked: set[str]) -> Iterable[Cell]:
    """A cell for each combination of the lists' values; `checked` are profiles that have been read."""
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        if isinstance(profile := chosen.get("profile"), str) and profile.endswith(".toml"):
            chosen = _with_file(chosen, "profile", where, folder)
        cell = to_struct(chosen, Cell, where)
        check_cell(cell, where)
        if cell.profile not in checked:
            check_profile(cell.profile, where)
            checked.add(cell.profile)
        check_secure(cell, where)
        yield cell


def with_control(plan: Plan) -> Plan:
    """`plan` with its A/A control: the first cell of `plan.control` (or else the first cell) once more.

    Nothing is added where nothing is compared, where a copy is already there, and where the plan says "none".
    """
    if len(plan.cells) < 2 or plan.control == "none" or any(cell.copy for cell in plan.cells):
        return plan
    original = next((cell for cell in plan.cells if cell.transport == plan.control), plan.cells[0])
    return msgspec.structs.replace(plan, cells=(*plan.cells, msgspec.structs.replace(original, copy="aa")))


def beside(plan: Plan, targets: Collection[str]) -> Plan:
    """`plan` with `targets`, the transports whose servers run already: a story's stacks of these are not asked.

    What runs already is another server. Any other plan fails that cell, whose row would else be missing without a word.
    """
    kept = tuple(cell for cell in plan.cells if not (plan.story and cell.stack and cell.transport in targets))
    return msgspec.structs.replace(plan, cells=kept) if kept else plan
