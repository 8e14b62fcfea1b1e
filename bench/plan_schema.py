"""The JSON Schema of a plan, made from the structs that plans are read into: for editors, and for whoever writes plans.

It takes what `bench.plan.parse` takes, as far as a schema can say so. What it cannot: that a word means something to a
transport, that a file is there, that a name in a cell is one of the plan's tables.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any

import msgspec

from bench.plan import MAX_TABLES, Cell, Plan, Validity
from bench.proxy import profile as proxy_profiles
from bench.proxy import real as real_proxy
from bench.slo import MESSAGE_LIMITS, MessageLimits, Slo
from clients.job import Load
from servers.stacks import STACKS
from servers.stream import PROFILES, RANGES, StreamSpec
from servers.transport import CONTESTANTS, STREAMING

Schema = dict[str, Any]

DIALECT = "http://json-schema.org/draft-07/schema#"
"""Every editor's TOML and JSON support reads this one; nothing of a later draft is used."""

_STREAM = {"$ref": "#/$defs/StreamSpec"}
_SLO = {"$ref": "#/$defs/Slo"}


def plan_schema() -> Schema:
    """The schema as a document that json.dumps takes."""
    _, parts = msgspec.json.schema_components([Plan, StreamSpec, Slo], ref_template="#/$defs/{name}")
    parts = {name: _as_toml_has_it(part) for name, part in parts.items()}
    for kind in (Plan, Cell, Load, Validity, StreamSpec, MessageLimits):
        _describe(parts[kind.__name__], kind)
    plan, cell, stream = (parts[kind.__name__] for kind in (Plan, Cell, StreamSpec))
    _complete_stream(stream)
    _complete_cell(cell)
    parts["Load"]["properties"]["fallback"]["items"] = {"enum": list(STREAMING)}
    _complete_plan(plan)
    _complete_slo(parts["Slo"])
    parts["Target"]["properties"]["transport"]["enum"] = list(CONTESTANTS)
    return {"$schema": DIALECT, "title": "A plan of Tokenderby", "$ref": "#/$defs/Plan", "$defs": parts}


def _as_toml_has_it(part: Any) -> Any:
    """A part of the schema without null, which TOML does not have, closed to other keys, its patterns those of JSON."""
    if isinstance(part, list):
        return [_as_toml_has_it(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: _as_toml_has_it(value) for key, value in part.items() if (key, value) != ("default", None)}
    if isinstance(made.get("pattern"), str):
        made["pattern"] = made["pattern"].replace(r"\Z", "$")
    if isinstance(made.get("description"), str):
        made["description"] = " ".join(made["description"].split())
    if "properties" in made:
        made["additionalProperties"] = False
    kinds = [kind for kind in made.pop("anyOf", []) if kind != {"type": "null"}]
    return made | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _describe(part: Schema, kind: type) -> None:
    """Give the fields their descriptions: the comments that stand beside them in the source."""
    source = inspect.getsource(kind)
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    lines = source.splitlines()
    for field in definition.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            beside = (line.partition("  # ")[2] for line in lines[field.lineno - 1 : field.end_lineno])
            if text := " ".join(filter(None, beside)):
                part["properties"][field.target.id]["description"] = text


def _complete_stream(stream: Schema) -> None:
    fields = stream["properties"]
    for name, (least, most) in RANGES.items():
        fields[name] |= {"minimum": least, "maximum": most}
    fields["profile"] = {"enum": list(PROFILES), "default": "hosted", "description": "What the rest is changed from."}
    fields["recording"]["description"] = "A file of recorded answers, beside the plan or in the working directory."
    stream |= _if_then("times", True, "recording")


def _complete_cell(cell: Schema) -> None:
    """Its names are those that there are, and each value may be a list: a cell for each of it."""
    fields = cell["properties"]
    fields["transport"]["enum"] = list(CONTESTANTS)
    fields["stack"] = {key: fields["stack"][key] for key in ("default", "description")} | {"enum": ["", *STACKS]}
    own_file = {"type": "string", "pattern": r"\.toml$"}
    known = ["direct", *proxy_profiles.names(), *(f"{real_proxy.PREFIX}{kind}" for kind in real_proxy.KINDS)]
    fields["profile"] = {"anyOf": [{"enum": known}, own_file]}
    cell["properties"] = {name: _one_or_more(field) for name, field in fields.items()}


def _complete_slo(slo: Schema) -> None:
    """A share of good messages takes a table that says which are good."""
    said = {"required": [MESSAGE_LIMITS], "properties": {MESSAGE_LIMITS: {"minProperties": 1}}}
    slo["dependencies"] = {"goodput_ratio": said}


def _if_then(key: str, value: object, needed: str) -> Schema:
    """That `needed` has to be there where `key` has this value."""
    return {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": {"required": [needed]}}


def _one_or_more(field: Schema) -> Schema:
    one = {key: value for key, value in field.items() if key not in ("default", "description")}
    said = {key: value for key, value in field.items() if key not in one}
    return said | {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _complete_plan(plan: Schema) -> None:
    fields = plan["properties"]
    fields["control"]["enum"] = [*CONTESTANTS, "none"]
    fields |= {"stream": _STREAM, "slo": _SLO}
    trace = _if_then("arrivals", "trace", "trace")  # [loads.NAME] may have that of [load]
    fields["load"] = {"allOf": [{"$ref": "#/$defs/Load"}, trace]}
    for name, table in (("streams", _STREAM), ("slos", _SLO)):
        fields[name]["additionalProperties"] = table
    for name in ("loads", "streams", "slos"):
        fields[name]["maxProperties"] = MAX_TABLES
    fields["cells"] = {"type": "array", "items": {"$ref": "#/$defs/Cell"}, "minItems": 1}
    plan["required"] = ["cells"]  # a plan without a name has its file's
