"""Bytes and what a decoder must make of them: one file for the Python decoders and for the browser's module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "vectors" / "decoders.json"


def vectors(section: str) -> list[Any]:
    """The vectors of one section as pytest parameters; each says which bytes it means (`data_of`)."""
    found = json.loads(FILE.read_text(encoding="utf-8"))[section]["vectors"]
    return [pytest.param(vector, id=repr(data_of(vector))[:80]) for vector in found]


def data_of(vector: dict[str, Any]) -> bytes:
    """The bytes of a vector: `text` as UTF-8, or `hex`, so many `times`; an answer's are named by its transports."""
    data = bytes.fromhex(vector["hex"]) if "hex" in vector else str(vector.get("text", "")).encode()
    return data * int(vector.get("times", 1))
