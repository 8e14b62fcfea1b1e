"""What on this machine would spoil a measurement, found before it does."""

from __future__ import annotations

import asyncio
import importlib.util
import resource
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import psutil

from bench.plan import Validity
from bench.running import machine
from servers.lags import Lags, LoopProbe
from servers.process import usable_cores
from servers.redis_server import find_executable

FILES_WANTED = 4096  # a socket per message at both ends, and some to spare
_SAMPLE_S = 1.0
_TIMER_S, _BEAT_NS = 0.5, 2_000_000
_TIMER_LIMIT_MS = 2.0  # as the limit on how late the load may come (bench.plan.Validity)


@dataclass(frozen=True)
class Check:
    """One finding. `warning`: numbers may suffer; `missing`: something cannot run."""

    name: str
    verdict: Literal["ok", "warning", "missing"]
    text: str


def examine() -> Iterator[Check]:
    """Every check of this machine; takes about two seconds."""
    yield _cores()
    yield _governor()
    yield _load()
    yield from _processor()
    yield _open_files()
    yield _redis()
    yield _uvloop()
    yield _tcp_info()
    yield _clock()
    yield _timer()


def _check(name: str, good: bool, text: str, otherwise: Literal["warning", "missing"] = "warning") -> Check:
    return Check(name, "ok" if good else otherwise, text)


def _cores() -> Check:
    count = len(usable_cores())
    advice = "" if count >= 2 else "; servers and load will take time from each other"
    return _check("cores", count >= 2, f"{count} usable, {machine.cpu_model()}{advice}")


def _governor() -> Check:
    governor = machine.governor()
    advice = "" if governor in (None, "performance") else "; `cpupower frequency-set -g performance` steadies the clock"
    return _check("governor", not advice, f"{governor or 'none (virtual machine, or not Linux)'}{advice}")


def _load() -> Check:
    load = psutil.getloadavg()[0]
    return _check("load average", load < 0.5, f"{load:.2f} over the last minute; below 0.50 is quiet")


def _processor() -> Iterator[Check]:
    """What the host and other programs take, looked at for a second."""
    cores = [core for cores in machine.pinning().values() for core in cores]
    stolen, total = machine.cpu_steal()
    busy_s = machine.busy_seconds(cores)
    time.sleep(_SAMPLE_S)
    stolen_now, total_now = machine.cpu_steal()
    share = 100 * (stolen_now - stolen) / max(1e-9, total_now - total)
    yield _check("CPU steal", share <= 2, f"{share:.1f} % taken by the host within {_SAMPLE_S:g} s; up to 2 % is fine")
    foreign, limit = (machine.busy_seconds(cores) - busy_s) / _SAMPLE_S, Validity().foreign_cpu_ratio
    text = f"took {100 * foreign:.0f} % of a core within {_SAMPLE_S:g} s; above {100 * limit:g} % a cell is void"
    yield _check("other programs", foreign <= limit, text)


def _open_files() -> Check:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    advice = "" if limit >= FILES_WANTED else f"; `ulimit -n {FILES_WANTED}` lets more connections in"
    return _check("open files", limit >= FILES_WANTED, f"up to {limit}{advice}")


def _redis() -> Check:
    executable = find_executable()
    if executable is None:
        text = "none found; polling needs one: apt install redis-server, brew install redis, or --redis-url"
        return Check("Redis", "missing", text)
    return Check("Redis", "ok", f"{machine.redis_version(executable) or 'of unknown version'} ({executable})")


def _uvloop() -> Check:
    found = importlib.util.find_spec("uvloop") is not None
    return _check("uvloop", found, "installed" if found else "not installed; servers and clients are slower without")


def _tcp_info() -> Check:
    found = sys.platform == "linux" and hasattr(socket, "TCP_INFO")
    return _check("TCP_INFO", found, "there" if found else "not there; columns bytes_in and bytes_out stay empty")


def _clock() -> Check:
    resolution_ns = time.get_clock_info("monotonic").resolution * 1e9
    return _check("clock", resolution_ns <= 1000, f"monotonic, resolution {resolution_ns:.0f} ns")


def _timer() -> Check:
    late_ms = asyncio.run(_timer_lateness_ms())
    return _check("timer", late_ms < _TIMER_LIMIT_MS, f"what is due every 2 ms comes {late_ms:.2f} ms late at p99")


async def _timer_lateness_ms() -> float:
    lags = Lags()
    probe = LoopProbe(lags.note_all, _BEAT_NS)
    await asyncio.sleep(_TIMER_S)
    probe.close()
    return lags.us_since()[0] / 1000
