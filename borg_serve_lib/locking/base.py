"""The lock ports: what the engine needs from whoever keeps repositories from being used by two at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from types import TracebackType

from ..errors import LockError, NotLocked
from ..reporting import Peer, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .owner import Owner

NOBODY = Peer()
"""Whom a lock is for when nobody has said it."""


def go_on() -> None:
    """Let whoever waits for a lock go on with that."""


class LockMode(Enum):
    """How a lock is held."""

    NONE = "none"
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class RepositoryLock(ABC):
    """The lock of one repository, as one holder sees it (spec: repository-format.md section 9)."""

    path: str
    """The lock's: `<repository>/lock`."""
    mode: LockMode
    """How it is held now."""

    @abstractmethod
    def acquire(self, mode: LockMode, wait: float | None) -> None:
        """Take the lock as `mode` (SHARED or EXCLUSIVE).

        A lock that is held already is left as it is, except that EXCLUSIVE makes a shared one exclusive (`upgrade`).
        `wait`: seconds to wait for others, 0 tries once, None waits for ever. Raises LockTimeout, LockFailed, and
        InvalidArgument for a negative `wait`; after these and any other exception it is held as it was before.
        """

    def upgrade(self, wait: float | None) -> None:
        """Make a shared lock exclusive; it stays shared when that fails. An exclusive one is left as it is.

        Raises LockTimeout, LockFailed, NotLocked (not held at all).
        """
        if self.mode is LockMode.NONE:
            raise NotLocked(self.path)
        self.acquire(LockMode.EXCLUSIVE, wait)

    @abstractmethod
    def downgrade(self) -> None:
        """Make an exclusive lock shared, with nobody in between; a shared one is left as it is.

        Raises NotLocked (not held at all); NotLocked or NotMyLock when it was taken away meanwhile: it is not held
        then; LockFailed, after which `mode` tells how it is held. After any other exception it is shared.
        """

    @abstractmethod
    def holds_exclusive(self) -> bool:
        """Return whether the lock is held exclusively *and* nobody has broken it since: looks at the lock itself."""

    @abstractmethod
    def note(self, activity: str) -> None:
        """Let those who wait for this lock know what takes it long ("" for nothing special), if it is held."""

    @abstractmethod
    def owners(self) -> tuple[Owner, ...]:
        """Return who holds the lock now, this process included: a writer, or all readers (those of another process may
        count as one). Raises LockFailed.
        """

    @abstractmethod
    def release(self) -> None:
        """Give the lock back. A lock that is not held is left alone.

        Raises NotLocked or NotMyLock when it was taken away meanwhile, LockFailed or LockTimeout when the lock files
        cannot be changed; it counts as released even so.
        """

    @abstractmethod
    def break_lock(self) -> None:
        """Remove the lock of whoever holds it (spec: repository-format.md section 9.5). Raises LockFailed."""


class LockManager(ABC):
    """Hands out the locks of repositories."""

    @abstractmethod
    def lock_for(
        self,
        path: str,
        reporter: Reporter | None = None,
        *,
        peer: Peer = NOBODY,
        interrupt: Callable[[], None] = go_on,
    ) -> RepositoryLock:
        """Return a lock, not yet held, for the repository directory at the absolute `path`.

        `reporter`: is told of what this lock meets; None for whoever the manager was made to tell. `peer`: whom it is
        for, which others are told who wait for it: what the host calls him, else his account, and his address.
        `interrupt`: is called whenever `acquire` has to wait, several times a second; what it raises ends the waiting.
        """

    def shared(self, path: str, *, wait: float | None) -> HeldLock:
        """Return a context in which the repository directory at `path` is locked as by a reader.

        `wait` and what entering it raises: see `RepositoryLock.acquire`; leaving it: see `RepositoryLock.release`.
        """
        return HeldLock(self.lock_for(path), LockMode.SHARED, wait)

    def exclusive(self, path: str, *, wait: float | None) -> HeldLock:
        """Return a context in which the repository directory at `path` is locked as by a writer; as `shared`."""
        return HeldLock(self.lock_for(path), LockMode.EXCLUSIVE, wait)


class HeldLock:
    """A context in which a lock is held. An exception from within is never replaced by one from the release."""

    def __init__(self, lock: RepositoryLock, mode: LockMode, wait: float | None) -> None:
        self._lock = lock
        self._mode = mode
        self._wait = wait

    def __enter__(self) -> RepositoryLock:
        self._lock.acquire(self._mode, self._wait)
        return self._lock

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._lock.release()
        except LockError:
            if error is None:
                raise
