"""Facts about this machine and the versions of what ran on it, for `run.json`."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import time
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

import psutil

from servers.process import usable_cores

_PACKAGES = (
    "aiohttp",
    "h2",
    "websockets",
    "redis",
    "hiredis",
    "uvloop",
    "msgspec",
    "numpy",
    "pandas",
    "pyarrow",
    "fastapi",
    "starlette",
    "uvicorn",
    "sse-starlette",
)
_PROJECT = Path(__file__).resolve().parents[2]


def machine_facts() -> dict[str, object]:
    """What a reader must know of the machine to judge the numbers."""
    return {
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(),
        "cores_usable": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "governor": governor(),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
    }


def pinning(taken: Collection[int] = ()) -> dict[str, list[int]]:
    """The core for servers and Redis, and the one for the load; empty lists where nothing is pinned.

    `taken` are cores of servers that run already: ours join them there, the load keeps off if it can.
    """
    cores = usable_cores()
    if len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        return {"servers": [], "load": []}
    servers = next((core for core in cores if core in taken), cores[0])
    load = next((core for core in cores if core != servers and core not in taken), cores[1])
    return {"servers": [servers], "load": [load]}


def cpu_model() -> str:
    """The processor's name."""
    info = _read("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def governor() -> str | None:
    """The first core's frequency governor, None where there is none (virtual machines, macOS)."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def package_versions() -> dict[str, str]:
    """Python and the packages that numbers may depend on."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for package in ("tokenderby", *_PACKAGES):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The project's commit, with `-dirty` if files differ from it; in a container what its build was told, or None."""
    if told := os.environ.get("TOKENDERBY_GIT_COMMIT"):
        return told
    git = "git", "--no-optional-locks", "-C", str(_PROJECT)  # a `status` that is killed would leave its index.lock
    commit = _output(*git, "rev-parse", "HEAD")
    if commit and _output(*git, "status", "--porcelain", "--untracked-files=no"):
        return f"{commit}-dirty"
    return commit or None


def redis_version(executable: str) -> str | None:
    """What `redis-server --version` (or Valkey's) says: its name and version."""
    words = _output(executable, "--version").split()
    version = next((word[2:] for word in words if word.startswith("v=")), None)
    return f"{words[0]} {version}" if version else None


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def cpu_steal() -> tuple[float, float]:
    """CPU seconds since boot over all cores: stolen by the hypervisor, and altogether."""
    times = psutil.cpu_times()
    stolen: float = getattr(times, "steal", 0.0)
    spent = (getattr(times, part, 0.0) for part in ("user", "nice", "system", "idle", "iowait", "irq", "softirq"))
    return stolen, stolen + sum(spent)


def busy_seconds(cores: Collection[int]) -> float:
    """CPU seconds since boot in which any of `cores` (of all, if empty) did something, interrupts included.

    Stolen time is not: nobody here used it. Nor is waiting for a disk: the core was free. A guest's time is in `user`.
    In a container these are the host's counters, so what others do on the same cores is in them too.
    """
    times = psutil.cpu_times(percpu=True)
    chosen = [times[core] for core in cores if core < len(times)] or times
    parts = ("user", "nice", "system", "irq", "softirq")
    return sum(getattr(core, part, 0.0) for core in chosen for part in parts)


def own_seconds() -> float:
    """CPU seconds of this process and all that it has started, with what of it has ended and was waited for."""
    return tree_seconds(os.getpid())


def tree_seconds(pid: int) -> float:
    """CPU seconds of a process and all that it has started, with what of it has ended and was waited for."""
    try:
        root = psutil.Process(pid)
        return sum(_times_with_ended(process) for process in (root, *root.children(recursive=True)))
    except psutil.Error:  # it has ended, which its owner notices
        return 0.0


def _times_with_ended(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:4]))  # user, system, and both of the children that have ended
    except psutil.Error:
        return 0.0


def cpu_seconds(process: psutil.Process | None) -> float | None:
    """CPU seconds that `process` has used so far, all its threads together; None if there is none any more.

    In nanoseconds where the system has a clock for another process's time (clock_getcpuclockid(3)): what /proc tells
    has ticks of 10 ms, and Redis uses two or three of them in a cell.
    """
    try:
        if process is None or not process.is_running():
            return None
        exact_s = _exact_cpu_seconds(process.pid)
        return float(sum(process.cpu_times()[:2])) if exact_s is None else exact_s
    except psutil.Error:
        return None


def _exact_cpu_seconds(pid: int) -> float | None:
    """What the process's own CPU clock shows; None where there is none, as on macOS."""
    clock_of = getattr(ctypes.CDLL(None), "clock_getcpuclockid", None)
    clock = ctypes.c_int()
    if clock_of is None or clock_of(pid, ctypes.byref(clock)):
        return None
    try:
        return time.clock_gettime(clock.value)
    except OSError:  # it has just ended
        return None
