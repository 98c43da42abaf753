"""The floors of the house: what each module may import, read from the source of every module.

The picture is in docs/architecture.md. `faults` judges one module; the tests below it prove that it sees each kind of
fault, and the last ones that the library has none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

import borg_serve_lib

PACKAGE = "borg_serve_lib"
SOURCE = Path(borg_serve_lib.__file__).parent

FLOORS = {
    "_version": 0,
    "buffers": 0,
    "errors": 0,
    "events": 0,
    "limits": 0,
    "reporting": 0,
    "units": 0,
    "values": 0,
    "format": 1,
    "policy": 1,
    "wire": 1,
    "confinement": 2,
    "locking": 2,
    "storage": 2,
    "engine": 3,
    "rpc": 4,
    "sinks": 5,
    "transports": 5,
    "__init__": 6,
    "__main__": 6,
    "process": 6,
    "server": 6,
}

PURE = {
    "__future__", "abc", "array", "attrs", "binascii", "bisect", "collections", "configparser", "contextlib", "enum",
    "errno", "functools", "hashlib", "heapq", "inspect", "io", "isal", "itertools", "json", "math", "msgpack",
    "operator", "re", "shlex", "string", "struct", "sys", "textwrap", "types", "typing", "typing_extensions",
    "xxhash", "zlib",
}  # fmt: skip
"""What the modules of floors 0 and 1 may import from outside. Nothing here reaches the system by being used."""

MSGPACK_USERS = {"format.hintsfile", "format.integrity"}
PORTS = {"storage.base", "locking.base"}
EFFECTS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv", "expanduser", "expandvars"}
NEVER = {"logging", "warnings", "argparse"}


def imports(module: str, tree: ast.AST, is_package: bool) -> Iterator[tuple[str, str]]:
    """Yield what `module` (dotted, without the package's own name) imports: ("inside", "rpc.connection") or
    ("outside", "os.path")."""
    home = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = home[: len(home) - (node.level - 1)]
            names = [".".join([PACKAGE, *above, *([node.module] if node.module else [])])]
            if node.module is None:
                names = [f"{names[0]}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            names = [f"{PACKAGE}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            yield ("inside", rest or "__init__") if top == PACKAGE else ("outside", name)


def floor_of(module: str) -> int | None:
    return FLOORS.get(module.partition(".")[0])


def faults_of_an_import(module: str, where: str, name: str) -> Iterator[str]:
    floor, part, other = floor_of(module), module.partition(".")[0], name.partition(".")[0]
    if where == "outside":
        if floor in (0, 1) and other not in PURE:
            yield f"{module} is pure and imports {name}"
        if other == "msgpack" and part != "wire" and module not in MSGPACK_USERS:
            yield f"{module} imports msgpack"
        if other in NEVER:
            yield f"{module} imports {name}"
        return
    there = floor_of(name)
    if there is None:
        yield f"{module} imports {name}, which stands on no floor"
    elif floor is not None and (there > floor or (there == floor and floor not in (0, 6) and other != part)):
        yield f"{module} (floor {floor}) imports {name} (floor {there})"
    elif part == "engine" and there == 2 and name not in PORTS:
        yield f"{module} imports {name}, which is no port"
    elif part == "transports" and there > 0 and other != part and name != "rpc.connection":
        yield f"{module} imports {name}, but transports see the connection only"


def calls_an_effect(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EFFECTS


def faults_of_a_node(module: str, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
        yield f"{module} line {node.lineno} uses {node.attr}, which reads the environment"
    elif isinstance(node, ast.ImportFrom) and ENVIRONMENT.intersection(alias.name for alias in node.names):
        yield f"{module} line {node.lineno} imports from the environment"
    elif isinstance(node, ast.Global):
        yield f"{module} line {node.lineno} keeps global state"
    elif calls_an_effect(node) and floor_of(module) in (0, 1):
        yield f"{module} line {node.lineno} is pure and calls {ast.unparse(node.func)}"


def faults(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Return what is wrong with `module` of the library, as sentences."""
    tree = ast.parse(source)
    if floor_of(module) is None:
        return [f"{module} stands on no floor"]
    found = [
        fault for where, name in imports(module, tree, is_package) for fault in faults_of_an_import(module, where, name)
    ]
    return found + [fault for node in ast.walk(tree) for fault in faults_of_a_node(module, node)]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "from .units import format_size"),
        ("reporting", "from .events.locks import Waiting"),
        ("policy.options", "from ..errors import UsageError"),
        ("policy.options", "from .paths import PathPolicy"),
        ("policy.options", "from . import values"),
        ("wire.calls", "import msgpack"),
        ("format.hintsfile", "import msgpack"),
        ("storage.filesystem", "import os, fcntl\nfrom ..errors import StorageError\nopen('x')"),
        ("engine.repository", "from ..storage.base import Storage\nfrom ..locking.base import LockMode"),
        ("engine.repository", "from ..format import entry\nfrom .index import Index"),
        ("rpc.dispatcher", "from ..engine.repository import Repository\nfrom ..policy.access import Verb"),
        ("transports.stdio", "from ..rpc.connection import Connection\nfrom ..errors import ProtocolError\nimport os"),
        ("server", "from .transports.stdio import serve_stdio\nfrom .locking.manager import FileLockManager"),
        ("__main__", "from borg_serve_cli import main"),
    ],
)
def test_what_the_floors_allow_is_no_fault(module: str, source: str) -> None:
    assert faults(module, source) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("helpers", "", "helpers stands on no floor"),
        ("errors", "from .policy.options import ServeOptions", "errors (floor 0) imports policy.options (floor 1)"),
        ("policy.paths", "from ..wire import frames", "policy.paths (floor 1) imports wire (floor 1)"),
        ("policy.paths", "from .. import wire", "policy.paths (floor 1) imports wire (floor 1)"),
        ("policy.paths", "import borg_serve_lib.wire.frames", "policy.paths (floor 1) imports wire.frames (floor 1)"),
        ("policy.paths", "from borg_serve_lib import wire", "policy.paths (floor 1) imports wire (floor 1)"),
        ("policy.paths", "import borg_serve_lib", "policy.paths (floor 1) imports __init__ (floor 6)"),
        ("policy.paths", "from ..helpers import x", "policy.paths imports helpers, which stands on no floor"),
        ("policy.paths", "def f():\n    import os.path", "policy.paths is pure and imports os.path"),
        ("policy.paths", "if TYPE_CHECKING:\n    from time import x", "policy.paths is pure and imports time"),
        ("format.entry", "import socket", "format.entry is pure and imports socket"),
        ("format.entry", "import msgpack", "format.entry imports msgpack"),
        ("format.entry", "def f():\n    open('x')", "format.entry line 2 is pure and calls open"),
        ("rpc.connection", "from msgpack import packb", "rpc.connection imports msgpack"),
        ("locking.manager", "import logging", "locking.manager imports logging"),
        ("locking.roster", "from ..storage import base", "locking.roster (floor 2) imports storage (floor 2)"),
        ("engine.log", "from ..storage.filesystem import X", "engine.log imports storage.filesystem, which is no port"),
        ("engine.log", "from ..locking import manager", "engine.log imports locking, which is no port"),
        ("engine.log", "from ..rpc.methods import METHODS", "engine.log (floor 3) imports rpc.methods (floor 4)"),
        (
            "transports.stdio",
            "from ..rpc.dispatcher import Dispatcher",
            "transports.stdio imports rpc.dispatcher, but transports see the connection only",
        ),
        (
            "transports.stdio",
            "from ..engine.repository import Repository",
            "transports.stdio imports engine.repository, but transports see the connection only",
        ),
        ("rpc.dispatcher", "from ..server import Server", "rpc.dispatcher (floor 4) imports server (floor 6)"),
        ("server", "os.environ['HOME']", "server line 1 uses environ, which reads the environment"),
        ("server", "os.getenv('HOME')", "server line 1 uses getenv, which reads the environment"),
        ("server", "os.path.expanduser('~')", "server line 1 uses expanduser, which reads the environment"),
        ("server", "from os import environ", "server line 1 imports from the environment"),
        ("server", "def f():\n    global state", "server line 2 keeps global state"),
    ],
)  # fmt: skip
def test_what_breaks_a_floor_is_seen(module: str, source: str, fault: str) -> None:
    assert faults(module, source) == [fault]


def test_relative_imports_of_a_package_start_in_the_package_itself() -> None:
    assert faults("policy", "from .paths import PathPolicy", is_package=True) == []
    assert faults("policy", "from ..wire import frames", is_package=True) == ["policy (floor 1) imports wire (floor 1)"]
    assert faults("__init__", "from .server import Server") == []


def modules() -> dict[str, Path]:
    paths = sorted(SOURCE.rglob("*.py"))
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in paths}


@pytest.mark.parametrize("module", modules())
def test_the_module_keeps_to_its_floor(module: str) -> None:
    source = modules()[module].read_text(encoding="utf-8")
    name, _, last = module.rpartition(".")
    is_package = last == "__init__" and name != ""
    assert faults(name if is_package else module, source, is_package=is_package) == []


def test_all_parts_of_the_library_have_a_floor() -> None:
    assert {module.partition(".")[0] for module in modules()} <= set(FLOORS)
