"""The load process: one cell's messages, started when the plan says, whatever became of those before.

    python -m clients.load < job.json

See clients.job for what goes in and out. Everything that can be done before the first message is: schedules are
built, connections warmed up, the garbage collector stopped.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import groupby
from typing import Any, cast, get_args

import msgspec

from clients import results
from clients.arrivals import PlannedMessage, plan_messages, plan_warmup
from clients.bursts import worst_second
from clients.core.clock import Account, account_of, account_of_endpoint, get_json
from clients.core.errors import ClientFailure
from clients.core.exchange import Question
from clients.core.record import StreamRecord
from clients.core.recovery import Mode, Policy
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.drivers.aio import AioClient, AioPool
from clients.job import Job, JobResult
from clients.lateness import p99_ms, request_lags_ns, result_of, start_lags_ns, to_our_clock
from clients.stopping import enter_stops, spans_told
from clients.timer import Timer
from servers import recording
from servers.lags import LoopProbe
from servers.process import run
from servers.stream import StreamSpec, build
from servers.transport import CONTESTANTS, ENDPOINTS
from servers.user_errors import UserError

OnProgress = Callable[[int, int], object]
"""Is told how many messages are over, and of how many."""
RunCell = Callable[[Job, OnProgress], Coroutine[Any, Any, tuple[list[StreamRecord], JobResult]]]

_LEAD_NS = 20_000_000  # the measured phase begins so long after everything is ready
_BEAT_NS = 10_000_000  # how often the event loop's lag is looked at
_PROGRESS_S = 0.25
_NOTICE_S = 1.0  # behind the last message, for a server to notice that somebody has gone


class Users:
    """Virtual users. A message takes the one that was idle for the shortest time.

    Each has its own connection; over HTTP/2 they share some.
    """

    def __init__(self, transport: str, settings: ClientSettings) -> None:
        self._transport, self._settings = transport, settings
        self._pool = AioPool(settings) if settings.http == 2 else None
        self._idle: list[AioClient] = []
        self._all: list[AioClient] = []

    def take(self) -> AioClient:
        """An idle user, or a new one."""
        if not self._idle:
            self._all.append(AioClient(self._transport, self._settings, self._pool))
            return self._all[-1]
        return self._idle.pop()

    def give_back(self, user: AioClient) -> None:
        """The conversation is over."""
        self._idle.append(user)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(user.close() for user in self._all))


class Phase:
    """One phase of a cell, warm-up or measured: its conversations run side by side until all are over.

    All that can be made before the first message is made at once: it is no part of what the load costs.
    """

    def __init__(
        self,
        job: Job,
        users: Users,
        timer: Timer,
        prefix: str,
        messages: Sequence[PlannedMessage],
        *,
        is_told: bool = False,
    ) -> None:
        self._think_ns = round(job.load.think_s * 1e9)
        self._users, self._timer = users, timer
        self.records: list[StreamRecord] = []
        self.loop_lags_ns: list[int] = []
        self.begin_ns = 0  # once it runs
        self.size = len(messages)
        self._questions = {m.k: prepared(m, prefix, job.load.timeout_s, is_told=is_told) for m in messages}
        self._conversations = [list(turns) for _, turns in groupby(messages, key=lambda message: message.conversation)]

    async def run(self, on_record: Callable[[int], object]) -> None:
        """Send the messages; `on_record` is told how many are over."""
        self.begin_ns = time.monotonic_ns() + _LEAD_NS
        probe = LoopProbe(lambda _, lags_ns: self.loop_lags_ns.extend(lags_ns), _BEAT_NS)
        try:
            async with asyncio.TaskGroup() as group:
                for turns in self._conversations:
                    group.create_task(self._converse(turns, on_record))
        finally:
            probe.close()

    async def _converse(self, turns: list[PlannedMessage], on_record: Callable[[int], object]) -> None:
        intended_ns = self.begin_ns + (turns[0].offset_ns or 0)
        user: AioClient | None = None
        for message in turns:
            await self._timer.until(intended_ns)
            user = user or self._users.take()
            self.records.append(await user.ask(self._questions[message.k](intended_ns)))
            on_record(len(self.records))
            intended_ns = time.monotonic_ns() + self._think_ns
        if user is not None:
            self._users.give_back(user)


def prepared(message: PlannedMessage, prefix: str, timeout_s: float, *, is_told: bool) -> Callable[[int], Question]:
    """All of a question but its intended start, with the answer that it has to get."""
    schedule = build(StreamSpec.parse(message.stream), message.seed)
    schedule.sha256  # noqa: B018  # computed and kept now
    return lambda intended_ns: Question(
        f"{prefix}-{message.k:05d}",
        message.seed,
        message.stream,
        schedule,
        intended_ns,
        timeout_s=timeout_s,
        conversation=message.conversation,
        turn=message.turn,
        is_told=is_told,
    )


async def run_cell(job: Job, on_progress: OnProgress) -> tuple[list[StreamRecord], JobResult]:
    """Send a cell's messages. Raises ValueError (with its subclasses) for a job that cannot be sent."""
    settings = client_settings(job)
    users, timer = Users(job.transport, settings), Timer()
    try:
        account = await server_account(job.transport, settings)
        warmup, phase = _phases(job, users, timer, is_told=bool(account.source))
        await warmup.run(lambda done: None)
        cpu_s = await _measure(phase, on_progress)
        records = sorted(phase.records, key=lambda record: record.stream_id)
        if job.transport not in ENDPOINTS and any(record.drops for record in records):
            await _learn_of_stops(job.transport, settings, records, account.offset_ns, phase.begin_ns)
    finally:
        await users.close()
        timer.close()
    to_our_clock(records, account.offset_ns)
    return records, _result(job.transport, phase, records, account, cpu_s)


