"""Maps in a database: what can go wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_serve_lib.errors import NoSpace, StorageError
from borg_serve_lib.storage.scratchmap import DatabaseMap


@pytest.fixture
def scratch(tmp_path: Path) -> DatabaseMap:
    return DatabaseMap(str(tmp_path / "map"))


def test_it_has_no_name(scratch: DatabaseMap, tmp_path: Path) -> None:
    scratch[b"key"] = b"value"
    assert list(tmp_path.iterdir()) == []


def test_a_map_that_the_disk_has_no_room_for_says_so(scratch: DatabaseMap) -> None:
    scratch._run("PRAGMA max_page_count = 3")
    with pytest.raises(NoSpace):
        scratch[b"key"] = bytes(12_000)
    with pytest.raises(NoSpace):
        scratch.extend((number.to_bytes(32, "big"), b"") for number in range(1000))


def test_whatever_else_goes_wrong_is_an_error_that_tells_no_path(scratch: DatabaseMap, tmp_path: Path) -> None:
    scratch._run("DROP TABLE map")
    with pytest.raises(StorageError) as failure:
        scratch.get(b"key")
    assert (failure.value.reason, failure.value.name) == ("Input/output error", "")
    with pytest.raises(StorageError):
        scratch.extend([(b"key", b"value")])
    with pytest.raises(StorageError):
        DatabaseMap(str(tmp_path / "missing" / "map"))


def test_what_has_failed_to_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatabaseMap, "_run", lambda self, statement: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        DatabaseMap(str(tmp_path / "map"))
    assert list(tmp_path.iterdir()) == []
