"""What the tests of this folder back up."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import sample_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to back up, the same for every test."""
    root = tmp_path / "folder"
    root.mkdir()
    sample_data.make_folder(root)
    return root
