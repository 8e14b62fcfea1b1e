"""Whether two runs did the same work on the same machine: what forbids to compare them, and what is only worth a word.

Only what differs is said. A key that one of the runs does not have is as its default, since it came with a later
version. A machine is another one by its processor, its cores, or clearly more or less memory; not by the few bytes that
a kernel keeps for itself, nor by another build of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bench.run_record import Run
from clients.job import Load
from servers.checks import shown
from servers.stream import StreamSpec
from servers.user_errors import StreamError

SAME_MEMORY = 0.05  # so large a share of memory makes no other machine; kernels keep some for themselves
MAX_NAMED = 6  # differences that a text names
_GIB = 1 << 30


def run_differences(a: Run, b: Run) -> list[str]:
    """What forbids a comparison: another machine, other work, another time scale."""
    found = [_said("machine", _other_machine(a.machine, b.machine)), _said("plan", _other_work(a.plan, b.plan))]
    if a.time_scale != b.time_scale:
        found.append(f"time scale {a.time_scale:g} and {b.time_scale:g}")
    return [text for text in found if text]


def notes(a: Run, b: Run) -> list[str]:
    """What differs and does not forbid it, but may be the reason for a change: kernel, versions."""
    found = dict(_differing(_known(a.machine, ["system"]), _known(b.machine, ["system"])))
    found |= _differing(a.versions, b.versions)
    return [f"{name}: {before} and {after}" for name, (before, after) in found.items()]


def _said(what: str, found: Mapping[str, tuple[str, str]]) -> str:
    """The differences as one line, "another plan: load.rate_per_s (60 and 30)"; empty if there is none."""
    named = [f"{name} ({before} and {after})" for name, (before, after) in list(found.items())[:MAX_NAMED]]
    if more := len(found) - len(named):
        named.append(f"{more} more")
    return f"another {what}: {', '.join(named)}" if named else ""


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The keys that both have and that differ, with both values as text."""
    for name in a:
        if name in b and a[name] != b[name]:
            yield name, (_text(a[name]), _text(b[name]))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return "none" if value is None else value if isinstance(value, str) and len(value) < 80 else shown(value)


def _other_machine(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return dict(_differing(_machine(a), _machine(b))) | dict(_other_memory(a, b))


def _known(facts: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: facts[name] for name in names if facts.get(name) is not None}


def _machine(facts: Mapping[str, Any]) -> dict[str, Any]:
    found = _known(facts, ("cpu", "cores", "architecture"))
    if isinstance(usable := facts.get("cores_usable"), list):
        found["cores usable"] = len(usable)
    if isinstance(system := facts.get("system"), str):
        found["system"] = system.partition(" ")[0]
    return found


def _other_memory(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    before, after = a.get("memory_bytes"), b.get("memory_bytes")
    if isinstance(before, int) and isinstance(after, int) and abs(after - before) > SAME_MEMORY * max(before, after):
        yield "memory", (f"{before / _GIB:.1f} GiB", f"{after / _GIB:.1f} GiB")


def _other_work(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return dict(_differing(_work(a), _work(b)))


def _work(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the work, flat: "load.rate_per_s", "streams.long.tokens". Blocks and cells may differ."""
    tables = {"load": _load(plan.get("load")), "stream": _stream(plan.get("stream"))}
    for kind, read in (("loads", _load), ("streams", _stream)):
        named = plan.get(kind)
        tables |= {f"{kind}.{name}": read(table) for name, table in _table(named).items()}
    flat = {f"{table}.{key}": value for table, values in tables.items() for key, value in values.items()}
    return {"parallel": plan.get("parallel", 1), **flat}


def _table(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _load(given: object) -> dict[str, Any]:
    return _by_name(msgspec.to_builtins(Load()) | _table(given), "trace")


def _stream(given: object) -> dict[str, Any]:
    """A stream with all its parameters, so that one that is stated and one that the profile brings are the same."""
    table = _table(given)
    try:
        spec = StreamSpec.parse({key: value for key, value in table.items() if key != "recording"})
    except StreamError:  # of another version
        return table
    return _by_name(msgspec.to_builtins(spec) | {"recording": table.get("recording")}, "recording")


def _by_name(table: dict[str, Any], key: str) -> dict[str, Any]:
    """`table` with the file under `key` without its folder, which is another one on each machine."""
    file = table.get(key)
    return table | {key: Path(file).name} if isinstance(file, str) else table
