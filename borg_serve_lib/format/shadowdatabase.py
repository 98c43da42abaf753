"""The segments of more objects' superseded PUTs than memory is for: an SQLite file that goes with the session.

To look an object up and change it takes 10 us, where a ShadowTable takes 2.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from array import array

from ..errors import NoSpace, StorageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Final

_SETTINGS: Final = (
    # Nobody else uses the file, and nobody reads it after a crash.
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "temp_store = MEMORY",
    "cache_size = -16384",  # KiB of the file kept in memory
)

_BATCH: Final = 1024


class ShadowDatabase:
    """As a dict of object id -> segments, in the order of the ids."""

    def __init__(self, path: str) -> None:
        """`path`: where no file is; none is there afterwards either. Raises StorageError."""
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _storage_error(error) from None
        try:
            for setting in _SETTINGS:
                self._run(f"PRAGMA {setting}")
            self._run("CREATE TABLE shadows (id BLOB PRIMARY KEY, segments BLOB) WITHOUT ROWID")
            self._run("BEGIN")
        finally:
            os.unlink(path)

    def __del__(self) -> None:
        if hasattr(self, "_database"):
            self._database.close()

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _storage_error(error) from None

    def __len__(self) -> int:
        return int(self._run("SELECT count(*) FROM shadows")[0][0])

    def get(self, object_id: bytes) -> Sequence[int] | None:
        """Return the segments, None if there is no such object."""
        found = self._run("SELECT segments FROM shadows WHERE id = ?", (object_id,))
        return _unpacked(found[0][0]) if found else None

    def __setitem__(self, object_id: bytes, segments: Sequence[int]) -> None:
        self._run("INSERT OR REPLACE INTO shadows VALUES (?, ?)", (object_id, _packed(segments)))

    def __delitem__(self, object_id: bytes) -> None:
        self._run("DELETE FROM shadows WHERE id = ?", (object_id,))

    def extend(self, ids: Iterable[bytes], lists: Iterable[Sequence[int]]) -> None:
        """Add objects that are not there yet."""
        rows = zip(ids, map(_packed, lists), strict=True)
        try:
            self._database.executemany("INSERT OR IGNORE INTO shadows VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise _storage_error(error) from None

    def remove_empty(self) -> None:
        """Remove the objects without any segment."""
        self._run("DELETE FROM shadows WHERE length(segments) = 0")

    def values(self) -> Iterator[Sequence[int]]:
        """Yield the segments of all objects that have any."""
        return (segments for _, segments in self.items() if segments)

    def items(self) -> Iterator[tuple[bytes, Sequence[int]]]:
        """Yield the objects with their segments; these may be changed meanwhile."""
        after = b""
        while rows := self._run("SELECT * FROM shadows WHERE id > ? ORDER BY id LIMIT ?", (after, _BATCH)):
            for object_id, segments in rows:
                yield object_id, _unpacked(segments)
            after = rows[-1][0]


def _packed(segments: Sequence[int]) -> bytes:
    return array("I", segments).tobytes()


def _unpacked(segments: bytes) -> tuple[int, ...]:
    return tuple(array("I", segments))


def _storage_error(error: sqlite3.Error) -> StorageError:
    if "disk is full" in str(error):
        return NoSpace(errno.ENOSPC, os.strerror(errno.ENOSPC), "hints")
    return StorageError(errno.EIO, os.strerror(errno.EIO), "hints")
