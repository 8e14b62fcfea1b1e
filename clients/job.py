"""What the runner asks of a load process, and what it answers: one JSON document each way.

`python -m clients.load` reads a `Job` from standard input, sends its messages, writes
`<out>.streams.parquet` and `<out>.tokens.parquet`, prints progress as JSON lines `{"done": k, "of": n}` and, as its
last line, a `JobResult`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from clients.core.fallback import DEFAULT_ORDER

LONG_ENOUGH_S = 1.0  # of measuring, for a share of a core to mean anything: refusals are over in no time

Arrivals = Literal["poisson", "constant", "gamma", "burst", "closed", "trace"]
StreamCount = Annotated[int, Meta(ge=1, le=100_000)]
AboveZero = Annotated[float, Meta(ge=1e-6, le=1e9)]
UpToADay = Annotated[float, Meta(gt=0, le=86_400)]
UpToAnHour = Annotated[float, Meta(gt=0, le=3600)]


class Load(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The `[load]` table of a plan: when messages start.

    Open loop (`poisson`, `constant`, `gamma`, `burst`, `trace`): starts are fixed before the run. A `burst` is
    `concurrency` messages at one moment, and the next when `rate_per_s` allows it. `closed`: each of `concurrency`
    users asks again when its answer is complete. With `turns` > 1 every arrival is a conversation of so many messages,
    `think_s` apart after each answer (partly open). A trace determines by itself how many messages
    there are and how long each answer is: `streams`, `rate_per_s` and `turns` say nothing then, but for the warm-up.
    """

    arrivals: Arrivals = "poisson"
    streams: StreamCount = 80  # measured messages per cell and block
    rate_per_s: AboveZero = 20.0  # messages (conversations, if turns > 1) per second
    gamma_shape: AboveZero = 0.37  # CV 1.64, as the Azure 2024 conversation trace in 5-minute windows
    warmup_streams: Annotated[int, Meta(ge=0, le=100_000)] = (
        8  # sent first at the same rate and thrown away; they open the connections
    )
    concurrency: StreamCount = 10  # closed loop: users; burst: messages at one moment
    turns: Annotated[int, Meta(ge=1, le=10_000)] = 1
    think_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    timeout_s: UpToADay = 60.0  # a message not complete so long after its intended start has failed
    silence_s: UpToADay | None = None  # the client gives a connection up after so long without a byte
    token_silence_s: UpToADay | None = (
        None  # the same without a token, since the request or the last token, whatever else came
    )
    fallback: list[str] = msgspec.field(
        default_factory=lambda: [*DEFAULT_ORDER]
    )  # the order of transports that recovery "fallback" goes by, round and round from the cell's own
    # After a drop (clients.core.recovery): a random wait of at most backoff_s, doubled with each attempt up to the cap.
    backoff_s: UpToAnHour = 0.1
    backoff_cap_s: UpToAnHour = 5.0
    attempts: Annotated[int, Meta(ge=1, le=1000)] = 8  # in a row without a new token, and the client gives up
    trace: str | None = None  # a file as Azure, BurstGPT or Mooncake publish theirs (clients.traces)
    trace_s: UpToADay = 300.0  # how many seconds of the trace to take
    speed_up: AboveZero = 1.0  # trace time passes so much faster


class Job(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One cell in one block, ready to be sent.

    `variant` holds the cell's settings (`interval`, `wait`, `reuse`, `copy`, …), `stream` the plan's `[stream]`
    table (`profile` and overrides, see servers.stream), `out` the path prefix of the files to write. Times in `load`
    and `stream` are those of the clock, a plan's time scale has been applied; `settings` are words of the variant whose
    values are others for the same reason.
    """

    transport: str
    url: str
    out: str
    block: int
    cell: str
    seed: int
    load: Load
    stream: dict[str, object]
    variant: dict[str, object] = {}
    profile: str = "direct"
    recovery: str = "none"
    others: dict[str, str] = {}  # what recovery `fallback` may go over to, in order, each with its URL
    auth_token: str | None = None
    cafile: str | None = None  # https only: whom to trust instead of the system's authorities
    insecure: bool = False  # https only: trust anybody
    recordings: list[str] = []  # files that `stream.recording` may name by its id
    settings: dict[str, object] = {}


class JobResult(msgspec.Struct, kw_only=True):
    """What the load process says of itself when the cell is done.

    `clock_offset_ns` is the server's monotonic clock minus ours, 0 when both are one clock (same machine).
    `measured_s` is the time over which `cpu_s` was spent: from the first measured start to the last end.
    """

    messages: int
    failed: int
    cpu_s: float
    measured_s: float
    generator_lag_ms_p99: float  # start - intended
    emit_lag_ms_p99: float | None  # sent - due; None where nobody tells
    emit_early_ms_max: float | None  # due - sent, where that is above 0
    # How late the load process's own event loop was; None where that is what is measured (a page).
    loop_lag_ms_p99: float | None = None
    loop_lag_ms_max: float | None = None
    request_lag_ms_p99: float | None = None  # from a message's start until the server has its request
    delay_ms_p50: float | None  # of all tokens, due to received; None of none
    requests_worst_second: int | None = None  # the most that all users together sent within any second
    clock_offset_ns: int = 0
    notes: list[str] = []

    @property
    def cpu_ratio(self) -> float | None:
        """The share of a core that the load process took; None where it measured too briefly to say."""
        return self.cpu_s / self.measured_s if self.measured_s >= LONG_ENOUGH_S else None