def _result(transport: str, phase: Phase, records: Sequence[StreamRecord], account: Account, cpu_s: float) -> JobResult:
    late_ns, measured_s = start_lags_ns(records), _measured_s(records)
    result = result_of(transport, records, account, started_late_ns=late_ns, cpu_s=cpu_s, measured_s=measured_s)
    result.loop_lag_ms_p99 = p99_ms(phase.loop_lags_ns) or 0.0
    result.loop_lag_ms_max = max(phase.loop_lags_ns, default=0) / 1e6
    result.request_lag_ms_p99 = p99_ms(request_lags_ns(records))
    result.requests_worst_second = worst_second(record.requests_at_ns for record in records)
    return result


def client_settings(job: Job) -> ClientSettings:
    """How the cell's users ask, and what they need to know for it. Raises ValueError."""
    if job.transport not in CONTESTANTS:
        raise ValueError(f"transport: there is no {job.transport!r}, but {', '.join(CONTESTANTS)}")
    if job.recovery not in get_args(Mode):
        raise ValueError(f"recovery: takes one of {', '.join(get_args(Mode))}, not {job.recovery!r}")
    for path in job.recordings:
        recording.register(recording.load_recording(path))
    return ClientSettings.of_variant(
        job.variant | job.settings,
        url=job.url,
        auth_token=job.auth_token,
        recovery=Policy(cast(Mode, job.recovery), job.load.backoff_s, job.load.backoff_cap_s, job.load.attempts),
        silence_s=job.load.silence_s,
        token_silence_s=job.load.token_silence_s,
        others=job.others,
        trust=Trust(job.cafile, job.insecure),
    )


def _phases(job: Job, users: Users, timer: Timer, *, is_told: bool) -> tuple[Phase, Phase]:
    """The warm-up and the measured phase. Raises ValueError."""
    prefix, work = stream_id_prefix(job), (job.load, job.stream, job.seed, job.block)
    return (
        Phase(job, users, timer, f"{prefix}-w", plan_warmup(*work), is_told=is_told),
        Phase(job, users, timer, prefix, plan_messages(*work), is_told=is_told),
    )


async def _measure(phase: Phase, on_progress: OnProgress) -> float:
    """Send the phase's messages without a garbage collector in between; the CPU seconds that it took."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        on_progress(0, phase.size)  # whoever measures the server's cost begins here
        begin_s = time.process_time()
        await phase.run(lambda done: on_progress(done, phase.size))
        return time.process_time() - begin_s
    finally:
        gc.enable()


async def server_account(transport: str, settings: ClientSettings) -> Account:
    """What the server says of itself, asked over a connection of its own."""
    if transport in ENDPOINTS:
        return account_of_endpoint(settings.model)
    client = AioClient(transport, settings)
    try:
        return await client.run(account_of(client.session))
    finally:
        await client.close()


async def _learn_of_stops(
    transport: str, settings: ClientSettings, records: Sequence[StreamRecord], offset_ns: int, begin_ns: int
) -> None:
    """Ask the server how long it went on for connections that dropped since `begin_ns`, if it can tell.

    What still goes on is given `_NOTICE_S` to end: a server notices a closed connection with its next token or two.
    """
    client = AioClient(transport, settings)
    path, until_s = f"/stats?since={max(1, begin_ns + offset_ns)}", time.monotonic() + _NOTICE_S
    try:
        while not enter_stops(records, spans_told(await client.run(get_json(client.session, path))), offset_ns):
            if time.monotonic() >= until_s:
                return
            await asyncio.sleep(_NOTICE_S / 10)
    except (ClientFailure, ValueError):
        return
    finally:
        await client.close()


def stream_id_prefix(job: Job) -> str:
    """Begins every stream id; differs from cell to cell and from run to run, as a server may outlive a run.

    Always of the same length: SSE repeats the id with every token, and a cell's name must not show in its bytes.
    """
    cell = hashlib.sha256(job.cell.encode()).hexdigest()[:6]
    return f"b{job.block % 100:02d}-{cell}-{os.urandom(3).hex()}"


def _measured_s(records: Sequence[StreamRecord]) -> float:
    started = min((record.start_ns for record in records), default=0)
    ended = max((max(record.end_ns, record.start_ns) for record in records), default=0)
    return (ended - started) / 1e9


def cell_columns(job: Job) -> results.CellColumns:
    """What the rows of the job's cell begin with."""
    variant = results.variant_words(job.variant)
    return results.CellColumns(job.block, job.cell, job.transport, variant, job.profile, job.recovery)


class _Progress:
    """Prints how far the cell is, as JSON lines, a few times a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if now >= self._next or done == of:
            self._next = now + _PROGRESS_S
            print(json.dumps({"done": done, "of": of}), flush=True)


async def _until_signal(job: Job, run: RunCell) -> tuple[list[StreamRecord], JobResult]:
    """Run the cell; SIGINT and SIGTERM cancel it."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await run(job, _Progress())


def main(run_job: RunCell = run_cell) -> int:
    """Do what the job on standard input says. Exit codes: 0 done, 1 failed, 2 a wrong job, 130 interrupted."""
    try:
        job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
        records, result = run(_until_signal(job, run_job))
        results.write(job.out, cell_columns(job), records)
        print(msgspec.json.encode(result).decode(), flush=True)
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("load: interrupted", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"load: the job is wrong: {error}", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        print(f"load: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
