"""The load process whose messages are asked by a page in Chromium, instead of by asyncio clients.

    python -m clients.chromium.chromium_load < job.json

The same job, the same messages and the same files as of `clients.load`, and `<out>.painted.parquet` beside them. One
page asks all of a cell's messages, as one tab would, so that a browser's own limits show: six connections to a server
over HTTP/1.1, one thread for everything.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from clients import results
from clients.arrivals import PlannedMessage, plan_messages, plan_warmup
from clients.chromium.answers import PageAnswer, Painted, painted_of, record_of
from clients.chromium.browser import ANY_CERTIFICATE, WITHOUT_HTTP_2, chromium, open_page
from clients.chromium.page_clock import PageClock, PageRoundTrip
from clients.core.endpoint import Endpoint
from clients.core.exchange import GREETING
from clients.core.record import StreamRecord
from clients.core.settings import ClientSettings
from clients.core.tls import Trust
from clients.job import Job, JobResult
from clients.lateness import result_of, to_our_clock
from clients.load import OnProgress, cell_columns, client_settings, main, prepared, server_account, stream_id_prefix

if TYPE_CHECKING:
    from playwright.async_api import Page

RECOVERIES = ("none", "resume")
_CLOCK_ROUNDS = 100
_TRUST_S = 10.0
_NEVER_S = 86_400.0
_COOKIE = "tokenderby"  # where a server takes its token from a browser (docs/wire-format.md)
_WARMUP_K = 1_000_000  # warm-up messages are numbered from here in the page


async def run_cell(job: Job, on_progress: OnProgress) -> tuple[list[StreamRecord], JobResult]:
    """Ask a cell's messages, and write what was painted. Raises ValueError for a job that a browser cannot do."""
    if job.recovery not in RECOVERIES:
        raise ValueError(f"recovery: a browser's client takes {' or '.join(RECOVERIES)}, not {job.recovery!r}")
    settings = client_settings(job)
    options = page_options(job, settings)
    messages = plan_messages(job.load, job.stream, job.seed, job.block)
    account = await server_account(job.transport, settings)
    async with _clock() as clock_url, _page(job, settings) as page:
        version = page.context.browser.version if page.context.browser else ""
        grain_ms = 0.005 if await page.evaluate("crossOriginIsolated") else 0.1
        await page.evaluate("tokenderby.frameMs()")
        await _ask(page, options, plan_warmup(job.load, job.stream, job.seed, job.block), first_k=_WARMUP_K)
        await page.expose_function("tokenderbyProgress", on_progress)  # only now: of the warm-up nobody is told
        readings = await _read_clock(page, clock_url)
        on_progress(0, len(messages))  # whoever measures the server's cost begins here
        began_s, cpu_s = time.monotonic(), _browser_cpu_s()
        answers = msgspec.json.decode(await _ask(page, options, messages), type=list[PageAnswer])
        cpu_s, measured_s = _browser_cpu_s() - cpu_s, time.monotonic() - began_s
        readings += await _read_clock(page, clock_url)
    on_progress(len(answers), len(messages))
    clock = PageClock.of(readings, grain_ms=grain_ms)
    records, painted = _records(job, messages, answers, clock, is_told=bool(account.source))
    to_our_clock(records, account.offset_ns)
    results.write_painted(job.out, cell_columns(job), painted)
    # How late a page's own loop was is what is measured of it, and how late a request was sent too.
    late_ns = _first_starts_ns(records)
    result = result_of(job.transport, records, account, started_late_ns=late_ns, cpu_s=cpu_s, measured_s=measured_s)
    known = f"the page's clock is known to {clock.error_ns / 1e6:.3f} ms"
    result.notes = [*account.notes, f"asked by Chromium {version}", known]
    return records, result


async def _ask(page: Page, options: dict[str, Any], messages: Sequence[PlannedMessage], first_k: int = 0) -> str:
    """Have the page ask, and wait for all answers: the JSON of `PageAnswer`s. Messages are numbered from `first_k`."""
    by_conversation = groupby(messages, key=lambda message: message.conversation)
    conversations = [[_turn(message, first_k) for message in turns] for _, turns in by_conversation]
    told = {"options": options, "conversations": conversations}
    return str(await page.evaluate("told => tokenderby.run(told)", told))


