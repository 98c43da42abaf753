"""What the tests of this folder back up, and what they may not leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.locking.support import lock_files

from . import sample_data


@pytest.fixture(autouse=True)
def _no_lock_is_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Fail if a repository of the stage has a lock, a lease or a mark in the end, unless marked `leaves_locks`."""
    yield
    if request.node.get_closest_marker("leaves_locks") is None:
        assert lock_files(tmp_path / "backups") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to back up, the same for every test."""
    root = tmp_path / "folder"
    root.mkdir()
    sample_data.make_folder(root)
    return root
