"""Text that comes from somebody else's server, on its way to a terminal (pure)."""

from __future__ import annotations

MOST_SIGNS = 200
SENTENCE_SIGNS = 1000
"""Of a sentence of ours that quotes such text: long ones of our own stay whole."""


def printable(text: str, most: int = MOST_SIGNS) -> str:
    """Its first `most` characters; those that a terminal might obey, and line ends, are question marks."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:most])
