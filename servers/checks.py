"""Checks of what people give, with one wording: "KEY: takes a number from A to B, not X" (pure).

What is repeated of a wrong value is cut before it is looked at: a request may be of a million characters.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from reprlib import Repr
from urllib.parse import SplitResult, urlsplit

from servers.user_errors import InputError

_MOST_SHOWN = 80  # characters of a wrong value that an error repeats
_MOST_DIGITS = 4_000  # Python writes no integer of more than 4,300, and what it says instead differs by version

_HOST = re.compile(rb"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+(%[0-9A-Za-z._-]+)?")


class _Repr(Repr):
    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if abs(x) < 10**_MOST_DIGITS else f"a number of over {_MOST_DIGITS:,} digits"


_repr = _Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _MOST_SHOWN
_repr.fillvalue = "…"


def shown(value: object) -> str:
    """A wrong value as an error repeats it: one line, cut short; never an error itself."""
    text = _repr.repr(value)
    return text if len(text) <= 2 * _MOST_SHOWN else f"{text[: 2 * _MOST_SHOWN]}…"


def suggestion(word: object, choices: Collection[str]) -> str:
    """What may stand in the place of a `word` that is none of `choices`, the nearest first: the end of a sentence."""
    near = nearest_word(str(word), choices)
    takes = f"takes: {', '.join(choices)}"
    return f"did you mean {near!r}? It {takes}" if near else takes


def nearest_word(word: str, choices: Collection[str]) -> str | None:
    """The choice that `word` begins, as `rate` does `rate_per_s`, or that has nearly its letters, in whatever case."""
    word, by_small = word[:_MOST_SHOWN].lower(), {choice.lower(): choice for choice in choices}
    begun = [choice for choice in by_small if len(word) > 2 and choice.startswith(word)]
    near = get_close_matches(word, begun or by_small, n=1, cutoff=0.0 if begun else 0.6)
    return by_small[near[0]] if near else None


def check_number(
    key: str,
    value: object,
    least: float,
    most: float,
    error: type[InputError] = InputError,
    *,
    what: str = "a number",
    whole: bool = False,
    text: bool = False,
) -> float:
    """`value` if it is a number (`text`: or the text of one) from `least` to `most`. Raises `error`."""
    found = _number_in(value, whole=whole) if text and isinstance(value, str) else value
    if isinstance(found, int if whole else (int, float)) and not isinstance(found, bool) and least <= found <= most:
        return found
    what = "a whole number" if whole else what
    raise error(f"{key}: takes {what} from {limit_text(least)} to {limit_text(most)}, not {shown(value)}")


def _number_in(text: str, *, whole: bool) -> float | None:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None


def limit_text(number: float) -> str:
    """A limit as errors write it: 1000000000, not 1e+09."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def choice(key: str, value: object, choices: Collection[str], error: type[InputError] = InputError) -> str:
    """`value` if it is one of `choices`. Raises `error`."""
    if not isinstance(value, str) or value not in choices:
        raise error(f"{key}: takes one of {', '.join(choices)}, not {shown(value)}")
    return value


def is_host(name: str) -> bool:
    """Whether this is a host's name or address at all; that a resolver finds it is another matter, and may change."""
    try:
        return bool(_HOST.fullmatch(name.encode("idna")))
    except UnicodeError:  # a label that is empty or too long
        return False


def http_address(url: str) -> SplitResult | None:
    """`url` taken apart, if it is the address of an HTTP server."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and parts.port != 0 and is_host(parts.hostname or "")
    except ValueError:  # a port that is no number, a bracket without its twin
        return None
    return parts if is_one else None
