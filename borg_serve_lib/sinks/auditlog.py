"""An audit log: one line of JSON for each event."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from contextlib import suppress

from ..errors import UsageError
from .base import Sink
from .hostlog import tell_host
from .record import dropped_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from .record import Record

_MODE: Final = 0o640
_MOMENT: Final = 0.01
"""Seconds in which a line is written."""
_FLAGS: Final = os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


class AuditLog(Sink):
    """Appends records to a file, each with one system call, so that many processes can share it.

    A file that was moved away or removed is opened anew. What cannot be written (a full disk, a missing directory) is
    dropped and counted; the first time, and when it works again, that is told to syslog and to the log itself. Of a
    record that the disk had room for only in part nothing stays; what a crash has cut off gets a line of its own.
    """

    def __init__(self, path: str, *, complain: Callable[[str], None] = tell_host, **clock: Callable[[], float]) -> None:
        """`complain`: is told once that nothing can be written. Raises UsageError if `path` cannot be appended to."""
        super().__init__(**clock)
        self._path = path
        self._complain = complain
        self._dropped = 0
        self._doubtful = True  # whether the file ends with a line
        try:
            self._descriptor = _open(path)
        except OSError as error:
            raise UsageError(_cannot_be_written(path, error)) from None

    def write(self, record: Record) -> None:
        try:
            self._follow_rotation()
            # Both or none: a full disk may have room for the shorter one, time and again.
            self._append([dropped_record(record, self._dropped), record] if self._dropped else [record])
            self._dropped = 0
        except OSError as error:
            if not self._dropped:
                self._complain(_cannot_be_written(self._path, error))
            self._dropped += 1

    def _follow_rotation(self) -> None:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if self._descriptor >= 0:
            own = os.fstat(self._descriptor)
            if there is not None and (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
                return
            self.close()
        self._descriptor = _open(self._path)
        self._doubtful = True

    def _append(self, records: list[Record]) -> None:
        lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        if self._doubtful and self._ends_torn():
            lines = b"\n" + lines
        self._doubtful = True
        written = os.write(self._descriptor, lines)
        if written < len(lines):
            self._take_back(written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._doubtful = False

    def _ends_torn(self) -> bool:
        """Return whether what is last in the file is no whole line, as far as this account may see."""
        for look in range(2):
            time.sleep(_MOMENT * look)  # another process may be writing it right now
            size = os.fstat(self._descriptor).st_size
            with suppress(OSError):
                if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                    continue
            return False
        return True

    def _take_back(self, written: int) -> None:
        """Remove the bytes just written, unless somebody has written behind them."""
        end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if os.fstat(self._descriptor).st_size == end:
            os.ftruncate(self._descriptor, end - written)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def demand_appendable(path: str) -> None:
    """Raise UsageError if there is no log at `path` that this account can append to, nor can be made; nothing is."""
    try:
        if os.path.lexists(path):
            os.close(_open(path, making=False))
        elif not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "no file can be made there")
    except OSError as error:
        raise UsageError(_cannot_be_written(path, error)) from None


def _cannot_be_written(path: str, error: OSError) -> str:
    return f"the audit log {path!r} cannot be written: {error.strerror}"


def _open(path: str, *, making: bool = True) -> int:
    flags = _FLAGS | (os.O_CREAT if making else 0)
    try:
        descriptor = os.open(path, flags | os.O_RDWR, _MODE)
    except PermissionError:  # an account that may write and not read
        descriptor = os.open(path, flags | os.O_WRONLY, _MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is no regular file")
    return descriptor
