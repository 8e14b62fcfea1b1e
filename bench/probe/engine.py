"""Asks all questions side by side, watches the servers meanwhile, and keeps what is known whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, monotonic_ns

import msgspec

from bench.probe.asking import Asking
from bench.probe.channel import Channel, Heard, Talk
from bench.probe.control import CYCLES, Control
from bench.probe.deployment import MAX_CONNECTIONS, SMALL_ANSWER_S, Deployment
from bench.probe.finding import NO_CUT, Finding, Findings, Seen
from bench.probe.own_lateness import OwnLateness
from bench.probe.probe_clock import Clock, look
from bench.probe.question import ProbeQuestion, all_questions
from bench.probe.search import STAGGER
from bench.probe.streams import talking

OVERALL = 1.5  # times the longest silence: how long a probe may take
LEAST_S = 4.0  # beyond the longest silence, however short that is
LAST_ANSWERS_S = 4.0  # after which nothing is waited for that was begun in time
_SHORT = Talk(talking(0.01, 0.02), SMALL_ANSWER_S)
_log = logging.getLogger(__name__)

FindingKey = tuple[str, str]


@dataclass(frozen=True)
class Known:
    """What is known of a transport before anything is asked, and who watches it."""

    transport: str
    clock: Clock
    passes: Heard
    control: Control


class Engine:
    """One probe. `run` may be cancelled at any time: `findings` then has what is known until then.

    up_to_s: the longest silence that is worth trying
    kept: an earlier probe whose complete findings are not asked for again
    chosen: the questions; all there are if not given
    on_finding: told of each finding as it is made
    """

    def __init__(
        self,
        deployment: Deployment,
        up_to_s: float,
        *,
        kept: Findings | None = None,
        chosen: Iterable[ProbeQuestion] | None = None,
        on_finding: Callable[[Finding], None] = lambda _finding: None,
    ) -> None:
        self.deployment = deployment
        self.up_to_s = up_to_s
        self._began_ns = monotonic_ns()
        self._until_s = monotonic() + limit_s(up_to_s)
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._on_finding = on_finding
        self._plan = plan(deployment, all_questions().values() if chosen is None else chosen)
        self._kept = (
            {(each.question, each.transport): each for each in kept.findings if each.is_complete} if kept else {}
        )
        self._earlier = kept
        self._results: dict[FindingKey, asyncio.Future[Finding]] = {}
        self._askings: dict[FindingKey, Asking] = {}
        self._controls: dict[str, Control] = {}

    async def run(self) -> Findings:
        """Ask everything; the findings, in the order of the questions."""
        loop = asyncio.get_running_loop()
        self._results = {key: loop.create_future() for key in self._plan}
        self._lateness = OwnLateness()
        with contextlib.closing(self._lateness):
            return await self._run()

    async def _run(self) -> Findings:
        async with self._watching() as known, asyncio.TaskGroup() as group:
            for key, question in self._plan.items():
                if key in self._kept:
                    self._results[key].set_result(self._kept[key])
                    continue
                group.create_task(self._ask(key, question, known[key[1]] if key[1] else self._best(question, known)))
                await asyncio.sleep(STAGGER * self.up_to_s)  # all at once would be a burst, and late
        return self.findings()

    def findings(self, *, interrupted: bool = False) -> Findings:
        """What is known by now."""
        earlier = self._earlier
        return Findings(
            urls=dict(self.deployment.urls),
            up_to_s=self.up_to_s,
            started=earlier.started if earlier else self._started,
            interrupted=interrupted,
            disturbances=(*(earlier.disturbances if earlier else ()), *self._disturbances()),
            findings=tuple(self._finding(key) for key in self._plan),
        )

    def _finding(self, key: FindingKey) -> Finding:
        future = self._results.get(key)
        if future is not None and future.done() and not future.cancelled():
            return future.result()
        if key in self._kept:
            return self._kept[key]
        seen: tuple[Seen, ...] = tuple(self._askings[key].seen) if key in self._askings else ()
        question, transport = key
        return Finding(
            question=question, transport=transport, words="interrupted", observations=seen, is_complete=False
        )

    @property
    def load(self) -> ProbeLoad:
        """What this means for the deployment."""
        asked = {key: question for key, question in self._plan.items() if key not in self._kept}
        return load(asked, len(self.deployment.transports), self.up_to_s)

    @property
    def most_s(self) -> float:
        """How long it takes at most."""
        return most_s(self.up_to_s)

    @property
    def done(self) -> tuple[int, int]:
        """How many questions are answered, of how many."""
        return sum(future.done() for future in self._results.values()), len(self._plan)

    def _disturbances(self) -> list[tuple[float, float]]:
        found = sorted(
            each for control in self._controls.values() if control.is_usable for each in control.disturbances
        )
        return [tuple(round((at_ns - self._began_ns) / 1e9, 3) for at_ns in each) for each in found]  # type: ignore[misc]

    def _best(self, question: ProbeQuestion, known: dict[str, Known]) -> Known:
        """Whom a question is asked that is asked once: the first that lets a stream pass, so that it has a control."""
        possible = [name for name in self.deployment.transports if name in question.transports]
        return known[next((name for name in possible if known[name].passes.ending == NO_CUT), possible[0])]

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncIterator[dict[str, Known]]:
        """What is known of each transport before anything is asked; its control runs meanwhile."""
        found: dict[str, Known] = {}
        async with asyncio.TaskGroup() as group:
            watching, transports = [], self.deployment.transports
            patience_s = min(2 * SMALL_ANSWER_S, limit_s(self.up_to_s) - self.up_to_s)
            looks = await asyncio.gather(*(_first_look(self.deployment, name, patience_s) for name in transports))
            for transport, (clock, passes) in zip(transports, looks, strict=True):
                self._controls[transport] = control = Control(self.deployment, transport, self.up_to_s)
                found[transport] = Known(transport, clock, passes, control)
                if passes.ending == NO_CUT:
                    watching.append(group.create_task(control.run()))
            yield found
            for task in watching:
                task.cancel()

    async def _ask(self, key: FindingKey, question: ProbeQuestion, known: Known) -> None:
        self._askings[key] = asking = Asking(
            question=question.id,
            deployment=self.deployment,
            transport=known.transport,
            up_to_s=self.up_to_s,
            until_s=self._until_s,
            clock=known.clock,
            passes=known.passes,
            control=known.control,
            began_ns=self._began_ns,
            lateness=self._lateness,
            lookup=self._lookup,
        )
        finding = msgspec.structs.replace(await self._answer(question, asking), transport=key[1])
        self._results[key].set_result(finding)
        self._on_finding(finding)

    async def _answer(self, question: ProbeQuestion, asking: Asking) -> Finding:
        """A question's finding, in time; what goes wrong with it is one, too."""
        try:
            async with asyncio.timeout(self._until_s + LAST_ANSWERS_S - monotonic()):
                return await question.ask(asking)
        except TimeoutError:
            words = "no time was left for it; a longer --up-to gives more"
        except Exception as error:
            _log.exception("a question failed")
            words = f"a fault of the probe's own: {type(error).__name__}: {error}"
        return msgspec.structs.replace(asking.finding(words), is_complete=False)

    async def _lookup(self, question: str, transport: str) -> Finding | None:
        """The finding of a question about a transport, once it is there; None if it is not asked."""
        future = self._results.get((question, transport)) or self._results.get((question, ""))
        return None if future is None else await asyncio.shield(future)


