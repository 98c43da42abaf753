"""An audit log: one line of JSON for each event."""

from __future__ import annotations

import json
import os
import stat

from ..errors import UsageError
from .base import Sink
from .hostlog import tell_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from .record import Record

_MODE: Final = 0o640
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class AuditLog(Sink):
    """Appends records to a file, each with one system call, so that many processes can share it.

    A file that was moved away or removed is opened anew. What cannot be written (a full disk, a missing directory) is
    dropped and counted; the first time, and when it works again, that is told to syslog and to the log itself.
    """

    def __init__(self, path: str, *, complain: Callable[[str], None] = tell_host, **clock: Callable[[], float]) -> None:
        """`complain`: is told once that nothing can be written. Raises UsageError if `path` cannot be appended to."""
        super().__init__(**clock)
        self._path = path
        self._complain = complain
        self._dropped = 0
        self._torn = False
        try:
            self._descriptor = _open(path)
        except OSError as error:
            raise UsageError(f"the audit log {path!r} cannot be written: {error.strerror}") from None

    def write(self, record: Record) -> None:
        try:
            self._follow_rotation()
            if self._dropped:
                self._append({"time": record["time"], "event": "records-dropped", "count": self._dropped})
                self._dropped = 0
            self._append(record)
        except OSError as error:
            if not self._dropped:
                self._complain(f"the audit log {self._path!r} cannot be written: {error.strerror}")
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
        self._torn = False

    def _append(self, record: Record) -> None:
        line = json.dumps(record).encode() + b"\n"
        if self._torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._torn = written < len(line)
        if self._torn:
            raise OSError(0, "the disk is full")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open(path: str) -> int:
    descriptor = os.open(path, _FLAGS, _MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "it is no regular file")
    return descriptor
