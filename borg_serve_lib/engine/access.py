"""What the lock of a session lets it write.

Source: spec, rpc.md section 3.1 (exclusive), repository-format.md section 11.
"""

from __future__ import annotations

from contextlib import contextmanager

from ..errors import WrongState
from ..locking.base import LockMode, RepositoryLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class WriteAccess:
    """What the session's lock lets it write.

    `lock` None: the session does not lock; then it may write the key and nonces, as borg's clients do, but no
    transaction. `upgrades`: a shared lock becomes exclusive at the first write; `wait`: seconds to wait for that, None
    for ever.
    """

    def __init__(self, lock: RepositoryLock | None, *, upgrades: bool, wait: float | None) -> None:
        self._lock = lock
        self._upgrades = upgrades
        self._wait = wait

    @property
    def locking(self) -> bool:
        """Whether the session locks at all."""
        return self._lock is not None

    def holds(self) -> bool:
        """Return whether nobody else can be using the repository: the lock is exclusive, and was not broken."""
        return self._lock is not None and self._lock.holds_exclusive()

    def require(self, *, recovering: bool = False) -> bool:
        """Make sure that nobody else uses the repository; return whether the lock had to be upgraded for it.

        `recovering`: index and hints are to be made anew, for which a reader's lock is upgraded too.
        Raises WrongState, LockTimeout, LockFailed.
        """
        lock = self._lock
        if lock is None or lock.holds_exclusive():
            return False
        if lock.mode is LockMode.SHARED and (self._upgrades or recovering):
            lock.upgrade(self._wait)
            return True
        if lock.mode is LockMode.SHARED:
            raise WrongState("this session opened the repository for reading and may not write to it")
        raise WrongState("the lock of this session was removed by somebody else: nothing more is written")

    @contextmanager
    def busy(self, activity: str) -> Iterator[None]:
        """Return a context in which those who wait for the lock are told that this is what takes long."""
        if self._lock is not None:
            self._lock.note(activity)
        try:
            yield
        finally:
            if self._lock is not None:
                self._lock.note("")
