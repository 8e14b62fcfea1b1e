"""What a question is asked with: the deployment, one of its transports, the limits, and what is known already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns
from typing import Any

from bench.probe.channel import Channel, Heard, Talk
from bench.probe.control import Control
from bench.probe.deployment import Deployment
from bench.probe.finding import BLACK_HOLE, NO_CUT, Finding, Seen, Value
from bench.probe.own_lateness import OwnLateness, moves, void_words
from bench.probe.probe_clock import Clock
from bench.probe.search import Limit
from bench.probe.trial import Trial
from bench.probe.words import limit_words, no_cut_words

Lookup = Callable[[str, str], Awaitable[Finding | None]]


@dataclass
class Asking:
    """One question to one transport.

    up_to_s: the longest silence that is worth trying
    until_s: when the whole probe ends (CLOCK_MONOTONIC): what takes longer is not begun
    clock: the round trip to the server, and what its clock says
    passes: what came of the first short stream: what does not pass at all cannot be asked about
    lateness: when this machine was late itself
    seen: raw observations, entered as they are made, so that an interruption keeps them
    """

    question: str
    deployment: Deployment
    transport: str
    up_to_s: float
    until_s: float
    clock: Clock
    passes: Heard
    control: Control
    lateness: OwnLateness
    began_ns: int
    lookup: Lookup
    seen: list[Seen] = field(default_factory=list)

    async def known(self, question: str, transport: str | None = None) -> Finding | None:
        """The finding of a question in `needs`, as soon as it is there; None where it was not asked."""
        return await self.lookup(question, self.transport if transport is None else transport)

    def channel(self, tcp_keepalive_s: float | None = None) -> Channel:
        """A new connection, for a `with` block; it waits where too many are open."""
        return Channel(self.deployment, self.transport, tcp_keepalive_s)

    async def talk(self, talk: Talk, tcp_keepalive_s: float | None = None) -> Heard:
        """One chat request over a connection of its own."""
        async with self.channel(tcp_keepalive_s) as channel:
            return await channel.talk(talk)

    @property
    def refusal(self) -> str:
        """Why nothing can be asked of this transport; "" where a first short stream came whole."""
        return "" if self.passes.ending == NO_CUT else f"no stream passes: {self.passes.detail or self.passes.ending}"

    @property
    def grace_s(self) -> float:
        """How much later than due an answer may come before it counts as lost."""
        return min(2.0, max(0.5, self.up_to_s / 10)) + 4 * self.clock.rtt_s

    @property
    def slack_s(self) -> float:
        """How long a trial may take beyond its wait, until it is judged."""
        return 2 * self.grace_s + self.control.settling_s

    def left_s(self) -> float:
        """How long the probe may still take."""
        return self.until_s - monotonic()

    def at_s(self, moment_ns: int | None = None) -> float:
        """A moment (now), in seconds from the start of the probe."""
        return round(((monotonic_ns() if moment_ns is None else moment_ns) - self.began_ns) / 1e9, 6)

    async def judged(self, trial: Trial, tried: str, heard: Heard) -> Trial:
        """Enter a trial among the observations; void where the control connection was disturbed at its end, or this
        machine so late itself that it would be another limit.

        After one that is void it returns when all is well again.
        """
        if not trial.survived and not trial.void:
            # What fell silent may have done so when its last byte had come.
            since_ns = heard.last_read_ns if trial.ending == BLACK_HOLE else heard.ended_ns
            if void := await self._why_void(trial, since_ns, heard.ended_ns):
                trial = Trial(trial.tried_s, survived=False, ending=trial.ending, void=void)
        self.note(heard, tried, trial.took_s, trial.ending, trial.void, **trial.facts)
        if trial.void:
            await self.control.calm(max(0.0, self.left_s()))
        return trial

    async def _why_void(self, trial: Trial, since_ns: int, ended_ns: int) -> str:
        """Why an end says nothing; "" if it counts."""
        if await self.was_disturbed(since_ns, ended_ns):
            return "the control stream was disturbed"
        if trial.ending == BLACK_HOLE:
            late_s = self.lateness.late_s(ended_ns - round(self.grace_s * 1e9), ended_ns)
            return void_words(late_s) if late_s > self.grace_s / 2 else ""
        late_s = self.lateness.late_s(ended_ns, ended_ns)
        return void_words(late_s) if moves(late_s, trial.took_s or trial.tried_s) else ""

    async def was_disturbed(self, from_ns: int, to_ns: int) -> bool:
        """Whether the control connection was disturbed too, as soon as that is known; so if it says nothing at all."""
        is_known = await self.control.settle()
        return self.control.disturbed(from_ns, to_ns) or (not is_known and self.control.is_usable)

    def note(self, heard: Heard, tried: str, took_s: float | None, ending: str, void: str = "", **facts: Any) -> None:
        """Enter an observation."""
        took_s = None if took_s is None else round(took_s, 6)
        seen = Seen(at_s=self.at_s(heard.asked_ns), tried=tried, took_s=took_s, ending=ending, void=void, facts=facts)
        self.seen.append(seen)

    def limited(self, limit: Limit, of_what: str, facts: dict[str, Any]) -> Finding:
        """The finding of a limit; without a value where it was seen too seldom."""
        return self.finding(
            f"{limit_words(limit)} {of_what}",
            limit.sure_s,
            unit="s",
            low=limit.low_s,
            high=limit.high_s,
            seen=limit.seen,
            ending=limit.ending,
            facts=facts,
        )

    def outlived(self, what: str, low_s: float, seen: int) -> Finding:
        """The finding that there is no limit, as far as the longest wait that survived can tell."""
        return self.finding(no_cut_words(low_s, self.up_to_s, what), seen=seen, low=low_s)

    def finding(self, words: str, value: Value = None, **rest: Any) -> Finding:
        """The question's finding, with all observations that were entered."""
        return Finding(
            question=self.question,
            transport=self.transport,
            value=value,
            words=words,
            observations=tuple(self.seen),
            **rest,
        )
