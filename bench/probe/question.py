"""What a question is, and all there are. A new one is a file in bench/probe/questions/."""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from bench.probe.finding import Finding

if TYPE_CHECKING:
    from bench.probe.asking import Asking

Group = Literal["time", "shape"]


@dataclass(frozen=True)
class ProbeQuestion:
    """Something to find out. A module in bench/probe/questions/ names its own `QUESTIONS`, a tuple of these.

    id: a word for files and programs (`idle`, `first_byte`)
    title: what is asked, for people
    transports: those that it is asked of, each by itself; a name that a deployment does not have is passed over
    connections: how many it opens at most at once, for each transport
    expected_s: how long it takes, from the longest silence that is worth trying (`--up-to`)
    ask: finds it out; it raises nothing for what servers and networks do
    needs: ids of the questions whose findings it waits for (`asking.known`)
    requests: how many it sends about, from the longest silence, if that is not twice its connections
    once: asked of the first transport alone that the deployment has
    """

    id: str
    title: str
    group: Group
    transports: tuple[str, ...]
    connections: int
    expected_s: Callable[[float], float]
    ask: Callable[[Asking], Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    requests: Callable[[float], int] | None = None
    once: bool = False

    def asked_of(self, transports: tuple[str, ...]) -> tuple[str, ...]:
        """Of which of a deployment's transports it is asked."""
        possible = tuple(name for name in transports if name in self.transports)
        return possible[:1] if self.once else possible


@cache
def all_questions() -> dict[str, ProbeQuestion]:
    """All questions by id, those that others need before them. Raises ValueError where ids clash or a need is none."""
    package = import_module("bench.probe.questions")
    found: dict[str, ProbeQuestion] = {}
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name):
        for question in getattr(import_module(f"{package.__name__}.{module.name}"), "QUESTIONS", ()):
            if question.id in found:
                raise ValueError(f"two questions are called {question.id}")
            found[question.id] = question
    return _ordered(found)


def _ordered(found: dict[str, ProbeQuestion]) -> dict[str, ProbeQuestion]:
    ordered: dict[str, ProbeQuestion] = {}
    while len(ordered) < len(found):
        ready = [q for q in found.values() if q.id not in ordered and all(need in ordered for need in q.needs)]
        if not ready:
            raise ValueError("questions need each other in a circle, or need one that does not exist")
        ordered |= {question.id: question for question in ready}
    return ordered
