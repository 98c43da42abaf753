"""Keys and values in a file without a name, an SQLite database: for more of them than memory is for.

To look a key up and set it takes 10 us.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress

from ..errors import NoSpace, StorageError
from .base import ScratchMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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


class DatabaseMap(ScratchMap):
    """The map in a database."""

    def __init__(self, path: str) -> None:
        """`path`: where no file is; none is there afterwards either. Raises StorageError."""
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _storage_error(error) from None
        try:
            for setting in _SETTINGS:
                self._run(f"PRAGMA {setting}")
            self._run("CREATE TABLE map (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
            self._run("BEGIN")
        except BaseException:
            self._database.close()
            raise
        finally:
            with suppress(OSError):
                os.unlink(path)

    def _run(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _storage_error(error) from None

    def __len__(self) -> int:
        return int(self._run("SELECT count(*) FROM map")[0][0])

    def get(self, key: bytes) -> bytes | None:
        found = self._run("SELECT value FROM map WHERE key = ?", (key,))
        return found[0][0] if found else None

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._run("INSERT OR REPLACE INTO map VALUES (?, ?)", (key, value))

    def __delitem__(self, key: bytes) -> None:
        self._run("DELETE FROM map WHERE key = ?", (key,))

    def extend(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        try:
            self._database.executemany("INSERT OR IGNORE INTO map VALUES (?, ?)", items)
        except sqlite3.Error as error:
            raise _storage_error(error) from None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        after = b""
        while rows := self._run("SELECT * FROM map WHERE key > ? ORDER BY key LIMIT ?", (after, _BATCH)):
            yield from rows
            after = rows[-1][0]

    def close(self) -> None:
        self._database.close()

    def __del__(self) -> None:
        if hasattr(self, "_database"):
            self._database.close()


def _storage_error(error: sqlite3.Error) -> StorageError:
    if "disk is full" in str(error):
        return NoSpace(errno.ENOSPC, os.strerror(errno.ENOSPC), "")
    return StorageError(errno.EIO, os.strerror(errno.EIO), "")
