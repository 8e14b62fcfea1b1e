"""What is wrong with a value that is no struct, in words for who gave it: which key, what it takes, what it was (pure).

msgspec says "Expected `int` >= 1 - at `$.streams`", which are its own words for its own types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import inspect

from servers.checks import limit_text, shown

_KEY = re.compile(r" - at (`key` in )?`\$\.(\w+)")
_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"contains unknown field `(.*)`", re.DOTALL)
_ITEMS = {inspect.StrType: "texts", inspect.IntType: "numbers", inspect.FloatType: "numbers"}


def explained(error: msgspec.ValidationError, value: object, kind: type[msgspec.Struct]) -> str:
    """Why `value` is no `kind`, as `error` has it: "KEY: takes WHAT, not WHAT IT WAS"."""
    text = str(error)
    if not isinstance(value, Mapping):
        return f"takes an object, not {shown(value)}"
    if missing := _MISSING.search(text):
        return f"{missing[1]}: is missing"
    if unknown := _UNKNOWN.search(text):
        return f"no key {shown(unknown[1])} here"
    match = _KEY.search(text)
    return _of_field(match[2], value, kind, is_name=bool(match[1])) if match else text


def _of_field(key: str, value: Mapping[str, object], kind: type[msgspec.Struct], *, is_name: bool) -> str:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    expected = next(field.type for field in info.fields if field.encode_name == key)
    if is_name and isinstance(expected, inspect.DictType):
        return f"{key}: takes tables whose name is of {takes(expected.key_type)}"
    return f"{key}: takes {takes(expected)}, not {shown(value[key])}"


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
    return _list(kind) if isinstance(kind, inspect.ListType | inspect.VarTupleType) else "a table"


def _list(kind: inspect.ListType | inspect.VarTupleType) -> str:
    items = _ITEMS.get(type(kind.item_type))
    return f"a list of {items}" if items else "a list"


def _limits(kind: inspect.IntType | inspect.FloatType) -> str:
    words = (("from", kind.ge), ("above", kind.gt), ("to", kind.le), ("below", kind.lt))
    return "".join(f" {word} {limit_text(limit)}" for word, limit in words if limit is not None)
