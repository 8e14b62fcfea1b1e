"""Every shipped profile in front of every transport's real server: what it cuts is counted, and resuming loses nothing.

What was cut is told by the proxies' own logs. Each rule's time is brought to TIMEOUT_S, whatever it is in real life;
the model is silent for longer than that, and long polls are held for longer than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import uvloop
from support.asking import question
from support.processes import RunningServer

from bench.proxy import profile as profiles
from bench.proxy.log import ConnectionRecord, read_log
from bench.proxy.profile import Profile
from bench.proxy.rule import Rule
from bench.proxy.serve import Proxy
from clients.core.record import Outcome, StreamRecord
from clients.core.recovery import Mode, Policy
from clients.core.settings import ClientSettings
from clients.drivers.aio import AioClient
from servers.stream import StreamSpec, build
from servers.transport import STREAMING, TRANSPORTS

TIMEOUT_S = 0.5
STREAM = {"ttft_ms": 20, "ttft_sigma": 0, "gap_ms": 1200, "gap_sigma": 0, "tokens": 6, "per_emission": 3}
SILENCE_S = 2.5  # longer than the model's own silence, and than a response withheld until it is complete
WAIT_S = 2 * TIMEOUT_S
TIMES = ("idle_timeout_s", "max_duration_s", "max_age_s", "first_byte_timeout_s", "keepalive_timeout_s", "after_s")
# Who may end a connection without a message noticing: the last two do so between two responses.
NOT_CUT = ("client", "upstream", "proxy", "max_age", "keepalive_timeout")


@dataclass(frozen=True)
class Case:
    """One message behind one profile."""

    profile: str
    transport: str
    mode: Mode
    record: StreamRecord
    connections: list[ConnectionRecord]

    @property
    def cuts(self) -> int:
        """Connections that a behaviour ended in the middle of the message.

        The connection over which the end message has come, the last one, may be cut as well, behind that message.
        """
        opened = sorted(self.connections, key=lambda each: each.start_ns)
        is_whole = self.record.outcome is Outcome.OK and not TRANSPORTS[self.transport].pulls
        return sum(each.ended_by not in NOT_CUT for each in (opened[:-1] if is_whole else opened))

    @property
    def counts_right(self) -> bool:
        """As many drops as cuts. Polling's connection may be cut between two polls, which is nobody's loss."""
        drops = self.record.drops
        return drops <= self.cuts if TRANSPORTS[self.transport].pulls else drops == self.cuts

    def words(self) -> str:
        """For a failed test."""
        record, ends = self.record, [(c.ended_by, c.closed, c.status) for c in self.connections]
        tokens = f"{record.tokens_lost} lost, {record.tokens_duplicated} repeated"
        head = f"{self.profile} {self.transport} {self.mode}: {record.outcome} {record.detail}"
        return f"{head}, {record.drops} drops {record.noticed_by}, {tokens}; the proxy says {ends}"


def quick(rule: Rule) -> Rule:
    """The rule with its time brought to TIMEOUT_S; a black hole stays open."""
    time_s = next((value for name in TIMES if (value := getattr(rule, name, None)) is not None), TIMEOUT_S)
    unscaled = (*rule.unscaled, *(["forget_s"] if hasattr(rule, "forget_s") else []))
    return msgspec.structs.replace(rule, unscaled=unscaled).scaled(time_s / TIMEOUT_S)


async def ask(profile: Profile, transport: str, mode: Mode, url: str, folder: Path) -> Case:
    """One message through the profile."""
    log = folder / f"{profile.name}-{transport}-{mode}.jsonl"
    upstream = urlsplit(url)
    rules = [quick(rule) for rule in profile.rules]
    asked = question(build(StreamSpec.parse(STREAM), 7), stream=STREAM, stream_id=log.stem, timeout_s=40)
    async with Proxy((upstream.hostname or "", upstream.port or 0), rules, log=log) as proxy:
        settings = ClientSettings(
            f"http://127.0.0.1:{proxy.address[1]}",
            recovery=Policy(mode, base_s=0.05, cap_s=0.5),
            silence_s=SILENCE_S,
            interval_s=0.05,
            wait_s=WAIT_S,
        )
        client = AioClient(transport, settings)
        record = await client.ask(asked)
        await client.close()
    return Case(profile.name, transport, mode, record, read_log(log))


@pytest.fixture(scope="module")
def cases(server: Callable[[str], RunningServer], tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Every profile, transport and mode, side by side."""
    folder = tmp_path_factory.mktemp("profiles")
    urls = {transport: server(transport).url for transport in STREAMING}
    shipped = [profiles.load_profile(name) for name in profiles.names()]

    async def ask_all(mode: Mode) -> list[Case]:
        asking = (ask(profile, transport, mode, urls[transport], folder) for profile in shipped for transport in urls)
        return await asyncio.gather(*asking)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return [*runner.run(ask_all("none")), *runner.run(ask_all("resume"))]


def refuses_websockets(name: str) -> bool:
    """Whether the profile lets no WebSocket open at all, which is in its data."""
    return any(rule.name == "upgrade" for rule in profiles.load_profile(name).rules)


def opened(cases: list[Case], mode: Mode) -> list[Case]:
    """Those that the profile lets open a connection."""
    return [
        case
        for case in cases
        if case.mode == mode and not (case.transport == "websocket" and refuses_websockets(case.profile))
    ]


def test_with_resume_nothing_is_lost_or_repeated(cases: list[Case]) -> None:
    wrong = [
        case.words()
        for case in opened(cases, "resume")
        if (case.record.outcome, case.record.tokens_lost, case.record.tokens_duplicated, case.record.text_ok)
        != (Outcome.OK, 0, 0, True)
    ]
    assert not wrong, "\n".join(wrong)


def test_without_recovery_a_cut_is_a_failure_and_anything_else_is_not(cases: list[Case]) -> None:
    wrong = [
        case.words()
        for case in opened(cases, "none")
        if not case.counts_right or (case.record.outcome is Outcome.OK) != (case.record.drops == 0)
    ]
    assert not wrong, "\n".join(wrong)


def test_with_resume_every_cut_is_counted(cases: list[Case]) -> None:
    wrong = [case.words() for case in opened(cases, "resume") if not case.counts_right]
    assert not wrong, "\n".join(wrong)


def test_the_profiles_that_refuse_websockets_do(cases: list[Case]) -> None:
    refused = [case for case in cases if case.transport == "websocket" and refuses_websockets(case.profile)]
    assert refused
    wrong = [case.words() for case in refused if (case.record.outcome, case.record.drops) != (Outcome.HTTP_ERROR, 0)]
    assert not wrong, "\n".join(wrong)


def test_whoever_may_cut_a_response_has_cut_one(cases: list[Case]) -> None:
    """Else the tests above would hold for want of cuts."""
    may_cut = {
        name
        for name in profiles.names()
        for rule in profiles.load_profile(name).rules
        if rule.name in ("idle_timeout", "max_duration") and getattr(rule, "scope", "") in ("connection", "request")
    }
    cut = {case.profile for case in cases if case.mode == "none" and case.transport == "chunked" and case.cuts}
    assert cut == may_cut
    assert len(cut) > 20
