"""What a server process keeps of the file system."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgpack
import pytest

from borg_serve_lib.confinement.base import Allowance, Confinement
from borg_serve_lib.confinement.interpreter import interpreter_files
from borg_serve_lib.confinement.process import confine_process
from borg_serve_lib.errors import ConfinementImpossible


class Noted(Confinement):
    """Confines nothing, and remembers to what."""

    def __init__(self) -> None:
        self.allowances: list[Allowance] = []

    def demand_possible(self) -> None:
        pass

    def confine(self, allowances: Sequence[Allowance]) -> None:
        self.allowances = list(allowances)

    def trees(self) -> list[Allowance]:
        kept = interpreter_files(not_above=())
        return [allowance for allowance in self.allowances if allowance.path not in kept]


@pytest.mark.parametrize("writable", [True, False])
def test_the_trees_stay_as_writable_as_asked_and_what_python_needs_is_for_reading(
    tmp_path: Path, writable: bool
) -> None:
    noted = Noted()
    assert confine_process(noted, [str(tmp_path)], writable=writable, strictly=True) == [str(tmp_path)]
    assert noted.trees() == [Allowance(str(tmp_path), writable)]
    assert Allowance(os.path.dirname(os.__file__), writable=False) in noted.allowances
    assert sum(allowance.writable for allowance in noted.allowances) == writable


def test_for_a_tree_that_does_not_exist_the_directory_above_stays(tmp_path: Path) -> None:
    noted = Noted()
    missing = str(tmp_path / "not" / "yet")
    assert confine_process(noted, [missing], writable=True, strictly=False) == [str(tmp_path)]
    assert noted.trees() == [Allowance(str(tmp_path), writable=True)]


def test_strictly_a_tree_has_to_exist(tmp_path: Path) -> None:
    noted = Noted()
    with pytest.raises(ConfinementImpossible, match="does not exist"):
        confine_process(noted, [str(tmp_path), str(tmp_path / "not yet")], writable=True, strictly=True)
    assert noted.allowances == []


@pytest.mark.parametrize("tree", ["/", "/no such directory at all/r"])
def test_everything_is_nothing_to_confine_to(tree: str) -> None:
    noted = Noted()
    with pytest.raises(ConfinementImpossible, match="nothing to confine the server to"):
        confine_process(noted, [tree], writable=True, strictly=False)
    assert noted.allowances == []


def test_without_any_tree_only_what_python_needs_stays() -> None:
    noted = Noted()
    assert confine_process(noted, [], writable=True, strictly=True) == []
    assert noted.allowances != []
    assert not any(allowance.writable for allowance in noted.allowances)


# --- what the interpreter needs


def test_modules_libraries_and_accounts_can_be_read() -> None:
    files = interpreter_files(not_above=())
    assert os.path.dirname(os.__file__) in files
    assert "/etc/passwd" in files
    mapped = Path("/proc/self/maps").read_text().splitlines()
    libraries = {os.path.dirname(line.split()[-1]) for line in mapped if "libc.so" in line}
    assert libraries
    assert libraries.issubset(files)
    assert any(msgpack.__file__.startswith(f"{path}/") for path in files)


def test_neither_the_current_directory_nor_the_scripts_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, script = tmp_path / "here", tmp_path / "bin"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", [str(script / "borg-serve")])
    monkeypatch.setattr(sys, "path", [str(script), "", str(here), str(tmp_path / "modules"), *sys.path])
    files = interpreter_files(not_above=())
    assert str(tmp_path / "modules") in files
    assert not {"", str(here), str(script)}.intersection(files)


def test_the_modules_beside_one_that_was_started_by_its_name_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "modules" / "borg_serve_cli.py")])
    monkeypatch.setattr(sys, "path", [os.getcwd(), str(tmp_path / "modules"), *sys.path])
    assert str(tmp_path / "modules") in interpreter_files(not_above=())


def test_nothing_above_a_tree_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "backups"), f"{tmp_path}/back", "/", *sys.path])
    files = interpreter_files(not_above=[str(tmp_path / "backups" / "alice")])
    assert not {str(tmp_path), str(tmp_path / "backups"), "/"}.intersection(files)
    assert f"{tmp_path}/back" in files


def test_without_proc_the_rest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("borg_serve_lib.confinement.interpreter._MAPPINGS", "/no such file")
    assert os.path.dirname(os.__file__) in interpreter_files(not_above=())
