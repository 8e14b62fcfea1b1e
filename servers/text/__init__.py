"""Text for the simulated model: prose cut into tokens, and the tokens that break careless clients (pure).

The prose (`prose.txt`) was written for this project and is under its licence. `split` cuts it as a language model's
tokeniser would in size and shape, not in substance: about 5 characters a token, 72 % with a leading space, 3 % with a
newline, as pooled from single-token streams of real providers (1,643 tokens; docs/methodology.md names the source).
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_PIECES = re.compile(r"\n+|[ ]?[^\W\d_]+|[ ]?\d+|[ ]{2,}(?=\S)|[ ]?(?:[^\w\s]|_)+|\s")
_WHOLE_WORD_MAX = 10  # letters; longer words are two tokens, as in real vocabularies of about 100,000 entries
_ROOT = 5  # letters of a long word's first token


def split(text: str) -> tuple[str, ...]:
    """Cut `text` into tokens; joined, they are `text` again."""
    tokens: list[str] = []
    for piece in _PIECES.findall(text):
        if len(piece.strip()) > _WHOLE_WORD_MAX and piece.strip().isalpha():
            cut = len(piece) - len(piece.lstrip()) + _ROOT
            tokens += (piece[:cut], piece[cut:])
        else:
            tokens.append(piece)
    return tuple(tokens)


@cache
def prose() -> tuple[str, ...]:
    """The tokens of `prose.txt`, in order."""
    text = files(__package__).joinpath("prose.txt").read_text(encoding="utf-8")
    return split(text.strip() + "\n\n")
