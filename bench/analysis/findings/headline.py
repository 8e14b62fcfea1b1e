"""The sentence that answers a plan's question for a reader in a hurry: which transport?

Readers feel how soon the first token comes, and whether the text flows; what it costs only tells those apart that are
as good there. All of it follows from the scoreboard of the first group: "take" are those that are best, as good as the
best, or surely behind it by less than anybody feels (UNFELT_MS, at the far end of the interval, be the ratio judged or
not), at all that is felt; who is said to be late or to cost more is claimed to be. Where whom it names does worse in
another group, that is said too; and where one that is not judged has the better number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.analysis.findings.failures import nothing_measured
from bench.analysis.findings.races import COMPLETE_ENOUGH, place_of
from bench.analysis.findings.scoreboard import Answer, Square, group_answers, standing_of
from bench.analysis.findings.topics import COMPLETED, FELT, SPENT
from bench.analysis.measures.groups import Key, Measurements
from bench.analysis.statistics.wording import as_read, counted, in_sentence, listed, number

UNFELT_MS = (1, 2, 5, 10)
"""Nobody feels a difference below the last, as a screen shows a picture every 16 ms; the least is named. A choice."""
MOST_NAMED = 4  # of each kind, in one sentence
_LEAST = {"requests": ("fewest requests", "many"), "traffic": ("least traffic", "much"), "cpu": ("least CPU", "much")}


def headline(measured: Measurements) -> str:
    """Which transport, of the plain group: one or two sentences; or that nothing was measured, and why."""
    if nothing := nothing_measured(measured):
        return f"{nothing[0].upper()}{nothing[1:]}."
    if not (found := group_answers(measured)):
        return "Nothing to compare: no two cells that race against each other have valid blocks in common."
    rows = [answer for answer in found if answer.topic.on_board and answer.question.group == found[0].question.group]
    felt = [row for row in rows if row.topic.id in FELT and row.question.squares[0].standing == "best"]
    good = _good(rows, felt)
    alone = [row for row in felt if all(_is_open(square, row) for square in row.question.squares[1:])]
    if alone and len(alone) == len(felt):
        said = [_only(felt, rows)]
    else:
        said = [_take(good, felt, rows), _cost(good, rows)] if good else [_leaders(rows)]
        said.append(_not_so(good, measured, found))
    where = f"{rows[0].question.group}: " if rows and rows[0].question.group else ""
    return where + " ".join(filter(None, said))


def _good(rows: Sequence[Answer], felt: Sequence[Answer]) -> list[Key]:
    """Who is as good as anybody, or nearly, at all that is felt, and loses no more messages than others."""
    if not felt:
        return []
    losing = {square.key for row in rows if row.question.column == COMPLETED for square in _behind(row)}
    keys = [square.key for square in felt[0].question.squares]
    return [key for key in keys if key not in losing and all(_is_near(_square(row, key), row) for row in felt)]


def _is_near(square: Square, row: Answer) -> bool:
    return square.standing in ("best", "level") or _within_ms(square, row) < math.inf


def _is_open(square: Square, row: Answer) -> bool:
    """Whether it might be as good as the best, or late, for all that is known."""
    return square.standing == "not judged" and not _is_near(square, row)


def _within_ms(square: Square, row: Answer) -> float:
    """The least of UNFELT_MS that the square is surely no more than behind the best; infinite if none."""
    if square.standing == "best":
        return UNFELT_MS[0]
    beyond_ms = _ms(row.question.squares[0], row) * (square.ratio.hi - 1) if square.ratio else math.nan
    return next((ms for ms in UNFELT_MS if beyond_ms <= ms), math.inf)


def _only(felt: Sequence[Answer], rows: Sequence[Answer]) -> str:
    """Where there is nobody to compare with, nobody is to be taken."""
    who = f"Only {felt[0].question.squares[0].key.own_title} can be judged at {listed([_lower(row) for row in felt])}"
    return f"{'; '.join([who, *_lossy(rows), *_not_judged(felt, rows)])}."


def _take(good: Sequence[Key], felt: Sequence[Answer], rows: Sequence[Answer]) -> str:
    """Whom to take and why, and how far behind others are: "Take WebSocket or SSE: …"."""
    topics = listed([_lower(row) for row in felt])
    others = [*_late(felt), *_lossy(rows), *_maybe_lossy(good, rows), *_not_judged(felt, rows)]
    take = f"{'Of those judged, take' if any(map(_is_beaten, felt)) else 'Take'} {_named(good, 'or')}"
    why = "it leads" if _leads_alone(good, felt) else _near(good, felt)
    return f"{'; '.join([f'{take}: {why} at {topics}', *others])}."


def _is_beaten(row: Answer) -> bool:
    """Whether one that is not judged has a better number than the best: "the best" is then the best of those judged."""
    best, *others = row.question.squares
    return any(square.standing == "not judged" and square.estimate.value < best.estimate.value for square in others)


def _leads_alone(good: Sequence[Key], felt: Sequence[Answer]) -> bool:
    """Whether a single one is best at all of it, before others that are all behind."""
    rows = [(row.question.squares, {square.standing for square in row.question.squares}) for row in felt]
    return all([squares[0].key] == good and all_ == {"best", "behind"} for squares, all_ in rows)


def _near(good: Sequence[Key], felt: Sequence[Answer]) -> str:
    """In what sense they are good: "they are within 1 ms of the best"."""
    who = "they are" if len(good) > 1 else "it is"
    squares = [(_square(row, key), row) for row in felt for key in good]
    bounds = [_within_ms(square, row) for square, row in squares]
    if max(bounds) < math.inf:
        return f"{who} within {max(bounds):g} ms of the best"
    judged = ("best", "level")
    nearly = [bound for bound, (square, _) in zip(bounds, squares, strict=True) if square.standing not in judged]
    return f"{who} as good as the best" + (f", or within {max(nearly):g} ms of it," if nearly else "")


def _late(felt: Sequence[Answer]) -> list[str]:
    """Who is behind at what is felt, each where it is so first: "Polling is late by 799 ms with the first token"."""
    told: set[Key] = set()
    said = []
    for row in felt:
        late = [square for square in _behind(row) if square.key not in told and not _is_near(square, row)]
        told |= {square.key for square in late}
        furthest_first = [_lateness(square, row, place) for place, square in enumerate(reversed(late))]
        said += [", ".join(_first(furthest_first, "other", "others"))] if late else []
    return said


def _lateness(square: Square, row: Answer, place: int) -> str:
    """How late one is; from the second on without the words that stand there already."""
    ms = f"{number(_ms(square, row))} ms"
    ratio = f"({number(square.ratio.value)} times" if square.ratio else "("
    if row.question.column in row.topic.as_waited:
        return f"{square.key.own_title} is behind at {_lower(row)}: {ms} {ratio} the best)"
    if place:
        return f"{square.key.own_title} by {ms} {ratio})"
    what = "the first token" if row.topic.id == "first_token" else "the text"
    return f"{square.key.own_title} is late by {ms} with {what} {ratio} the best)"


def _lossy(rows: Sequence[Answer]) -> list[str]:
    """Who lost more messages than others."""
    lost = [square for row in rows if row.question.column == COMPLETED for square in _behind(row)]
    told = [f"{_share(square.estimate.value)} of {square.key.own_title}'s messages arrived whole" for square in lost]
    return _first(told, "other lost messages", "others lost messages")


def _maybe_lossy(good: Sequence[Key], rows: Sequence[Answer]) -> list[str]:
    """Who of the good ones lost some messages, though no more than chance does."""
    squares = [square for row in rows if row.question.column == COMPLETED for square in row.question.squares]
    lost = [square for square in squares if square.key in good and square.standing == "level" and square.reason]
    return _first([f"{square.key.own_title} lost messages ({square.reason})" for square in lost], "other", "others")


def _share(share: float) -> str:
    """A share that is not all of them."""
    return f"{number(100 * share)} %" if share < 0.9995 else "nearly all"


def _not_judged(felt: Sequence[Answer], rows: Sequence[Answer]) -> list[str]:
    """Who might be as good for all that is known, and at what, if that is not all that is felt."""
    told = {square.key for row in rows if row.question.column == COMPLETED for square in _behind(row)}
    told |= {square.key for row in felt for square in _behind(row) if not _is_near(square, row)}
    topics: dict[Key, list[str]] = {}
    for row in felt:
        for square in (square for square in row.question.squares if _is_open(square, row) and square.key not in told):
            topics.setdefault(square.key, []).append(_lower(row))
    alike: dict[str, list[Key]] = {}
    for key, names in topics.items():
        alike.setdefault(f" at {listed(names)}" if len(names) < len(felt) else "", []).append(key)
    return [f"{_named(keys, 'and')} {'is' if len(keys) == 1 else 'are'} not judged{at}" for at, keys in alike.items()]


def _cost(good: Sequence[Key], rows: Sequence[Answer]) -> str:
    """What tells those apart that are good; of a single one, at what it costs more than others."""
    spent = [row for row in rows if row.topic.id in SPENT]
    if len(good) == 1:
        more = [_dearer(square, row) for row in spent for square in _behind(row) if square.key == good[0]]
        return f"It costs more than the cheapest in {listed(more)}." if more else ""
    told = [text for row in spent for text in _cheapest(good, row)]
    if told:
        return f"Cost tells them apart: {', '.join(told)}."
    return "This run shows no difference between them in cost." if spent else ""


def _dearer(square: Square, row: Answer) -> str:
    ratio = f"{number(square.ratio.value)} times " if square.ratio else "more than "
    return f"{_lower(row)} ({ratio}{row.question.squares[0].key.own_title}'s)"


def _cheapest(good: Sequence[Key], row: Answer) -> list[str]:
    """Which of them take least, and the one that takes most, if that difference is claimed."""
    order = [square for square in row.question.squares if square.key in good]
    claimed = {(pair.better, pair.worse): pair.finding.contrast.ratio for pair in row.pairs if pair.claimed}
    first = order[0].key
    dearer = [square.key for square in order if (first, square.key) in claimed]
    if not dearer:
        return []
    level = {pair.worse for pair in row.pairs if pair.better == first and standing_of(pair.finding) == "level"}
    ahead = [first, *(key for key in good if key in level and all((key, other) in claimed for other in dearer))]
    most = max(dearer, key=lambda key: claimed[first, key].value)
    least, measure = _LEAST[row.topic.id]
    ratio = f"{most.own_title} {number(claimed[first, most].value)} times as {measure}"
    return [f"{least} with {_named(ahead, 'and')} ({ratio})"]


def _leaders(rows: Sequence[Answer]) -> str:
    """Where nobody is good at all that is felt, or nothing is felt: who leads at what."""
    wins: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if _behind(row):
            leading = [square.key.own_title for square in row.question.squares if square.standing in ("best", "level")]
            wins.setdefault(tuple(sorted(leading)), []).append(_lower(row))
    most_first = sorted(wins.items(), key=lambda item: -len(item[1]))
    if lost := _nobody_complete(rows):
        return lost
    said = [f"{listed(names)} lead{'s' * (len(names) == 1)} at {listed(topics)}" for names, topics in most_first]
    if said:
        return f"{'; '.join(said)}."
    return f"This run tells no transport from another{_why(rows)}."


def _why(rows: Sequence[Answer]) -> str:
    """Why nothing is told apart, where one or two reasons are all that there are; else the scoreboard has them."""
    squares = [square for row in rows for square in row.question.squares]
    reasons = {pair.finding.reason for row in rows for pair in row.pairs if not pair.finding.contrast.is_tie}
    reasons = reasons or {square.reason.partition(" (")[0] for square in squares if square.reason}
    if not reasons and all(square.is_tie or square.standing == "best" for square in squares):
        return ": all that was compared is equal"
    return f": {listed(sorted(reasons), 'or')}" if 0 < len(reasons) <= 2 else ""


def _nobody_complete(rows: Sequence[Answer]) -> str:
    """That too much was lost everywhere to judge anything else; empty where it was not."""
    found = [square for row in rows if row.question.column == COMPLETED for square in row.question.squares]
    shares = [square.estimate.value for square in found if math.isfinite(square.estimate.value)]
    if not shares or max(shares) >= COMPLETE_ENOUGH:
        return ""
    most = f"of the best one's messages {_share(max(shares))}" if max(shares) else "not one message"
    return f"Too much was lost to judge speed or cost: {most} arrived whole, and {_share(COMPLETE_ENOUGH)} are needed."


def _not_so(good: Sequence[Key], measured: Measurements, found: Sequence[Answer]) -> str:
    """Where whom it names does worse than here: behind another intermediary, say, or under another load."""
    worse: dict[tuple[str, ...], list[str]] = {}
    names = {key.own_title for key in good}
    for cell in measured.cells if good else ():
        key, messages = cell.key, cell.valid_messages
        if key.own_title in names and key.group != good[0].group and not key.is_control and len(messages):
            whole = float(messages["completed"].mean())
            late = [_lateness(square, row, 0) for square, row in _felt_late(key, found)][:1]
            lost = [f"{_share(whole)} of {key.own_title}'s messages arrived whole"] if whole < COMPLETE_ENOUGH else []
            if said := lost or late:
                worse.setdefault(key.group, []).extend(said)
    places = [f"{place_of(group)} {', '.join(_first(said, 'other'))}" for group, said in worse.items()]
    return f"Not so everywhere: {'; '.join(_first(places, 'other place'))}." if places else ""


def _felt_late(key: Key, found: Sequence[Answer]) -> list[tuple[Square, Answer]]:
    """Where it is behind at what is felt, by more than nobody feels."""
    felt = [(square, row) for row in found if row.topic.id in FELT for square in _behind(row) if square.key == key]
    return [(square, row) for square, row in felt if not _is_near(square, row)]


def _ms(square: Square, row: Answer) -> float:
    """What is felt is read in ms."""
    return as_read(square.estimate, row.question.unit)[0].value


def _behind(row: Answer) -> list[Square]:
    return [square for square in row.question.squares if square.standing == "behind"]


def _square(row: Answer, key: Key) -> Square:
    return next(square for square in row.question.squares if square.key == key)


def _named(keys: Sequence[Key], last: str) -> str:
    return listed(_first([key.own_title for key in keys], "other"), last)


def _first(texts: Iterable[str], noun: str, plural: str = "") -> list[str]:
    """The first MOST_NAMED, and how many more there are."""
    every = list(texts)
    more = len(every) - MOST_NAMED
    return [*every[:MOST_NAMED], *([counted(more, noun, plural)] if more > 0 else [])]


def _lower(row: Answer) -> str:
    return in_sentence(row.topic.title)
