"""What a probe finds, and the file it keeps it in (pure): the same JSON for --json and --resume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from servers.given_file import read_given
from servers.messages import NOT_JSON
from servers.user_errors import InputError, reason

SCHEMA = 1
MAX_FILE_BYTES = 64 << 20

Value = float | int | str | bool | None

NO_CUT = "none"
"""An ending that is no cut: all that was asked for came."""
BLACK_HOLE = "black_hole"
"""An ending that nobody tells: nothing comes any more, and the connection looks open."""
OF_ANSWERS = frozenset(
    {"first_byte", "idle", "duration", "buffering", "buffering_get", "late_head", "compression", "held_at_cut"}
)
"""The questions that see something only where answers pass; /healthz and /stats are enough for the others."""


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One raw observation.

    at_s: when its request was sent, from the start of the probe
    tried: what, in words (`silence of 60 s`)
    took_s: what the question measures, None where nothing happened
    ending: how it ended: `none`, `fin`, `rst`, `black_hole`, `status 504`, `close 1001`, or another word of
        clients.core.errors
    void: why it does not count (the control connection was disturbed too)
    facts: whatever else was seen, for programs
    """

    at_s: float
    tried: str
    took_s: float | None = None
    ending: str = NO_CUT
    void: str = ""
    facts: dict[str, Any] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to one question.

    question, transport: which; no transport where it is asked once for the whole deployment
    value: what was found, None where nothing was (`words` then says what was tried)
    unit: of a number: `s`, `bytes`, …
    low, high: a number's interval: the true one is not outside of it
    seen: how often it was seen
    ending: how a cut looks to the client: `fin`, `rst`, `black_hole`, `status N`, `close N`, `none`
    words: the finding in plain English, numbers with units
    facts: what programs want to know beside it (which direction resets a timer, from where it counts)
    is_complete: false where it was interrupted: --resume asks it again
    """

    question: str
    transport: str = ""
    value: Value = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    seen: int = 0
    ending: str = NO_CUT
    words: str = ""
    facts: dict[str, Any] = {}
    observations: tuple[Seen, ...] = ()
    is_complete: bool = True


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole probe.

    urls: transport → URL, as it was asked
    up_to_s: the longest silence that was tried
    started: UTC, ISO 8601
    disturbances: when the control connections were disturbed, as (from, to) in seconds from the start
    """

    schema: Annotated[int, msgspec.Meta(ge=SCHEMA, le=SCHEMA)] = SCHEMA
    urls: dict[str, str]
    up_to_s: float
    started: str
    interrupted: bool = False
    disturbances: tuple[tuple[float, float], ...] = ()
    findings: tuple[Finding, ...] = ()

    def get(self, question: str, transport: str = "") -> Finding | None:
        """The finding of a question, None if it was not asked."""
        return next((each for each in self.findings if (each.question, each.transport) == (question, transport)), None)

    @property
    def passing(self) -> frozenset[str]:
        """The transports of which an answer was seen to pass, if only up to a limit."""
        return frozenset(each.transport for each in self.findings if _shows_an_answer(each))

    @property
    def is_good(self) -> bool:
        """Whether every question came to its end, and the answers of at least one transport pass."""
        return all(each.is_complete for each in self.findings) and bool(self.passing)

    def encode(self) -> bytes:
        """As JSON, indented, with a line end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Findings:
        """Raises InputError."""
        try:
            return msgspec.json.decode(data, type=cls)
        except NOT_JSON as error:
            raise InputError(f"takes a file that `tokenderby probe --json` wrote: {error}") from None


def _shows_an_answer(finding: Finding) -> bool:
    if finding.question == "upgrade":
        return finding.value == "passed"
    return finding.question in OF_ANSWERS and finding.seen > 0


def read_findings(path: Path) -> Findings:
    """The findings in a file. Raises InputError."""
    try:
        data = read_given(path, MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(f"--resume {path}: {reason(error)}") from None
    try:
        return Findings.decode(data)
    except InputError as error:
        raise InputError(f"--resume {path}: {error}") from None
