"""The lock ports: what the engine needs from whoever keeps repositories from being used by two at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum


class LockMode(Enum):
    """How a lock is held."""

    NONE = "none"
    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class RepositoryLock(ABC):
    """The lock of one repository, as one holder sees it (spec: repository-format.md section 9)."""

    mode: LockMode
    """How it is held now."""

    @abstractmethod
    def acquire(self, mode: LockMode, wait: float | None) -> None:
        """Take the lock as `mode` (SHARED or EXCLUSIVE).

        `wait`: seconds to wait for others, 0 tries once, None waits for ever. Raises LockTimeout, LockFailed.
        """

    @abstractmethod
    def upgrade(self, wait: float | None) -> None:
        """Make a shared lock exclusive; it stays shared when that fails. An exclusive one is left as it is.

        Raises LockTimeout, LockFailed, NotLocked (not held at all).
        """

    @abstractmethod
    def holds_exclusive(self) -> bool:
        """Return whether the lock is held exclusively *and* nobody has broken it since: looks at the lock itself."""

    @abstractmethod
    def release(self) -> None:
        """Give the lock back. A lock that is not held is left alone.

        Raises NotLocked or NotMyLock when it was taken away meanwhile; it counts as released even so.
        """

    @abstractmethod
    def break_lock(self) -> None:
        """Remove the lock of whoever holds it (spec: repository-format.md section 9.5). Raises LockFailed."""


class LockManager(ABC):
    """Hands out the locks of repositories."""

    @abstractmethod
    def lock_for(self, path: str) -> RepositoryLock:
        """Return a lock, not yet held, for the repository directory at the absolute `path`."""
