"""Real clients for the tests of this folder; a client that is missing and cannot be had is a failure."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from . import sample_data

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load_script(name: str) -> ModuleType:
    """Import one of the project's scripts, which are no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def clients() -> dict[str, Path]:
    """The path of each client, by version; installs and builds what is not there."""
    return load_script("borg_clients").ensure_clients()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to back up, the same for every test."""
    root = tmp_path / "folder"
    root.mkdir()
    sample_data.make_folder(root)
    return root
