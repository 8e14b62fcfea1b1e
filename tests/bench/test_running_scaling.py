"""The time scale divides every time of a plan, and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.plan import Cell, parse, read_plan
from bench.plan_options import with_options
from bench.run_record import CellRecord
from bench.running.cell_runner import job_for
from bench.running.endpoints import Route, Server
from bench.running.fingerprint import schedule_sha256
from bench.running.scaling import scaled_load, scaled_settings, scaled_stream
from bench.store import RunFolder
from bench.table_checks import PlanError
from clients.arrivals import plan_messages
from clients.core.recovery import Policy
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.job import Job, Load
from servers.stream import StreamSpec, build

# What of a load is no time: these stay, every other field has to change.
UNSCALED = {
    *("arrivals", "streams", "gamma_shape", "warmup_streams", "concurrency", "turns", "attempts", "trace", "trace_s"),
    "fallback",
}
FULL = Load(think_s=330, silence_s=100, token_silence_s=200, timeout_s=320)


def job_of(cell: Cell, **changes: object) -> Job:
    plan = parse(
        {"name": "p", "cells": [cell], "load": msgspec.to_builtins(FULL), "stream": {"profile": "article"}, **changes}
    )
    record = CellRecord(id="b01-x", block=1, cell=cell.key, transport=cell.transport)
    route = Route(Server(cell.transport, "http://[::1]:1", "secret"), "http://[::1]:1")
    return job_for(plan, cell, record, route, RunFolder(Path("/nowhere")), trust=Trust())


def test_every_field_of_a_load_is_a_time_a_rate_or_neither() -> None:
    scaled = scaled_load(FULL, 20)
    changed_fields = {name for name in Load.__struct_fields__ if getattr(scaled, name) != getattr(FULL, name)}
    assert changed_fields == set(Load.__struct_fields__) - UNSCALED
    assert (scaled.think_s, scaled.silence_s, scaled.timeout_s) == (16.5, 5, 16)
    assert (scaled.backoff_s, scaled.backoff_cap_s) == (0.005, 0.25)
    assert (scaled.rate_per_s, scaled.speed_up) == (400, 20)
    assert scaled_load(Load(silence_s=None), 20).silence_s is None
    assert scaled_load(FULL, 1) == FULL


def test_every_time_of_a_stream_is_divided_also_those_of_its_profile() -> None:
    times = {name for name in StreamSpec.__struct_fields__ if name.endswith(("_ms", "_s"))}
    stream: dict[str, object] = {"profile": "article", "stall_ms": 1000, "stall_probability": 0.1}
    before, after = StreamSpec.parse(stream), StreamSpec.parse(scaled_stream(stream, 20))
    for name in StreamSpec.__struct_fields__:
        expected = getattr(before, name) / 20 if name in times else getattr(before, name)
        assert getattr(after, name) == expected, name
    assert scaled_stream(stream, 1) is stream


def test_recorded_times_pass_faster_too() -> None:
    stream: dict[str, object] = {"recording": "x", "times": True, "times_speed_up": 3}
    assert StreamSpec.parse(scaled_stream(stream, 20)).times_speed_up == 60


def test_the_same_answers_only_faster() -> None:
    stream: dict[str, object] = {"profile": "hosted"}
    slow, fast = (build(StreamSpec.parse(scaled_stream(stream, scale)), 7) for scale in (1, 20))
    assert slow.texts == fast.texts
    assert fast.duration_ns == pytest.approx(slow.duration_ns / 20, rel=0.001)
    starts = [[m.offset_ns or 0 for m in plan_messages(scaled_load(FULL, scale), stream, 1, 1)] for scale in (1, 20)]
    assert starts[1] == pytest.approx([ns / 20 for ns in starts[0]], abs=1000)


def test_a_job_has_the_times_of_the_clock_and_the_cell_its_real_name() -> None:
    job = job_of(Cell(transport="polling", interval=2.0, wait=20.0), time_scale=20)
    assert (job.load.think_s, job.load.timeout_s) == (16.5, 16)
    assert StreamSpec.parse(job.stream).gap_ms == StreamSpec.parse("article").gap_ms / 20
    assert job.variant == {"interval": 2, "wait": 20}
    settings = ClientSettings.of_variant(job.variant | job.settings, url=job.url)
    assert (settings.interval_s, settings.wait_s) == (0.1, 1.0)
    assert job.auth_token == "secret"
    msgspec.json.decode(msgspec.json.encode(job), type=Job)  # every scaled value is one that a job may have


@pytest.mark.parametrize("time_scale", [0.01, 1000.0])
def test_the_widest_scales_make_jobs_that_can_be_read(time_scale: float) -> None:
    job = job_of(Cell(transport="polling"), time_scale=time_scale, stream={"profile": "fast", "tokens": 3})
    msgspec.json.decode(msgspec.json.encode(job), type=Job)


def test_the_default_interval_is_divided_too() -> None:
    assert scaled_settings(Cell(transport="polling"), 20) == {"interval": 0.05, "wait": 0}
    assert scaled_settings(Cell(transport="polling"), 1) == {}
    assert scaled_settings(Cell(transport="sse"), 20) == {}
    assert scaled_settings(Cell(transport="sse", recovery="fallback"), 20) == {"interval": 0.05, "wait": 0}
    assert scaled_settings(Cell(transport="sse", unread=30), 20) == {"unread": 1.5}


def test_a_job_says_what_its_client_does_besides() -> None:
    job = job_of(Cell(transport="sse", unread=30, backoff="constant"), time_scale=20)
    given = {"recovery": Policy("resume", base_s=2)}
    settings = ClientSettings.of_variant(job.variant | job.settings, url=job.url, **given)
    assert (settings.unread_s, settings.recovery) == (1.5, Policy("resume", base_s=2, backoff="constant"))
    assert (job.load.token_silence_s, job.load.fallback) == (10, ["websocket", "sse", "polling"])


def test_a_scale_below_one_may_make_answers_too_long() -> None:
    table = {"name": "p", "cells": [{"transport": "sse"}], "stream": {"gap_ms": 1000, "tokens": 100}}
    schedule_sha256(parse(table))
    with pytest.raises(PlanError, match="over 3600 s"):
        schedule_sha256(parse(table | {"time_scale": 0.01}))
    with pytest.raises(PlanError, match="timeout_s"):
        schedule_sha256(parse(table | {"stream": {}, "load": {"timeout_s": 3600}, "time_scale": 0.01}))


def test_the_real_timeouts_are_the_same_plan() -> None:
    scaled = read_plan("timeouts")
    real = with_options(scaled, time_scale=1)
    assert (scaled.time_scale, real.time_scale) == (20, 1)
    assert schedule_sha256(scaled) == schedule_sha256(real)
    for cell in scaled.cells:
        load = scaled_load(scaled.load_of(cell), scaled.time_scale)
        assert load.timeout_s == real.load_of(cell).timeout_s / 20
