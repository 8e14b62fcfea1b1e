"""The harness's own error, as `tokenderby calibrate` found it: `calibration.json` beside the runs.

Charts draw it as a band, and no difference of times below it says anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.analysis.measures.waterfall import Waterfall
from clients.whole_file import replace_file

FILE = "calibration.json"
_MAX_BYTES = 1 << 20


class ClientError(msgspec.Struct, kw_only=True, frozen=True):
    """How late the client's stamps were with so many streams at once, against an independent server's before its sends.

    `send_p99_ms` is how long the sends themselves took, which is part of it.
    """

    transport: str
    streams: int
    samples: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    early: int  # stamped before they were sent: wrong, if there is one
    send_p99_ms: float = 0.0


class HarnessError(msgspec.Struct, kw_only=True, frozen=True):
    """A machine's calibration. `cpu` and `cores` say whose; `measured` is UTC."""

    schema: int = 1
    measured: str
    cpu: str
    cores: int
    clients: tuple[ClientError, ...]
    waterfalls: tuple[Waterfall, ...] = ()  # where a token's delay comes from, through a proxy, on an idle machine

    def band_ms(self, streams: int, transport: str = "") -> tuple[float, float]:
        """The worst p50 and p99 at the level next above `streams` (else the highest), of one transport or of all.

        NaN where nothing was measured.
        """
        of = [each for each in self.clients if transport in ("", each.transport)]
        levels = sorted({each.streams for each in of})
        level = next((each for each in levels if each >= streams), levels[-1] if levels else 0)
        at = [each for each in of if each.streams == level]
        worst = (max((getattr(each, name) for each in at), default=float("nan")) for name in ("p50_ms", "p99_ms"))
        p50_ms, p99_ms = worst
        return p50_ms, p99_ms

    def is_of(self, machine: dict[str, object]) -> bool:
        """Whether it was measured on this machine (`Run.machine`)."""
        return (self.cpu, self.cores) == (machine.get("cpu"), machine.get("cores"))


def write_calibration(folder: Path, found: HarnessError) -> Path:
    """Keep a calibration beside the runs in `folder`; the path. Raises OSError."""
    path = folder / FILE
    replace_file(path, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path


def read_calibration(run_path: Path, machine: dict[str, object]) -> HarnessError | None:
    """The calibration that lies in a run's folder or beside it, if there is one of the run's machine."""
    for path in (run_path / FILE, run_path.parent / FILE):
        try:
            if path.stat().st_size <= _MAX_BYTES:
                found = msgspec.json.decode(path.read_bytes(), type=HarnessError)
                if found.is_of(machine):
                    return found
        except (OSError, msgspec.MsgspecError):
            continue
    return None


def worst(clients: Sequence[ClientError]) -> ClientError:
    """The one with the largest p99."""
    return max(clients, key=lambda each: each.p99_ms)
