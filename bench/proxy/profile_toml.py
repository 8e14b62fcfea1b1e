"""A profile as the TOML that `bench.proxy.profile` reads, and `tokenderby proxy --profile` replays (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from bench.proxy.profile import Profile
from bench.proxy.rule import Rule

Comments = Mapping[int, Mapping[str, str]]
"""What to write behind a value: rule's index -> parameter -> text; behind "type" stands what is said of the rule."""


def profile_toml(profile: Profile, comments: Comments | None = None) -> str:
    """The file's text: of each rule only what differs from the defaults. Read back, it is the same profile.

    comments: what is to stand behind a value, as "seen 3 times, 59.9 to 60.1 s"
    """
    return "\n".join(_lines(profile, comments or {}))


def _lines(profile: Profile, comments: Comments) -> Iterator[str]:
    for key in ("title", "notes"):
        if text := getattr(profile, key):
            yield f"{key} = {_written(text)}"
    for n, rule in enumerate(profile.rules):
        yield from ("", "[[behaviour]]", _line("type", rule.name, comments.get(n, {})))
        yield from (_line(key, value, comments.get(n, {})) for key, value in set_parameters(rule))
    yield ""


def set_parameters(rule: Rule) -> Iterator[tuple[str, object]]:
    """The parameters of a rule that are not at their defaults, in the order in which its class names them."""
    fields = msgspec.structs.fields(rule)
    shared = len(Rule.__struct_fields__)  # source, unsure, unscaled: they stand last
    for field in (*fields[shared:], *fields[:shared]):
        value = getattr(rule, field.name)
        if value != field.default:
            yield field.name, value


def _line(key: str, value: object, comments: Mapping[str, str]) -> str:
    comment = "".join(letter if letter.isprintable() else " " for letter in comments.get(key, ""))
    return f"{key} = {_written(value)}" + (f"  # {comment}" if comment else "")


def _written(value: object) -> str:
    """A value as TOML has it."""
    match value:
        case str():
            return _text(value)
        case tuple():
            return f"[{', '.join(_written(each) for each in value)}]"
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
    return repr(value)  # of a number, and TOML's are written as Python's


def _text(value: str) -> str:
    """A basic string: JSON's escapes are TOML's too, but TOML wants DEL escaped as well (TOML 1.0, String)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
