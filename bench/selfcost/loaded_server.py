"""One server under one load process, on a core each: what both spent on it, and what came."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.running.machine import pinning
from bench.selfcost.child_process import ChildError, MeasuredChild, running
from clients.job import Job, JobResult, Load

_SPARE_S = 60.0  # a load process gets so much longer than its messages can take

LoadedRole = Literal["client", "server"]


@dataclass(frozen=True)
class Loaded:
    """What one run left: CPU seconds of both sides, and per token when it was due and when the client held it."""

    messages: int
    client_cpu_s: float
    server_cpu_s: float  # with its Redis
    server_rss_bytes: int  # how much more memory it has behind the load than before
    emit_lag_ms_p99: float
    i: NDArray[np.int64]
    due_ns: NDArray[np.int64]
    received_ns: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """How many tokens came."""
        return len(self.i)

    def cpu_us_per_token(self, role: LoadedRole) -> float:
        """CPU of one side, the requests' among it."""
        spent_s = self.client_cpu_s if role == "client" else self.server_cpu_s
        return spent_s / self.tokens * 1e6


def run_load(
    transport: str,
    load: Load,
    stream: dict[str, object],
    *,
    seed: int = 0,
    profiles: Mapping[LoadedRole, Path] | None = None,
    options: Sequence[str] = (),
) -> Loaded:
    """Start a server with `options` and send it `load`, each answer as `stream` says.

    `profiles`: files for cProfile's findings.

    Raises ChildError when one of the two dies or hangs, or a message fails.
    """
    cores, profiles = pinning(), profiles or {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running("servers", transport, *options, cores=cores["servers"], profile=profiles.get("server")) as server,
    ):
        job = Job(
            transport=transport, url=server.line_with("url")["url"], out=f"{folder}/load", block=0, cell=transport,
            seed=seed, stream=stream, load=load,
        )  # fmt: skip
        job_json = msgspec.json.encode(job)
        with running(
            "clients.load", cores=cores["load"], standard_input=job_json, profile=profiles.get("client")
        ) as client:
            result, server_cpu_s, server_rss_bytes = _follow(client, server, load)
            with suppress(ChildError):
                client.line(_SPARE_S)  # its end: a profile is written then
        columns = pq.read_table(f"{folder}/load.tokens.parquet", columns=["i", "due_ns", "received_ns"])
    return Loaded(
        result.messages, result.cpu_s, server_cpu_s, server_rss_bytes, result.emit_lag_ms_p99 or 0.0,
        *(columns[name].to_numpy() for name in ("i", "due_ns", "received_ns")),
    )  # fmt: skip


def _follow(client: MeasuredChild, server: MeasuredChild, load: Load) -> tuple[JobResult, float, int]:
    """The load process's result, and the server's CPU seconds and growth in bytes in its measured part."""
    warm_up_s = load.warmup_streams / load.rate_per_s + load.timeout_s if load.warmup_streams else 0.0
    client.line_with("done", _SPARE_S + warm_up_s)  # all is ready, and nothing measured is sent yet
    before_s, before_bytes = server.cpu_s(), server.rss_bytes()
    limit_s = load.streams / load.rate_per_s + load.timeout_s + _SPARE_S
    result = msgspec.convert(client.line_with("messages", limit_s), JobResult)
    spent_s, grown_bytes = server.cpu_s() - before_s, server.rss_bytes() - before_bytes
    if result.failed:
        raise ChildError(f"{client.name}: {result.failed} of {result.messages} messages failed")
    return result, spent_s, grown_bytes