def plan(deployment: Deployment, chosen: Iterable[ProbeQuestion]) -> dict[FindingKey, ProbeQuestion]:
    """Which question is asked of which transport ("": of the whole deployment), in order."""
    found: dict[FindingKey, ProbeQuestion] = {}
    for question in chosen:
        for transport in question.asked_of(deployment.transports):
            found[question.id, "" if question.once else transport] = question
    return found


def limit_s(up_to_s: float) -> float:
    """How long something new is begun."""
    return max(OVERALL * up_to_s, up_to_s + LEAST_S)


def most_s(up_to_s: float) -> float:
    """How long a whole probe takes at most, whatever the servers do."""
    return limit_s(up_to_s) + LAST_ANSWERS_S


@dataclass(frozen=True)
class ProbeLoad:
    """What a probe means for a deployment, at most: connections open at once, requests in all, how long."""

    connections: int
    requests: int
    least_s: float
    most_s: float


def load(asked: Mapping[FindingKey, ProbeQuestion], transports: int, up_to_s: float) -> ProbeLoad:
    """What asking all this means."""
    connections = min(sum(question.connections for question in asked.values()), MAX_CONNECTIONS) + transports
    longest_s = most_s(up_to_s)
    requests = sum(q.requests(up_to_s) if q.requests else 2 * q.connections for q in asked.values())
    requests += transports * round(CYCLES * 2 * longest_s / up_to_s)
    least_s = max((question.expected_s(up_to_s) for question in asked.values()), default=0.0)
    return ProbeLoad(connections, requests, min(least_s, longest_s), longest_s)


async def _first_look(deployment: Deployment, transport: str, patience_s: float) -> tuple[Clock, Heard]:
    """The clock, and what comes of a first short stream, as far as both are there in time."""
    clock, passes = Clock(), Heard(ending="timeout", detail=f"no short stream came whole within {patience_s:g} s")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            clock = await look(deployment, transport, patience_s / 2)
            async with Channel(deployment, transport) as channel:
                passes = await channel.talk(_SHORT)
    return clock, passes
