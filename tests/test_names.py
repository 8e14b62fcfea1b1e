"""One meaning per name: each module, public class and named type of the three packages has a name of its own."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("servers", "clients", "bench")

FAMILIES = {
    "Decoder": "what a transport's wire.py names its decoder (CONTRIBUTING.md, add a transport)",
    "__init__": "Python's word for a package",
    "__main__": "Python's word for a package as a command",
    "app": "each transport's server is servers/<name>/app.py",
    "wire": "each transport's wire format is servers/<name>/wire.py",
}
"""The names that several have on purpose, each with the reason."""


def sources(root: Path) -> Iterator[Path]:
    """The modules of the three packages, relative to `root`."""
    for package in PACKAGES:
        yield from (path.relative_to(root) for path in sorted((root / package).rglob("*.py")))


def type_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The public classes and, of the module itself, the names of types (`Way = Literal[…]`), each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node.lineno
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name(name)], ast.Attribute(attr=same)) if name == same:
                pass  # another module's, under the same name: the same meaning
            case ast.Assign([ast.Name(name)]) if re.match("[A-Z][A-Za-z0-9]*[a-z]", name):
                yield name, node.lineno


def names(root: Path) -> Mapping[str, list[str]]:
    """Where each name of a module or of a type is: `path`, or `path:line`."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sources(root):
        found[path.stem].append(str(path))
        for name, line in type_names(ast.parse((root / path).read_text("utf-8"))):
            found[name].append(f"{path}:{line}")
    return found


def repeated(root: Path) -> dict[str, list[str]]:
    """The names that more than one module or type has."""
    return {name: places for name, places in names(root).items() if len(places) > 1}


def test_no_name_has_two_meanings() -> None:
    assert {name: places for name, places in repeated(ROOT).items() if name not in FAMILIES} == {}


def test_every_family_is_one_and_a_transports_part_is_in_its_folder() -> None:
    families = repeated(ROOT)
    assert families.keys() == FAMILIES.keys()
    assert {place.rpartition(":")[0] for place in families["Decoder"]} <= set(families["wire"])
    assert {str(Path(place).with_name("wire.py")) for place in families["app"]} == set(families["wire"])


@pytest.mark.parametrize(
    ("first", "second", "text", "name"),
    [
        ("servers/one.py", "bench/deep/two.py", "class Cell: ...", "Cell"),
        ("servers/one.py", "clients/two.py", "Way = Literal['up']", "Way"),
        ("clients/clock.py", "bench/deep/clock.py", "class _Cell: ...", "clock"),
    ],
)
def test_a_second_meaning_is_seen(tmp_path: Path, first: str, second: str, text: str, name: str) -> None:
    for place in (first, second):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(text)
    assert repeated(tmp_path).keys() == {name}