def _turn(message: PlannedMessage, first_k: int) -> dict[str, Any]:
    return {
        "k": first_k + message.k,
        "offsetMs": (message.offset_ns or 0) / 1e6,
        "message": GREETING,
        "body": {"seed": message.seed, "stream": message.stream},
    }


async def _read_clock(page: Page, clock_url: str) -> list[PageRoundTrip]:
    """Once before the messages, and once behind them."""
    told = {"url": clock_url, "rounds": _CLOCK_ROUNDS}
    return [PageRoundTrip(*found) for found in await page.evaluate("told => tokenderby.readClock(told)", told)]


def page_options(job: Job, settings: ClientSettings) -> dict[str, Any]:
    """What all messages of a cell have alike, as page.js takes it."""
    load = job.load
    is_native = job.transport == "sse" and settings.method == "get"
    return {
        "transport": "eventsource" if is_native else job.transport,
        "path": f"{Endpoint.parse(job.url).base}/chat",
        "attempts": load.attempts if job.recovery == "resume" else 0,
        "backoffMs": load.backoff_s * 1e3,
        "backoffCapMs": load.backoff_cap_s * 1e3,
        "silenceMs": (load.silence_s or _NEVER_S) * 1e3,
        "tokenSilenceMs": (load.token_silence_s or _NEVER_S) * 1e3,
        "pollMs": settings.interval_s * 1e3,
        "pollWaitS": settings.wait_s,
        "timeoutMs": load.timeout_s * 1e3,
        "thinkMs": load.think_s * 1e3,
    }


@asynccontextmanager
async def _page(job: Job, settings: ClientSettings) -> AsyncIterator[Page]:
    cookies = {_COOKIE: job.auth_token} if job.auth_token else {}
    words = [] if job.variant.get("http") == 2 else [WITHOUT_HTTP_2]
    words += [ANY_CERTIFICATE] if await _is_trusted(job.url, settings.trust) else []
    async with chromium(*words) as browser, open_page(browser, job.url, cookies) as page:
        yield page


async def _is_trusted(url: str, trust: Trust) -> bool:
    """Whether the certificate is good by what the job says. Chromium cannot be told that, so we look for it."""
    endpoint = Endpoint.parse(url)
    if not endpoint.secure or not (trust.insecure or trust.cafile):
        return False
    try:
        context = trust.context
        async with asyncio.timeout(_TRUST_S):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    except OSError:  # ssl's errors and TimeoutError too; then Chromium says what is wrong
        return False
    writer.close()
    return True


@asynccontextmanager
async def _clock() -> AsyncIterator[str]:
    """Our clock for the page: the quickest way to ask it is a WebSocket."""
    from websockets.asyncio.server import ServerConnection, serve

    async def tell(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(str(time.monotonic_ns()))

    async with serve(tell, "127.0.0.1", 0, compression=None) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def _browser_cpu_s() -> float:
    """CPU seconds of the browser's processes so far; those of its driver are the harness's."""
    spent_s = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            spent_s += sum(process.cpu_times()[:2]) if "chrom" in process.name() else 0.0
        except psutil.Error:
            continue
    return spent_s


def _records(
    job: Job, messages: Sequence[PlannedMessage], answers: Sequence[PageAnswer], clock: PageClock, *, is_told: bool
) -> tuple[list[StreamRecord], list[Painted]]:
    prefix = stream_id_prefix(job)
    planned = {message.k: prepared(message, prefix, job.load.timeout_s, is_told=is_told) for message in messages}
    records, painted = [], []
    for answer in sorted(answers, key=lambda answer: answer.k):
        question = planned[answer.k](clock.ns(answer.intended_ms))
        records.append(record_of(answer, question, clock, job.load, is_socket=job.transport == "websocket"))
        painted.append(painted_of(answer, question.stream_id, clock))
    return records, painted


def _first_starts_ns(records: Sequence[StreamRecord]) -> list[int]:
    """How late the first of the messages of one moment was; that the others wait for it is the page's one thread."""
    latest_first = sorted(records, key=lambda record: record.start_ns, reverse=True)
    first_ns = {record.intended_start_ns: record.start_ns for record in latest_first}
    return [start_ns - intended_ns for intended_ns, start_ns in first_ns.items()]


if __name__ == "__main__":
    sys.exit(main(run_cell))
