"""Random plans, made from the schema and then spoilt: its schema and the plan's reader agree on each of them."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from typing import Any

from jsonschema import Draft7Validator

from bench.plan import parse
from bench.plan_schema import plan_schema
from bench.table_checks import PlanError

PLANS = 2000
SCHEMA = plan_schema()
VALIDATOR = Draft7Validator(SCHEMA)
WRONG: tuple[Any, ...] = (
    0,
    -1,
    1,
    0.5,
    1e9 + 0.5,
    True,
    "",
    "x",
    "é",
    [],
    ["x"],
    [[]],
    {},
    {"x": 1},
    2**63,
    "a" * 300,
    86_401,
)
TEXTS = ("x", "b.c", "A.b-c_9", "a" * 64, "a" * 65, "a b", "", "sse", "direct", "gpt-4:x/y@z")
NOT_THE_SCHEMA_S = re.compile(  # what docs/machine-readable.md leaves to the command
    r"means nothing|has no \w+, only|no file|last longer|stands twice|has a target already|goes over TLS|a browser"
    r"|no module of ours|unknown .* takes: (a \[|x|b\.c)|^\[loads\..* takes a file in Azure's|HTTP/1\.1|cannot resume"
    r"|fallback takes|takes no recovery"
)


def test_what_the_reader_takes_the_schema_takes_and_the_other_way_round() -> None:
    fates: Counter[tuple[bool, bool]] = Counter()
    for seed in range(PLANS):
        table = random_plan(random.Random(seed))
        why = refusal(table)
        takes = VALIDATOR.is_valid(table)
        assert "\n" not in why
        fates[takes, not why] += 1
        assert takes or why, (seed, table)
        assert not (takes and why) or NOT_THE_SCHEMA_S.search(why), (seed, why, table)
    assert fates[True, True] > PLANS / 5  # else it would compare nothing
    assert fates[False, False] > PLANS / 5


def refusal(table: dict[str, Any]) -> str:
    """What the reader has against a plan, empty if it takes it."""
    try:
        parse(table)
    except PlanError as error:
        return str(error)
    return ""


def random_plan(chance: random.Random) -> dict[str, Any]:
    fields = SCHEMA["$defs"]["Plan"]["properties"]
    names = chance.sample(list(fields), chance.choice((1, 1, 2, 3)))
    return {"name": "p", "cells": [{"transport": "sse"}], **{name: value(chance, fields[name]) for name in names}}


def value(chance: random.Random, schema: dict[str, Any]) -> Any:
    """Something that the schema takes, in most cases."""
    if chance.random() < 0.06:
        return chance.choice(WRONG)
    if "$ref" in schema:
        return value(chance, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    for several in ("anyOf", "allOf"):
        if several in schema:
            return value(chance, next(each for each in several_of(chance, schema[several]) if "if" not in each))
    if "enum" in schema:
        return chance.choice(schema["enum"])
    return OF_TYPE[schema["type"]](chance, schema)


def several_of(chance: random.Random, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return chance.sample(parts, len(parts))


def number(chance: random.Random, schema: dict[str, Any]) -> float:
    """At its limits, between them, or just beyond."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", -5))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 1000))
    found = chance.choice((low, high, low + 1, (low + high) / 2, chance.uniform(low, high), low - 1, high + 1))
    if schema["type"] == "integer":  # JSON's 1.0 is an integer, TOML's is none
        return round(found)
    return found if math.isfinite(found) else low


def table_of(chance: random.Random, schema: dict[str, Any]) -> dict[str, Any]:
    fields = schema.get("properties", {})
    share = min(0.5, 2.5 / max(1, len(fields)))
    needed = schema.get("required", ())
    chosen = [name for name in fields if chance.random() < (0.97 if name in needed else share)]
    made = {name: value(chance, fields[name]) for name in chosen}
    if isinstance(others := schema.get("additionalProperties"), dict):
        made |= {name: value(chance, others) for name in chance.sample(("x", "b.c", "a b", "é"), chance.randint(0, 2))}
    return made | ({"zz": 1} if chance.random() < 0.02 else {})


OF_TYPE = {
    "number": number,
    "integer": number,
    "boolean": lambda chance, _: chance.random() < 0.5,
    "string": lambda chance, _: chance.choice(TEXTS),
    "array": lambda chance, schema: [value(chance, schema["items"]) for _ in range(chance.randint(0, 2))],
    "object": table_of,
}
