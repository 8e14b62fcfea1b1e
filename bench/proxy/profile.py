"""Profiles: what stands between client and server, as data (docs/proxy.md has the format)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from bench.proxy.behaviours import BEHAVIOURS
from bench.proxy.rule import Rule, check_conditions, check_order
from bench.table_checks import check_keys, to_struct
from bench.toml_file import read_toml
from servers.checks import suggestion
from servers.user_errors import InputError

FOLDER = Path(__file__).parent / "profiles"


class ProfileError(InputError):
    """A profile that does not exist or does not make sense; the message names the key and what it takes."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One intermediary.

    name: the file's name without `.toml`
    title: what it is; notes: what it does not express, in a sentence or two
    rules: its behaviours, from the client's side to the server's
    """

    name: str
    title: str = ""
    notes: str = ""
    rules: tuple[Rule, ...] = ()

    def scaled(self, time_scale: float) -> Profile:
        """The same with every time divided by `time_scale`."""
        return msgspec.structs.replace(self, rules=tuple(rule.scaled(time_scale) for rule in self.rules))


def names() -> list[str]:
    """The profiles that the project ships, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(name_or_file: str) -> Profile:
    """A shipped profile by name, or a user's own by path (a name that ends in .toml, or has a slash).

    Raises ProfileError.
    """
    path = Path(name_or_file)
    if path.suffix != ".toml" and path.name == name_or_file:
        if name_or_file not in names():
            raise ProfileError(
                f"unknown profile {name_or_file!r}; {suggestion(name_or_file, names())}; see `tokenderby profiles`"
            )
        path = FOLDER / f"{name_or_file}.toml"
    return parse_profile(path.stem, read_toml(path, "profile", ProfileError))


def parse_profile(name: str, table: dict[str, Any]) -> Profile:
    """A profile from its table. Raises ProfileError, whose message names the key."""
    where = f"profile {name}"
    check_keys(table, where, ("title", "notes", "behaviour"), ProfileError)
    rules = table.get("behaviour", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise ProfileError(f"{where}: behaviour takes tables, each under [[behaviour]]")
    for key in ("title", "notes"):
        if not isinstance(table.get(key, ""), str):
            raise ProfileError(f"{where}: {key} takes a text")
    parsed = tuple(_parse_rule(f"{where}, behaviour {n}", rule) for n, rule in enumerate(rules, 1))
    try:
        check_order(parsed)
    except ValueError as error:
        raise ProfileError(f"{where}: {error}") from error
    return Profile(name=name, title=table.get("title", ""), notes=table.get("notes", ""), rules=parsed)


def _parse_rule(where: str, table: dict[str, Any]) -> Rule:
    table = dict(table)
    kind = table.pop("type", None)
    if not isinstance(kind, str):
        raise ProfileError(f"{where}: type is missing; it takes one of {', '.join(BEHAVIOURS)}")
    if kind not in BEHAVIOURS:
        raise ProfileError(f"{where}: unknown type {kind!r}; {suggestion(kind, BEHAVIOURS)}")
    where = f"{where} ({kind})"
    rule_type = BEHAVIOURS[kind]
    fields = rule_type.__struct_fields__
    for key, value in table.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ProfileError(f"{where}: {key} takes a finite number")
    rule = to_struct(table, rule_type, where, ProfileError)
    try:
        rule.check()
        check_conditions(rule)
    except ValueError as error:
        raise ProfileError(f"{where}: {error}") from error
    for listing in ("unsure", "unscaled"):
        for key in getattr(rule, listing):
            if key not in fields:
                raise ProfileError(f"{where}: {listing} names no parameter: {key!r}; {suggestion(key, fields)}")
    return rule
