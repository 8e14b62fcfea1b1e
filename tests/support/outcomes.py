"""Runs to export: everything that a document may have to say, from made-up numbers and written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.runs import Message, RunBuilder

from bench.analysis.synthetic import Caricature, synthetic_run
from bench.store import RunFolder

HOSTILE = "a|b `c` <img src=x> @someone *d* _e_ [f](g) ~h~ & \x00\x1b"
FIELD = (
    Caricature("sse", delay_ms=0.5),
    Caricature("sse", "copy=aa", delay_ms=0.5),
    Caricature("polling", "", "pull", 1000, cpu_us=25),
    Caricature("websocket", delay_ms=0.5, failing=0.6),  # more than half of it infinitely late
)


def raced(folder: Path, slo: dict[str, float], blocks: int = 5, **changes: Any) -> RunFolder:
    """A run of three transports and a control whose plan demands `slo` of each."""
    run_folder = synthetic_run(folder, blocks=blocks, messages=16, tokens=6, field=FIELD)
    run = run_folder.load()
    cells = [{"transport": name} for name in ("sse", "polling", "websocket")]
    run.plan |= {"slo": slo, "cells": [*cells, {"transport": "sse", "copy": "aa"}]}
    for name, value in changes.items():
        setattr(run, name, value)
    run_folder.save(run)
    return run_folder


def troubled(folder: Path) -> RunFolder:
    """A run with a void cell, a failed one, one that never ran, and words that no format may stumble over."""
    plan = {"cells": [{"transport": "sse"}, {"transport": "chunked"}], "slo": {"ttft_ms_p50": 50}}
    builder = RunBuilder(folder, {"plan": plan, "status": "failed", "warnings": [HOSTILE], "git_commit": HOSTILE})
    good = [Message([(100.0 + k, 101.0 + k)]) for k in range(4)]
    builder.cell("sse", 1, good, status="void", reasons=[HOSTILE])
    builder.cell("chunked", 1, good)
    builder.cell("chunked", 2, [], status="failed", reasons=["the server died"])
    builder.cell("chunked", 3, [], status="pending")
    return builder.write()


def lost(folder: Path) -> RunFolder:
    """A complete run without a limit, of whose two cells one got nothing through, though nothing stood in between."""
    builder = RunBuilder(folder, {"plan": {"cells": [{"transport": "sse"}, {"transport": "websocket"}]}})
    for block in (1, 2):
        builder.cell("sse", block, [Message([(100.0 + k, 101.0 + k)]) for k in range(4)])
        refused = Message([], 1, "http_error", facts={"detail": "status 426: upgrade required"})
        builder.cell("websocket", block, [refused] * 4)
    return builder.write()
