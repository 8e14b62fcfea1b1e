"""Text that comes from somebody else, on its way to a terminal, a page, a picture or Markdown (pure).

A server says what it likes in its errors, and a run's folder may come from anybody. An escape sequence would steer the
reader's terminal, a change of writing direction would turn the sentence around it, and XML cannot hold either's kind.
"""

from __future__ import annotations

import re

MOST_SIGNS = 200
SENTENCE_SIGNS = 1000
"""Of a sentence of ours that quotes such text: long ones of our own stay whole."""
MOST_OF_MARKDOWN = 4000
"""Of a line of Markdown: an answer that ends within a word is none."""
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# What is left out of XML 1.0's "Characters": C0 and C1 controls but for tab and line ends, surrogates, U+FFFE, U+FFFF;
# and what turns the direction of writing, or ends a line where no reader would see it (U+2028, U+2029).
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


def printable(text: str) -> str:
    """`text` with each such character replaced."""
    return _UNPRINTABLE.sub(REPLACEMENT, text)


def in_one_line(text: str, most: int = MOST_SIGNS) -> str:
    """Its first `most` characters; those that a terminal might obey, and line ends, are question marks."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:most])


_TITLE = re.compile(rb"(?is)<title>([^<]{1,400})</title>")


def page_title(page: bytes) -> str:
    """What the title of an HTML page says, in one line: there a proxy gives its reason. Empty where there is none."""
    found = _TITLE.search(page)
    return in_one_line(" ".join(found[1].decode("utf-8", "replace").split())) if found else ""


_SPECIAL = re.compile(r"[\\`*_\[\]|~$]|^[-+=#]")
_NUMBERED = re.compile(r"^(\d+)([.)])(?= |$)")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "@\u200b"}  # a mention would call a stranger


def in_markdown(text: str, most: int = MOST_OF_MARKDOWN) -> str:
    """Text that Markdown shows as it is, in one line of a table too; of a longer one the first `most` characters."""
    line = printable(" ".join(text.split()))
    line = line if len(line) <= most else f"{line[:most]}…"
    plain = _SPECIAL.sub(r"\\\g<0>", "".join(_HTML.get(letter, letter) for letter in line))
    return _NUMBERED.sub(r"\1\\\2", plain)
