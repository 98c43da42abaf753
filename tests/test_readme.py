"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def test_its_example_runs() -> None:
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    repository = names["repository"]
    assert repository.get(b"\x01" * 32) == b"an object"  # type: ignore[attr-defined]


def test_it_has_exactly_two_commands() -> None:
    commands = [line for block in blocks("") for line in block.splitlines() if line.startswith("make ")]
    assert commands == ["make demo", "make test"]


def test_every_document_it_links_to_exists() -> None:
    targets = re.findall(r"\]\((docs/[^)]*)\)", README.read_text())
    assert {"docs/architecture.md", "docs/security.md", "docs/reliability.md"} <= set(targets)
    for target in targets:
        assert (README.parent / target).exists(), target


def test_the_picture_of_the_house_shows_every_module() -> None:
    import borg_serve_lib

    package = Path(borg_serve_lib.__file__).parent
    picture = (README.parent / "docs" / "architecture.md").read_text().split("```")[1]
    modules = {path.name for path in package.rglob("*.py")} - {"__init__.py", "__main__.py", "_version.py"}
    events = {path.name for path in (package / "events").glob("*.py")}
    assert {name for name in modules - events if name not in picture} == set()


def test_the_list_of_public_names_is_whole() -> None:
    import borg_serve_lib

    listed = (README.parent / "docs" / "api" / "README.md").read_text()
    assert [name for name in borg_serve_lib.__all__ if f"`{name}`" not in listed and name != "__version__"] == []


@pytest.mark.parametrize("page", ["embedding.md", "events.md"])
def test_the_programs_of_the_guides_run(page: str) -> None:
    programs = re.findall(
        r"^```python\n(.*?)^```", (README.parent / "docs" / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert programs
    for program in programs:
        assert "assert" in program
        exec(compile(program, page, "exec"), {"__name__": "guide"})


@pytest.mark.parametrize("page", ["api/README.md", "locks.md"])
def test_the_examples_of_the_documentation_run(page: str, tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (README.parent / "docs" / page).read_text(), re.DOTALL | re.MULTILINE
    )
    assert "/srv/backups/laptop" in example
    (tmp_path / "laptop").mkdir()
    exec(compile(example.replace("/srv/backups", str(tmp_path)), page, "exec"), {})
    assert (tmp_path / "laptop" / "config").exists() is (page == "api/README.md")
    assert not list(tmp_path.rglob("lock*"))
