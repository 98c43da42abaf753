"""The lease files of one repository, as seen by whoever finds a lock: `<repository>/lock.lease.<holder>`.

They lie beside borg's lock files; native borg leaves them alone. What they are for: see lease.py.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from enum import Enum
from io import FileIO

from .base import LockMode
from .identity import Holder, Identity, parse_lock_name
from .owner import OwnerRecord, parse_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPEN_LEASE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

LEASE_PREFIX = "lock.lease."
_RECORD_LIMIT = 4096


class LeaseState(Enum):
    """What a lease file says of its holder's life."""

    ABSENT = "there is none"
    KEPT = "somebody keeps it locked"
    FREE = "nobody keeps it locked, which proves that its holder is dead"
    EMPTY = "nobody keeps it locked, and nobody has written to it: it proves nothing, and anybody may remove it"
    UNCLEAR = "it proves nothing"
    UNREAD = "it could not be looked at just now, and its holder may be alive"


_NO_LEASE = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
"""What opening fails with where something else than a lease of ours lies, or one that others are not shown."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""What locking fails with on a file system without locks. All else, such as too many open files, says nothing."""

OBTAINABLE = (LeaseState.FREE, LeaseState.EMPTY)


class LeaseFiles:
    """The lease files of one repository."""

    def __init__(self, repository: str, identity: Identity, is_local_disk: Callable[[str], bool]) -> None:
        """`is_local_disk`: whether the file system of a path is on a disk of this machine."""
        self.repository = repository
        self._identity = identity
        self._is_local_disk = is_local_disk

    def path_of(self, holder: Holder) -> str:
        """Return the path of a holder's lease. Raises ValueError for a name that is no file's: rosters are writable."""
        if "/" in holder.lock_name or "\0" in holder.lock_name:
            raise ValueError("a host id with a slash or NUL cannot be part of a file name")
        return f"{self.repository}/{LEASE_PREFIX}{holder.lock_name}"

    def look(self, holder: Holder) -> tuple[LeaseState, FileIO | None]:
        """Return the state of a lease and, if FREE or EMPTY, an open file that keeps it locked from now on."""
        try:
            path = self.path_of(holder)
            file = opened_lease(path)
        except FileNotFoundError:
            return LeaseState.ABSENT, None
        except ValueError:
            return LeaseState.UNCLEAR, None
        except OSError as error:
            return LeaseState.UNCLEAR if error.errno in _NO_LEASE else LeaseState.UNREAD, None
        try:
            state = self._state(path, file.fileno())
        except BaseException:
            file.close()
            raise
        if state in OBTAINABLE:
            return state, file
        file.close()
        return state, None

    @contextmanager
    def grip(self, holder: Holder) -> Iterator[LeaseState]:
        """Return a context with the state of the lease of `holder`; one that is FREE or EMPTY stays so."""
        state, file = self.look(holder)
        try:
            yield state
        finally:
            if file is not None:
                file.close()

    def discard(self, holder: Holder) -> None:
        """Remove the lease of `holder`, whatever it proves, unless somebody keeps it locked. Raises OSError."""
        try:
            path = self.path_of(holder)
        except ValueError:
            return
        with opened_lease(path) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and flock(file.fileno()) and is_at(path, file.fileno()):
                os.unlink(path)

    def record(self, holder: Holder) -> OwnerRecord | None:
        """Return what `holder` says of itself, None if it says nothing."""
        try:
            descriptor = os.open(self.path_of(holder), OPEN_LEASE)
        except (OSError, ValueError):
            return None
        try:
            return _read_record(descriptor)
        finally:
            os.close(descriptor)

    def keepers(self, mode: LockMode) -> frozenset[Holder]:
        """Return all who keep a lease and say there that they hold the lock as `mode`: for want of lock files that do.

        Raises OSError if one of them cannot be looked at just now.
        """
        found = set()
        for name in os.listdir(self.repository):
            holder = parse_lock_name(name[len(LEASE_PREFIX) :]) if name.startswith(LEASE_PREFIX) else None
            if holder is None:
                continue
            with self.grip(holder) as state:
                if state is LeaseState.UNREAD:
                    raise OSError(errno.EIO, "its owner may be alive", name)
                if state is LeaseState.KEPT and (record := self.record(holder)) and record.mode == mode.value:
                    found.add(holder)
        return frozenset(found)

    def is_local(self) -> bool:
        """Return whether the repository is on a disk of this machine."""
        return self._is_local_disk(self.repository)

    def _state(self, path: str, descriptor: int) -> LeaseState:
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return LeaseState.UNCLEAR
            if not flock(descriptor) or not is_at(path, descriptor):  # or another one is in its place by now
                return LeaseState.KEPT
        except OSError as error:
            return LeaseState.UNCLEAR if error.errno in _NO_LOCKS else LeaseState.UNREAD
        if not os.fstat(descriptor).st_size:
            return LeaseState.EMPTY
        return LeaseState.FREE if self._locks_tell(descriptor) else LeaseState.UNCLEAR

    def _locks_tell(self, descriptor: int) -> bool:
        """Return whether all processes that could keep this file locked have their locks where we see them.

        Network file systems may keep the locks of each machine, or of each mount, to themselves.
        """
        record, here = _read_record(descriptor), self._identity.boot_id
        if record is None or not here:
            return False
        if record.boot == here and record.device == os.fstat(descriptor).st_dev:
            return True
        # The number of a disk changes when it is mounted anew. And of a disk that one machine has and others reach
        # through it, each would see its own locks alone.
        return record.local and self.is_local()


def opened_lease(path: str, flags: int = 0) -> FileIO:
    """Open a lease. Raises OSError.

    A signal handler may raise an exception between any two steps of ours, also between the last one and the closing of
    a file. A number would be lost by that, and what it has locked stay locked until this process ends: a dead owner's
    lease would be kept. So whoever has locked a file holds it by an object, of which the interpreter closes what it
    drops; nothing of ours relies on that otherwise.
    """
    return FileIO(os.open(path, OPEN_LEASE | flags, 0o666), "r+")


def is_at(path: str, descriptor: int) -> bool:
    """Return whether the open file is what lies at `path`."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def flock(descriptor: int) -> bool:
    """Lock an open file exclusively; return whether nobody else has it locked. Raises OSError, see _NO_LOCKS.

    It is what portalocker does on POSIX. Importing that takes 40 ms and 9 MB, though, with a session up in 34 ms and
    14 MB, and fails in a confined process, because it looks for a directory for temporary files.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_record(descriptor: int) -> OwnerRecord | None:
    try:
        return parse_record(os.pread(descriptor, _RECORD_LIMIT, 0))
    except OSError:
        return None
