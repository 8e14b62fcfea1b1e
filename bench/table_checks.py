"""Tables that people write, read into structs, with errors that name the key and say what it takes (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec

from servers.checks import shown, suggestion
from servers.struct_words import explained
from servers.user_errors import InputError

S = TypeVar("S", bound=msgspec.Struct)

_PLACE = re.compile(r"(?:plan|\[[^:]*\](?: \d+)?) (?P<key>\w+): (?P<rest>.*)", re.DOTALL)  # "[[cells]] 1 profile: …"


class PlanError(InputError):
    """The arguments or the plan are wrong; the message is one line that names the key and what it takes."""


def unknown(what: str, word: object, choices: Collection[str]) -> PlanError:
    """The error for a `word` that is none of `choices`, with the nearest one suggested."""
    return PlanError(f"{what}: unknown {shown(word)}; {suggestion(word, choices)}")


def as_option(error: PlanError, options: Mapping[str, str], otherwise: str = "") -> PlanError:
    """`error` as somebody reads it who typed `options` (by the plan's keys that they change) and no plan.

    otherwise: what stands before an error of another key, which the options have brought about together
    """
    match = _PLACE.match(str(error))
    if match and match["key"] in options:
        return PlanError(f"{options[match['key']]}: {match['rest']}")
    return PlanError(f"{otherwise}: {error}" if otherwise else str(error))


def check_keys(
    table: Mapping[str, object], where: str, keys: Collection[str], error: type[InputError] = PlanError
) -> None:
    """Raise `error` for the first key of `table` that is not one of `keys`."""
    for key in table:
        if key not in keys:
            raise error(f"{where}: no key {shown(key)} here; {suggestion(key, keys)}")


def to_struct(table: object, kind: type[S], where: str, error: type[InputError] = PlanError) -> S:
    """`table` as a `kind`. Raises `error` for an unknown key, a wrong type or a value out of range."""
    if not isinstance(table, Mapping):
        raise error(f"{where}: takes a table, not {shown(table)}")
    check_keys(table, where, kind.__struct_fields__, error)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as invalid:
        raise error(f"{where} {explained(invalid, table, kind)}") from None
