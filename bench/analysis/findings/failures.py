"""What failed and why: causes with their counts, an example of each, and what may help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from bench.analysis.findings.races import COMPLETE_ENOUGH
from bench.analysis.measures.groups import Key, MeasuredCell, Measurements, transport_title
from bench.analysis.statistics.wording import count, counted, listed
from clients.core.record import Outcome

_DIRECT = "direct"
MAX_CAUSES = 3  # in a sentence; the table has all
_GATEWAY = frozenset({"status 502", "status 503", "status 504"})
_NO_UPGRADE = frozenset({"status 400", "status 403", "status 426", "status 501"})
_OF_OUTCOME = {
    Outcome.TIMEOUT: "The message took longer than the plan's `timeout_s`.",
    Outcome.PROTOCOL_ERROR: "What answers does not speak the wire format; see docs/wire-format.md.",
    Outcome.ALTERED: "The text is not the seeded one that docs/wire-format.md describes.",
    Outcome.CLIENT_ERROR: "This is a fault of the load process itself.",
}
_OF_WORD = {
    "refused": "Nothing listens at this address.",
    "tls": "No secure connection came about; nothing was asked.",
    "status 401": "The server wants another token; see --target-token.",
    "status 403": "The server refuses this client; see --target-token.",
    "status 404": "The server has no such path, or no longer knows the stream.",
    "status 405": "The server has this path, but for another HTTP method.",
    "status 429": "The server limits how often it is asked.",
    "silence": "The clients' own limit for silence, `silence_s`, ended these messages.",
    "token silence": "The clients' own limit for a silence of tokens, `token_silence_s`, ended these messages.",
}
_AGAIN = "measure again while nothing else computes on the machine (`tokenderby doctor` says whether it is fit)"
_GO_ON = "`tokenderby run --resume` goes on with it"
SILENCES = ("silence", "token silence")  # words for a client that has lost patience


class Cause(NamedTuple):
    """A way in which messages of a cell failed, in the word that tables use (`status 426`), and one of them."""

    word: str
    outcome: str
    messages: int
    example: str

    @property
    def counted(self) -> str:
        """For a sentence: "status 426 (80 messages)"."""
        return f"{self.word} ({counted(self.messages, 'message')})"


@dataclass(frozen=True)
class CellFailures:
    """What failed of one cell, the commonest cause first; `tokens` is how many came all the same."""

    key: Key
    messages: int
    failed: int
    tokens: int
    causes: tuple[Cause, ...]

    @property
    def altogether(self) -> bool:
        """Whether no message arrived whole."""
        return self.failed == self.messages

    @property
    def never_began(self) -> bool:
        """Whether not a single token came."""
        return self.altogether and self.tokens == 0

    @property
    def is_fault(self) -> bool:
        """Whether nothing got through though nothing stood in between, and not because the clients were impatient."""
        return self.altogether and self.key.profile == _DIRECT and self.causes[0].word not in SILENCES

    @property
    def hint(self) -> str:
        """What the commonest cause means, as far as it can be told; may be empty."""
        return _hint(self.key, self.causes[0])


@dataclass(frozen=True)
class TotalFailure:
    """Cells of one transport that failed altogether for the same reason, put together."""

    cells: tuple[CellFailures, ...]

    @property
    def sentence(self) -> str:
        """Who, how many, the causes with their counts, an example, a hint."""
        causes = listed([cause.counted for cause in self._causes[:MAX_CAUSES]])
        example, hint = self.cells[0].causes[0].example, self.cells[0].hint
        sent = counted(sum(each.messages for each in self.cells), "message")
        said = f"{self._who}: not one of {sent} arrived whole. Cause: {causes}, for example “{example}”."
        return f"{said} {hint}".strip()

    @property
    def _who(self) -> str:
        if len(self.cells) == 1:
            return self.cells[0].key.title
        profiles = dict.fromkeys(each.key.profile for each in self.cells)
        behind = listed([profile for profile in profiles if profile != _DIRECT])
        return transport_title(self.cells[0].key.transport) + (f" behind {behind}" if behind else "")

    @property
    def _causes(self) -> list[Cause]:
        sums: dict[str, Cause] = {}
        for cause in (cause for each in self.cells for cause in each.causes):
            so_far = sums.get(cause.word, cause._replace(messages=0))
            sums[cause.word] = so_far._replace(messages=so_far.messages + cause.messages)
        return sorted(sums.values(), key=lambda cause: -cause.messages)


def failures(cells: Iterable[MeasuredCell]) -> list[CellFailures]:
    """The cells with messages that did not arrive whole."""
    return [_failures(cell) for cell in cells if len(cell.messages) and not cell.messages["completed"].all()]


def total_failures(measured: Measurements) -> list[TotalFailure]:
    """What a report must say before anything else: transports that failed altogether, each cause once.

    A run whose cells ran side by side is about what survives: there answers that were cut are findings like others,
    which its map shows, and only those that never began are told here.
    """
    alone = measured.cells_at_once == 1
    together: dict[tuple[str, str, bool], list[CellFailures]] = {}
    for each in failures(measured.cells):
        if each.never_began or (alone and each.altogether) or each.is_fault:
            alike = each.key.transport, each.causes[0].word, each.key.profile == _DIRECT
            together.setdefault(alike, []).append(each)
    return [TotalFailure(tuple(cells)) for cells in together.values()]


def fault_lines(measured: Measurements) -> dict[Key, str]:
    """The cells that got nothing through, though nothing stood in between, each with a line that says so."""
    found = [each for each in failures(measured.cells) if each.is_fault]
    return {each.key: f"nothing got through: {TotalFailure((each,)).sentence}" for each in found}


def nothing_measured(measured: Measurements) -> str:
    """Why a run has not one valid cell, and what helps, in one line; empty where it has one.

    Such a run must not look like success.
    """
    if any(cell.blocks for cell in measured.cells):
        return ""
    cells = measured.run.cells
    fates = Counter("not run" if cell.status == "pending" else cell.status for cell in cells)
    became = listed([f"{count(many)} {fate}" for fate, many in fates.items()])
    why = next((f"; block {cell.block}, {cell.cell}: {cell.reasons[0]}" for cell in cells if cell.reasons), "")
    helps = _AGAIN if fates["void"] else _GO_ON
    return f"nothing was measured: no cell is valid ({became}){why}; {helps}" if cells else "nothing was measured"


def is_complete(cell: MeasuredCell) -> bool:
    """Whether so many messages arrived whole that it is known what they cost: what is lost costs nothing."""
    return len(cell.messages) > 0 and bool(cell.messages["completed"].mean() >= COMPLETE_ENOUGH)


def _failures(cell: MeasuredCell) -> CellFailures:
    failed = cell.messages[~cell.messages["completed"]]
    received = int(cell.messages["tokens_received"].sum())
    return CellFailures(cell.key, len(cell.messages), len(failed), received, _causes(failed))


def _causes(failed: pd.DataFrame) -> tuple[Cause, ...]:
    details = failed["detail"].astype(str)
    words = details.str.partition(":")[0].where(details != "", failed["outcome"])
    found = [
        Cause(str(word), str(part["outcome"].iloc[0]), len(part), str(part["detail"].iloc[0]) or str(word))
        for word, part in failed.groupby(words)
    ]
    return tuple(sorted(found, key=lambda cause: (-cause.messages, cause.word)))


def _hint(key: Key, cause: Cause) -> str:
    upgrades = key.transport == "websocket" and cause.word in _NO_UPGRADE
    if upgrades and key.profile != _DIRECT:
        return "The intermediary does not pass the WebSocket upgrade; see docs/proxy.md."
    if upgrades and cause.word == "status 426":
        return (
            "Something before the server does not pass the WebSocket upgrade, as nginx by default; see docs/proxy.md."
        )
    if cause.word in _GATEWAY:
        who = "The server" if key.profile == _DIRECT else "The intermediary"
        return f"{who} gave the request up or was too busy."
    return _OF_WORD.get(cause.word) or _OF_OUTCOME.get(Outcome(cause.outcome), "") if cause.outcome in _OUTCOMES else ""


_OUTCOMES = frozenset(Outcome)


def incomplete_names(cells: Iterable[MeasuredCell]) -> list[str]:
    """The titles of the cells that are in no chart of cost, with what came of them."""
    return [
        f"{cell.key.title} ({int(cell.messages['completed'].sum())} of {len(cell.messages)} messages)"
        for cell in cells
        if not is_complete(cell)
    ]
