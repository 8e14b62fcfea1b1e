"""A chart's file as a part of the page: its text in the page's type, its colours the page's, by day and by night.

The file itself stays a picture that stands alone. Whatever a chart holds from outside is text in it, and stays escaped.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from xml.etree import ElementTree

from bench.analysis.report.theme import PALETTE

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {shade.light: f"var(--{role})" for role, shade in PALETTE.items()}
_COLOUR = re.compile("|".join(_VARIABLES), re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family: [^;]*;? ?")
_COLOURED = {"style", "fill", "stroke"}


def inline(svg: str, name: str, title: str, description: str) -> str:
    """The same drawing as an element of an HTML page, with a text alternative; `name` keeps its ids apart."""
    root = ElementTree.fromstring(svg)  # noqa: S314  # of our own making
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in (f"{_SVG}metadata", f"{_SVG}style")]:
            parent.remove(child)
    used = {reference for element in root.iter() for reference in _references(element)}
    for element in root.iter():
        _fit_in(element, name, used)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    _describe(root, name, title, description)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _references(element: ElementTree.Element) -> list[str]:
    """The ids that an element refers to."""
    linked = [element.attrib[_XLINK][1:]] if _XLINK in element.attrib else []
    return linked + [found for value in element.attrib.values() for found in _REFERENCE.findall(value)]


def _fit_in(element: ElementTree.Element, name: str, used: Collection[str]) -> None:
    """Colours become the page's, and the font; ids that are used get the chart's name before them; space goes."""
    given = element.attrib
    for attribute in given.keys() & _COLOURED:
        shaded = _COLOUR.sub(lambda m: _VARIABLES[m[0].lower()], given[attribute])
        given[attribute] = _FONT.sub("", shaded)
    own = given.pop("id", None)
    if own in used:
        given["id"] = f"{name}-{own}"
    if _XLINK in given:
        given["href"] = f"#{name}-{given.pop(_XLINK)[1:]}"
    for attribute, value in given.items():
        given[attribute] = " ".join(_REFERENCE.sub(rf"url(#{name}-\1)", value).split())
    element.tag = element.tag.removeprefix(_SVG)  # what HTML parses has no namespaces
    element.tail = None
    if not (element.text or "").strip():
        element.text = None


def _describe(root: ElementTree.Element, name: str, title: str, description: str) -> None:
    """Name and description as screen readers take them from a picture."""
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(position, element)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-desc"}
