"""After each test no lock is left behind, except where the test says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import lock_files


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if the test leaves a lock, a lease or a mark of a waiting writer; those marked `leaves_locks` may."""
    path: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    yield
    if path is not None and request.node.get_closest_marker("leaves_locks") is None:
        assert lock_files(path) == []
