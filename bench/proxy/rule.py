"""The parameters of a behaviour: a checked, immutable record, one class a behaviour (pure).

A parameter's name carries its unit (`_s`, `_ms`, `_bytes`, `_kbit`); what ends in `_s` or `_ms` is a time, and a
time scale divides it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, Self, cast

import msgspec

from bench.proxy.stage import Context, CutAction, Direction, LateData, Stage
from servers.checks import shown

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e9)]  # more would be beyond what timers take
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
ErrorStatus = Annotated[int, msgspec.Meta(ge=400, le=599)]

Condition = Literal["methods", "content_types"]
PER_REQUEST: tuple[Condition, ...] = ("methods",)
PER_RESPONSE: tuple[Condition, ...] = ("methods", "content_types")

Draw = Callable[[], random.Random]
"""Makes a stage's own seeded randomness; most need none, and a generator takes 2.5 KB of each connection."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of one behaviour. Subclasses add theirs and say how they work on a connection.

    source: keys of the sources of the numbers (docs/proxy.md lists them)
    unsure: names of the parameters that are undocumented, secondary or conflicting in the sources
    unscaled: names of the times that a time scale leaves alone, because the real one's are fixed
    methods: only requests with one of these methods, and their responses; empty: all
    content_types: only responses of one of these types (without parameters: "text/event-stream"); empty: all
    """

    name: ClassVar[str]
    holds: ClassVar[bool] = False
    """What passes it may go on later, or in other pieces, than it came."""
    is_last: ClassVar[bool] = False
    """It takes the last place, at the server's side."""
    looks_into_bodies: ClassVar[bool] = False
    """It follows a response's body, so it has to see it as it comes from the server."""

    source: str = ""
    unsure: tuple[str, ...] = ()
    unscaled: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()

    def stage(self, chain: Context, draw: Draw) -> Stage:
        """The behaviour at work on one connection; `draw` makes that stage its own randomness."""
        raise NotImplementedError

    def deed(self) -> str:
        """What it does, in words, with its numbers and units."""
        raise NotImplementedError

    def words(self) -> str:
        """The rule in words: what it does, and to what."""
        only = " and ".join(", ".join(names) for names in (self.methods, self.content_types) if names)
        return f"{self.deed()}; only {only}" if only else self.deed()

    def conditions(self) -> tuple[Condition, ...]:
        """By what it can be limited: by what it can tell before it does something."""
        return ()

    def check(self) -> None:
        """Raise ValueError where single parameters are fine but together make no sense."""

    def scaled(self, time_scale: float) -> Self:
        """The same rule with every time divided by `time_scale` (but those named in `unscaled`)."""
        times = {
            field: value / time_scale
            for field in self.__struct_fields__
            if field.endswith(("_s", "_ms"))
            and field not in self.unscaled
            and (value := getattr(self, field)) is not None
        }
        return msgspec.structs.replace(self, **times)


def check_conditions(rule: Rule) -> None:
    """Raise ValueError where a rule is limited by what it cannot be limited by, or by what there never is."""
    for condition, (pattern, takes) in _CONDITIONS.items():
        names: tuple[str, ...] = getattr(rule, condition)
        if names and condition not in rule.conditions():
            raise ValueError(f"{condition} means nothing to it, as it is set here")
        for name in names:
            if not pattern.fullmatch(name):
                raise ValueError(f"{condition} takes {takes}, not {shown(name)}")


_CONDITIONS: dict[Condition, tuple[re.Pattern[str], str]] = {
    "methods": (re.compile("[A-Z][A-Z-]{0,31}"), 'names in capitals ("GET")'),
    "content_types": (
        re.compile("[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}"),
        'types in lower case, without parameters ("text/event-stream")',
    ),
}


def check_order(rules: Sequence[Rule]) -> None:
    """Raise ValueError where a behaviour looks into what one on its server's side may hold, or has to be last."""
    for n, rule in enumerate(rules):
        if rule.is_last and rule is not rules[-1]:
            raise ValueError(f"{rule.name} takes the last place, at the server's side")
        holder = next((behind for behind in rules[n + 1 :] if behind.holds), None)
        if rule.looks_into_bodies and holder:
            raise ValueError(f"{rule.name} takes its place behind {holder.name}, which holds what it looks into")


def reads_http(rules: Sequence[Rule]) -> bool:
    """Whether any of these behaviours follows HTTP, which TLS would hide from it."""
    nowhere = cast(Context, None)  # a stage is only made, and never at work
    return any(rule.stage(nowhere, random.Random).http for rule in rules)


def labels(rules: Sequence[Rule]) -> list[str]:
    """What to call each behaviour of a profile: its name, with its number among those of that name if it has brothers.

    >>> labels([])
    []
    """
    total, seen, found = Counter(rule.name for rule in rules), Counter[str](), []
    for rule in rules:
        seen[rule.name] += 1
        found.append(rule.name if total[rule.name] == 1 else f"{rule.name} {seen[rule.name]}")
    return found


def seconds(value: float) -> str:
    """A time for people.

    >>> seconds(60), seconds(3600), seconds(7440), seconds(0.05)
    ('60 s', '1 h', '2 h 4 min', '50 ms')
    """
    if value < 1:
        return f"{value * 1000:g} ms"
    if value < 1000 or value % 60:
        return f"{value:g} s"
    hours, minutes = divmod(round(value / 60), 60)
    return " ".join(part for part in (f"{hours} h" * bool(hours), f"{minutes} min" * bool(minutes)) if part)


ACTION_WORDS = {"fin": "closes (FIN)", "rst": "resets (RST)", "black_hole": "falls silent"}


def ending(action: CutAction, status: int | None, late_data: LateData) -> str:
    """An action in words: `closes (FIN), or answers 504 if no response has begun`."""
    text = ACTION_WORDS[action]
    if action == "black_hole" and late_data == "rst":
        text += ", RST to who sends later"
    return text if status is None else f"{text}, or answers {status} if no response has begun"


def direction_words(direction: Direction) -> str:
    """`both ways`, `towards the client` or `towards the server`."""
    return {"both": "both ways", "down": "towards the client", "up": "towards the server"}[direction]
