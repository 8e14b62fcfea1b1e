"""One meaning per name, in all three packages: of modules, public classes and named types, and of the functions and
constants that other modules use. (What a module has for itself is read beside its definition.)
"""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("servers", "clients", "bench")

FAMILIES = {
    "CONTENT_TYPE": "what a transport's wire.py names the type of its answers",
    "Decoder": "what a transport's wire.py names its decoder (CONTRIBUTING.md, add a transport)",
    "HEARTBEAT": "what a transport's wire.py names the bytes that mean nothing",
    "TOKEN_FORMAT": "a token as a format string: of the message, and of what a transport's wire.py puts around it",
    "__init__": "Python's word for a package",
    "__main__": "Python's word for a package as a command",
    "app": "each transport's server is servers/<name>/app.py",
    "create": "what makes a server's application, of a transport or a stack",
    "decode": "bytes to a message: of any transport, and with what a transport's wire.py allows besides",
    "encode_end": "the end as bytes: of the message, and of what a transport's wire.py puts around it",
    "encode_token": "the same of a token",
    "main": "Python's word for what a process runs",
    "stream": "what is sent (servers/stream.py), and a client's step that receives it (clients/core/http_scripts.py)",
    "wire": "each transport's wire format is servers/<name>/wire.py",
}
"""The names that several have on purpose, each with the reason."""


def sources(root: Path) -> Mapping[Path, ast.Module]:
    """The modules of the three packages, by their paths relative to `root`."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {path.relative_to(root): ast.parse(path.read_text("utf-8")) for path in paths}


def module_of(path: Path) -> str:
    """A module's name, as it is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def is_type(name: str) -> bool:
    """Whether a type has it (`Way = Literal[…]`), rather than a constant."""
    return re.match("[A-Z][A-Za-z0-9]*[a-z]", name) is not None


def defined(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every class, and the module's own functions, constants and types, each with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
    for node in tree.body:
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                yield name, node.lineno
            case ast.Assign([ast.Name(name)], ast.Attribute(attr=same)) if name == same:
                pass  # another module's, under the same name: the same meaning
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name)):
                yield name, node.lineno
            case ast.Assign([ast.Tuple(names)]):
                yield from ((each.id, node.lineno) for each in names if isinstance(each, ast.Name))


def used(tree: ast.Module, modules: Collection[str]) -> Iterator[tuple[str, str]]:
    """What it uses of `modules`, each as module and name: imported by that name, or asked of an imported module."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, each.name) for each in node.names)
            known |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name(name), attr) if known.get(name) in modules:
                yield known[name], attr


def names(root: Path) -> Mapping[str, list[str]]:
    """Where each name is that has to have one meaning: `path` of a module, or `path:line`."""
    trees = sources(root)
    modules = {module_of(path) for path in trees}
    shared = {each for tree in trees.values() for each in used(tree, modules)}
    found: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        found[path.stem].append(str(path))
        for name, line in defined(tree):
            is_seen = is_type(name) or ((module_of(path), name) in shared and name != path.stem)
            if is_seen and not name.startswith("_"):
                found[name].append(f"{path}:{line}")
    return found


@cache
def repeated(root: Path) -> dict[str, list[str]]:
    """The names of which there is more than one."""
    return {name: places for name, places in names(root).items() if len(places) > 1}


def test_no_name_has_two_meanings() -> None:
    assert {name: places for name, places in repeated(ROOT).items() if name not in FAMILIES} == {}


def test_every_family_is_one_and_a_transports_part_is_in_its_folder() -> None:
    families = repeated(ROOT)
    assert families.keys() == FAMILIES.keys()
    for name in ("CONTENT_TYPE", "Decoder", "HEARTBEAT"):
        assert {place.rpartition(":")[0] for place in families[name]} <= set(families["wire"])
    assert {str(Path(place).with_name("wire.py")) for place in families["app"]} == set(families["wire"])


@pytest.mark.parametrize(
    ("first", "second", "text", "name"),
    [
        ("servers/one.py", "bench/deep/two.py", "class Cell: ...", "Cell"),
        ("servers/one.py", "clients/two.py", "Way = Literal['up']", "Way"),
        ("clients/clock.py", "bench/deep/clock.py", "class _Cell: ...", "clock"),
        ("servers/one.py", "bench/deep/two.py", "def shown(): ...", "shown"),
        ("servers/one.py", "bench/deep/two.py", "LOW, HIGH = 1, 2", "HIGH"),
        ("servers/one.py", "bench/deep/two.py", "at: int = 1", "at"),
    ],
)
def test_a_second_meaning_is_seen(tmp_path: Path, first: str, second: str, text: str, name: str) -> None:
    for place in (first, second):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    one, (package, _, other) = module_of(Path(first)), module_of(Path(second)).rpartition(".")
    reader = f"from {one} import {name}\nfrom {package} import {other}\n{other}.{name}"
    (tmp_path / "bench").mkdir(exist_ok=True)
    (tmp_path / "bench/reader.py").write_text(reader)
    assert repeated(tmp_path).keys() == {name}


def test_what_a_module_has_for_itself_or_under_its_own_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers/clock.py").write_text("def clock(): ...\ndef at_home(): ...\n_HIDDEN = 1")
    (tmp_path / "servers/other.py").write_text(
        "from servers.clock import clock, _HIDDEN\ndef at_home(): ...\n_HIDDEN = 1"
    )
    assert repeated(tmp_path) == {}
