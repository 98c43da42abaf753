"""The file `lock.roster`: read and written in place, only while holding the lock directory (spec: section 9.3)."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ..errors import LockFailed
from ..events.locks import StaleRosterEntryRemoved
from ..reporting import Reporter
from .base import LockMode
from .identity import Holder
from .inplace import overwrite
from .judge import Judge
from .leasefiles import LeaseFiles
from .owner import Verdict
from .roster import Roster, examine_roster, render_roster

_MOST_BYTES = 1 << 20
"""Some 20,000 holders. Something larger is no roster, and who is in it cannot be told."""

_CAREFULLY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""Neither led out of the repository by a symbolic link, nor kept waiting by a pipe."""


class NoRoomForRoster(LockFailed):
    """The disk is too full for the roster to grow."""


class RosterFile:
    """The roster beside the lock `lock_path` (`<repository>/lock`)."""

    def __init__(self, lock_path: str, judge: Judge, reporter: Reporter, leases: LeaseFiles) -> None:
        self.path = lock_path + ".roster"
        self._leases = leases
        self._lock_path = lock_path
        self._judge = judge
        self._reporter = reporter
        self._bytes: bytes | None = None  # as in the file; None: there is no file
        self._parsed: tuple[bytes | None, Roster, bool] = (None, Roster(), True)

    def load(self) -> Roster:
        """Return the roster without the entries of the dead, each of which is reported.

        A missing file is no error, nor is a damaged one (see `parse_roster`): all those count as readers then who keep
        a lease that says so. Raises LockFailed if it cannot be read at all, or it cannot be told who they are.
        """
        roster = self.read()
        return roster.without(self._dead("shared", roster.shared) | self._dead("exclusive", roster.exclusive))

    def read(self) -> Roster:
        """As `load`, with the entries of the dead; nothing is reported. Raises LockFailed."""
        try:
            self._bytes = self._read()
        except OSError as error:
            raise LockFailed(self._lock_path, str(error)) from error
        if self._parsed[0] != self._bytes:
            # Who has broken the lock has removed the file: nobody is to be found again then.
            found = (Roster(), True) if self._bytes is None else examine_roster(self._bytes)
            self._parsed = (self._bytes, *found)
        _, roster, is_whole = self._parsed
        return roster if is_whole else Roster(roster.shared | self._readers_by_lease(), roster.exclusive)

    def store(self, roster: Roster) -> None:
        """Make the file say `roster`; an empty one has no file. Must follow a `load`.

        Needs no new block unless the file is new or grows past its last block (on a file system that writes in place).
        Raises NoRoomForRoster, LockFailed; the file is then as it was before.
        """
        try:
            if not roster:
                self.delete()
            else:
                self._write(render_roster(roster))
        except OSError as error:
            kind = NoRoomForRoster if error.errno in (errno.ENOSPC, errno.EDQUOT) else LockFailed
            raise kind(self._lock_path, str(error)) from error
        self._parsed = (self._bytes, roster, True)

    def delete(self) -> None:
        """Remove the file if there is one. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        self._bytes = None

    def _readers_by_lease(self) -> frozenset[Holder]:
        try:
            return self._leases.keepers(LockMode.SHARED)
        except OSError as error:
            raise LockFailed(self._lock_path, f"a damaged roster, and {error}") from error

    def _dead(self, kind: str, holders: frozenset[Holder]) -> frozenset[Holder]:
        dead = frozenset(holder for holder in holders if self._judge.judge(holder) is Verdict.DEAD)
        for holder in dead:
            self._reporter.report(StaleRosterEntryRemoved(kind, holder.host, holder.pid, holder.thread))
        return dead

    def _read(self) -> bytes | None:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | _CAREFULLY)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", self.path)
            if status.st_size > _MOST_BYTES:
                raise OSError(errno.EFBIG, f"more than {_MOST_BYTES} bytes", self.path)
            return os.read(descriptor, _MOST_BYTES)
        finally:
            os.close(descriptor)

    def _write(self, data: bytes) -> None:
        if data == self._bytes:
            return
        before, self._bytes = self._bytes, b""  # not known while it is being written
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | _CAREFULLY, 0o666)
        try:
            try:
                overwrite(descriptor, data)
            except BaseException:
                self._put_back(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        self._bytes = data

    def _put_back(self, descriptor: int, before: bytes | None) -> None:
        with suppress(OSError):
            if before is None:
                self.delete()
            else:
                overwrite(descriptor, before)
                self._bytes = before
