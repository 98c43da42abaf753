"""The lease behind a lock: a file that stays locked for as long as the process that has the lock lives.

A lock whose lease nobody keeps locked any more has a dead owner, whatever the host id, process id, container or number
of reboots: the kernel gives a file's lock back when the last process ends that has it. (A child made by fork counts,
until it ends or executes another program.) A lock without lease is native borg's and judged by borg's rules.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ..errors import LockFailed
from ..events.locks import NoLease
from .inplace import overwrite
from .leasefiles import OPEN_LEASE, LeaseFiles, LeaseState, is_at
from .owner import OwnerRecord, render_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reporting import Reporter
    from .identity import Holder, Identity

_NAMES = 64
"""How many processes may have the same host id and process id: containers that were all given one BORG_HOST_ID."""

_LOOKS = 4
_BETWEEN_LOOKS = 0.01
"""Seconds. A lease that was only looked at is free again by then."""


def flock(descriptor: int) -> bool:
    """Lock an open file exclusively; return whether nobody else has it locked. Raises OSError where nothing can be.

    It is what portalocker does on POSIX. Importing that takes 40 ms and 9 MB, though, and a session is up in 34 ms and
    14 MB. So our own lease is locked like this; where somebody else's is found, which is seldom, portalocker comes in.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Lease:
    """The lease of this process for one repository, shared by all its locks of that repository, in any threads.

    `holder`: under which name it is held, None if it is not. `took_over`: whether it was a dead predecessor's with the
    same name: what locks carry that name are not another process's then.
    """

    def __init__(
        self,
        files: LeaseFiles,
        identity: Identity,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        lock: Callable[[int], bool] = flock,
    ) -> None:
        """`now`: seconds since the epoch. `sleep`: takes seconds. `lock`: see flock."""
        import _thread

        self.files = files
        self.holder: Holder | None = None
        self.took_over = False
        self._identity = identity
        self._now = now
        self._sleep = sleep
        self._lock = lock
        self._users: set[object] = set()
        self._path = ""
        self._descriptor = -1
        self._since = 0.0
        self._mutex = _thread.RLock()

    def join(self, user: object, reporter: Reporter) -> Holder:
        """Take the lease for the lock `user`, unless another lock has done so; return as whom to take the lock.

        `reporter` is told if this disk knows no leases. Raises LockFailed when there are too many of that name; call
        `leave` even so.
        """
        with self._mutex:
            self._users.add(user)
            if self.holder is not None and self.holder.pid == self._identity.pid():
                return self.holder
            self._forget()  # what there is was the parent's, before a fork
            self._users = {user}
            self._since = self._now()
            return self._take(reporter)

    def leave(self, user: object) -> None:
        """Give the lease up for the lock `user`; it ends with its last user."""
        with self._mutex:
            self._users.discard(user)
            if not self._users:
                self._drop()

    def tell(self, mode: str, activity: str = "") -> None:
        """Note in the lease how the lock is held (or "waiting"), and what takes long just now; as far as possible."""
        with self._mutex, suppress(OSError):
            if self._descriptor >= 0:
                record = OwnerRecord(
                    started=self._identity.started,
                    since=self._since,
                    boot=self._identity.boot_id,
                    device=os.fstat(self._descriptor).st_dev,
                    mode=mode,
                    activity=activity,
                    user=self._identity.user,
                    client=self._identity.client,
                )
                overwrite(self._descriptor, render_record(record))

    def _take(self, reporter: Reporter) -> Holder:
        holder = self._identity.holder()
        for thread in range(_NAMES):
            candidate = holder.evolve(thread=thread)
            if self._try(candidate, reporter):
                self.holder = candidate
                return candidate
        raise LockFailed(
            f"{self.files.repository}/lock",
            f"{_NAMES} processes {holder.pid} of host {holder.host} use it: give each machine its own BORG_HOST_ID",
        )

    def _try(self, candidate: Holder, reporter: Reporter) -> bool:
        """Take the lease under that name; return whether the name may be used (with or without a lease)."""
        self._path = self.files.path_of(candidate)
        for _ in range(_LOOKS):
            try:
                self._descriptor = os.open(self._path, OPEN_LEASE | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                state, self._descriptor = self.files.look(candidate)
                if state is LeaseState.FREE:
                    self.took_over = True
                    return True
                if state is LeaseState.UNCLEAR:
                    return False
                self._sleep(_BETWEEN_LOOKS)
            except (OSError, ValueError) as error:
                reporter.report(NoLease(getattr(error, "strerror", None) or str(error)))
                return True
            else:
                obstacle = self._obstacle()
                if obstacle is None:
                    return True
                self._forget()
                if obstacle:
                    with suppress(OSError):
                        os.unlink(self._path)
                    reporter.report(NoLease(obstacle))
                    return True
        return False

    def _obstacle(self) -> str | None:
        """Lock the new lease; return None if it is ours, "" if somebody was quicker, else why locks do not work."""
        try:
            if not self._lock(self._descriptor) or not is_at(self._path, self._descriptor):
                return ""
            other = os.open(self._path, OPEN_LEASE)
            try:
                return "a lock does not keep others out" if self._lock(other) else None
            finally:
                os.close(other)
        except OSError as error:
            return error.strerror or str(error)

    def _drop(self) -> None:
        with suppress(OSError):
            if self._descriptor >= 0 and self._lock(self._descriptor) and is_at(self._path, self._descriptor):
                os.unlink(self._path)
        self._forget()

    def _forget(self) -> None:
        """Close the file, which does not end the lease of a parent."""
        descriptor, self._descriptor = self._descriptor, -1
        self.holder, self.took_over = None, False
        if descriptor >= 0:
            os.close(descriptor)
