"""What the documentation shows is what happens, and it is whole."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import borg_serve_cli
import pytest

import borg_serve_lib

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))]
PROGRAMS = [
    *sorted(Path(borg_serve_cli.__file__).parent.glob("borg_serve_*.py")),
    *sorted((ROOT / "examples").glob("*.py")),
]
REFERENCE = [page for page in PAGES if page.startswith("api/")]
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


# --- programs


@pytest.mark.parametrize("page", [page for page in PAGES if programs(page)])
def test_the_programs_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for program in programs(page):
        text = program.replace("/srv/backups", str(tmp_path))
        (tmp_path / "laptop").mkdir(exist_ok=True)
        if "sys.exit(" in text:  # the program of a forced command, whose client says nothing
            command = [sys.executable, "-c", text]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        else:
            exec(compile(text, page, "exec"), {"__name__": "guide"})
        assert not list(tmp_path.rglob("lock*"))


# --- names


def documented() -> dict[str, str]:
    """Return the page of each name that the reference documents."""
    return {name: page for page in REFERENCE for name in DIRECTIVE.findall(text_of(page))}


def thing(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def functions_of(name: str) -> Iterator[tuple[str, Any]]:
    """Yield what can be called of a documented name: itself, or what a class has for its users."""
    found = thing(name)
    if inspect.isfunction(found):
        yield name, found
    elif inspect.isclass(found):
        for member, value in vars(found).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if (not member.startswith("_") or member == "__init__") and inspect.isfunction(function):
                yield f"{name}.{member}", function


def test_every_public_name_is_documented_once() -> None:
    public = {f"borg_serve_lib.{name}" for name in borg_serve_lib.__all__ if name != "__version__"}
    directives = [name for page in REFERENCE for name in DIRECTIVE.findall(text_of(page))]
    assert sorted(name for name in directives if name.count(".") == 1 and name in public) == sorted(public)
    assert len(directives) == len(set(directives))


def test_every_public_name_is_listed_on_the_first_page() -> None:
    rows = re.findall(r"^\| \[.*?\]\((.*?)\) \| (.*) \|$", text_of("api/README.md"), re.MULTILINE)
    listed = {f"borg_serve_lib.{name}": f"api/{page}" for page, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {name: page for name, page in documented().items() if thing_is_public(name)}


def thing_is_public(name: str) -> bool:
    return name.removeprefix("borg_serve_lib.") in borg_serve_lib.__all__


def test_every_public_name_is_in_a_program_of_its_page() -> None:
    for name, page in documented().items():
        if thing_is_public(name):
            used = {
                node.id for text in programs(page) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)
            }
            assert name.rpartition(".")[2] in used, (name, page)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_the_command_and_the_examples_use_documented_names_only(program: Path) -> None:
    used = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(program.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("borg_serve_lib")
        for alias in node.names
    }
    undocumented = used - {*documented(), "borg_serve_lib.__version__"}
    assert used
    whole = ("borg_serve_lib.events.", *(f"{name}." for name in documented() if inspect.ismodule(thing(name))))
    assert {name for name in undocumented if not name.startswith(whole)} == set()


@pytest.mark.parametrize("name", sorted(documented()))
def test_what_is_documented_is_typed_and_explained(name: str) -> None:
    assert thing(name).__doc__
    for where, function in functions_of(name):
        signature = inspect.signature(function)
        untyped = [
            parameter.name
            for parameter in list(signature.parameters.values())[where != name :]
            if parameter.annotation is inspect.Parameter.empty
        ]
        assert untyped == [], where
        assert signature.return_annotation is not inspect.Signature.empty, where
        if not where.endswith("__init__"):
            assert inspect.getdoc(function) or inspect.getdoc(getattr(thing(name), function.__name__)), where


def test_the_signatures_of_values_are_those_of_their_fields() -> None:
    for name in documented():
        found = thing(name)
        if inspect.isclass(found) and not issubclass(found, tuple):
            assert "args" not in inspect.signature(found).parameters, name


# --- pages


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["../README.md", "../examples/README.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    path = (DOCS / page).resolve()
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text()
    assert [page for page in PAGES if not re.search(rf"[-:] {re.escape(page)}$", contents, re.MULTILINE)] == []


def test_the_picture_of_the_house_shows_every_module() -> None:
    package = Path(borg_serve_lib.__file__).parent
    picture = text_of("architecture.md").split("```")[1]
    modules = {path.name for path in package.rglob("*.py")} - {"__init__.py", "__main__.py", "_version.py"}
    events = {path.name for path in (package / "events").glob("*.py")}
    assert {name for name in modules - events if name not in picture} == set()
