"""Tables that people write, read into structs, with errors that name the key and say what it takes (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec
from msgspec import inspect

from servers.checks import limit_text, shown, suggestion
from servers.user_errors import InputError

S = TypeVar("S", bound=msgspec.Struct)

# msgspec says "Expected `int` >= 1 - at `$.streams`"; what we want of it is the key.
_KEY = re.compile(r" - at `\$\.(\w+)")
_MISSING = re.compile(r"missing required field `(\w+)`")
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
        raise error(f"{where}{_explained(invalid, table, kind)}") from None


def _explained(error: Exception, table: Mapping[str, object], kind: type[S]) -> str:
    match = _KEY.search(str(error))
    if match is None:
        missing = _MISSING.search(str(error))
        return f" {missing[1]}: is missing" if missing else f": {error}"
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    field = next(field for field in info.fields if field.name == match[1])
    return f" {match[1]}: takes {takes(field.type)}, not {shown(table[match[1]])}"


def takes(kind: inspect.Type) -> str:
    """What a field of this type takes, in words."""
    described = ""
    if isinstance(kind, inspect.Metadata):  # around a type that has a description
        described, kind = str((kind.extra_json_schema or {}).get("description", "")), kind.type
    match kind:
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) or '""' for value in kind.values)
        case inspect.IntType() | inspect.FloatType():
            return ("a whole number" if isinstance(kind, inspect.IntType) else "a number") + _limits(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType():
            return described if kind.pattern and described else "a text"
        case inspect.UnionType():
            return " or ".join(takes(each) for each in kind.types if not isinstance(each, inspect.NoneType))
    return "a list" if isinstance(kind, inspect.ListType | inspect.VarTupleType) else "a table"


def _limits(kind: inspect.IntType | inspect.FloatType) -> str:
    words = (("from", kind.ge), ("above", kind.gt), ("to", kind.le), ("below", kind.lt))
    return "".join(f" {word} {limit_text(limit)}" for word, limit in words if limit is not None)
