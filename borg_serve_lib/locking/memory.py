"""The lock manager in memory, for tests: every lock it hands out is another holder, in whatever thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from ..errors import InvalidArgument, LockTimeout, NotLocked, NotMyLock, WrongState
from ..reporting import Peer, Reporter
from .base import NOBODY, LockManager, LockMode, RepositoryLock, go_on
from .identity import Holder
from .owner import RIVAL, Owner, OwnerRecord, Verdict, describe
from .waiting import Deadline

_RHYTHM = 0.005


@attrs.define
class _Place:
    """Who holds the lock of one repository."""

    readers: set[MemoryLock] = attrs.field(factory=set)
    writer: MemoryLock | None = None
    upgrader: MemoryLock | None = None
    """The first reader that waits to write."""


class MemoryLockManager(LockManager):
    """The twin of FileLockManager, without a disk.

    Stricter: a path must be absolute and in its shortest form, and a lock must not be used by two threads at once. What
    tests want to know at the end is `held()`.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._guard = threading.Lock()
        self._places: dict[str, _Place] = {}

    def lock_for(
        self,
        path: str,
        reporter: Reporter | None = None,  # noqa: ARG002 - no lock goes stale
        *,
        peer: Peer = NOBODY,
        interrupt: Callable[[], None] = go_on,
    ) -> MemoryLock:
        """Return a lock, not yet held. Raises InvalidArgument for a path that two callers might spell differently."""
        if not path.startswith("/") or any(part in ("", ".", "..") for part in path.split("/")[1:]):
            raise InvalidArgument(f"not an absolute path in its shortest form: {path}")
        with self._guard:
            place = self._places.setdefault(path, _Place())

        def sleep(seconds: float) -> None:
            interrupt()
            self._sleep(seconds)

        return MemoryLock(path, place, self._guard, lambda wait: Deadline(wait, self._clock, sleep, _RHYTHM), peer)

    def held(self) -> dict[str, LockMode]:
        """Return the paths that are locked now, and how."""
        with self._guard:
            return {
                path: LockMode.EXCLUSIVE if place.writer else LockMode.SHARED
                for path, place in self._places.items()
                if place.writer or place.readers
            }


class MemoryLock(RepositoryLock):
    """The lock of one repository in memory; made by MemoryLockManager."""

    def __init__(
        self, path: str, place: _Place, guard: threading.Lock, deadline: Callable[[float | None], Deadline], peer: Peer
    ) -> None:
        self.mode = LockMode.NONE
        self.path = f"{path}/lock"
        self._place = place
        self._guard = guard
        self._deadline = deadline
        self._in_use = threading.Lock()
        self._activity = ""
        self._peer = peer

    def acquire(self, mode: LockMode, wait: float | None) -> None:
        if mode is LockMode.NONE:
            raise InvalidArgument("a lock is acquired either shared or exclusive")
        deadline = self._deadline(wait)
        with self._one_thread():
            if self.mode in (mode, LockMode.EXCLUSIVE):
                return
            try:
                while obstacle := self._try(mode):
                    hopeless = self.mode is LockMode.SHARED and self._place.upgrader is not self
                    if hopeless or deadline.passed():
                        others = [owner for lock, owner in self._held() if lock is not self]
                        raise LockTimeout(obstacle, describe(others, RIVAL if hopeless else ""))
                    deadline.pause()
            finally:
                self._upgrade_no_more()

    def downgrade(self) -> None:
        if self.mode is LockMode.NONE:
            raise NotLocked(self.path)
        with self._one_thread(), self._guard:
            if self.mode is LockMode.SHARED:
                return
            if self._place.writer is not self:
                self.mode = LockMode.NONE
                raise (NotMyLock if self._place.writer else NotLocked)(f"{self.path}.exclusive")
            self._place.writer = None
            self._place.readers.add(self)
            self.mode = LockMode.SHARED

    def holds_exclusive(self) -> bool:
        with self._guard:
            return self.mode is LockMode.EXCLUSIVE and self._place.writer is self

    def release(self) -> None:
        with self._one_thread(), self._guard:
            mode, self.mode = self.mode, LockMode.NONE
            self._place.readers.discard(self)
            if mode is not LockMode.EXCLUSIVE:
                return
            if self._place.writer is not self:
                raise (NotMyLock if self._place.writer else NotLocked)(f"{self.path}.exclusive")
            self._place.writer = None

    def note(self, activity: str) -> None:
        self._activity = activity if self.mode is not LockMode.NONE else ""

    def owners(self) -> tuple[Owner, ...]:
        return tuple(owner for _, owner in self._held())

    def break_lock(self) -> None:
        with self._guard:
            self._place.writer = None
            self._place.readers.clear()

    def _held(self) -> list[tuple[MemoryLock, Owner]]:
        with self._guard:
            place = self._place
            held = [place.writer] if place.writer else sorted(place.readers, key=id)
            return [(lock, lock._as_owner()) for lock in held]

    def _as_owner(self) -> Owner:
        user, client = self._peer.client or self._peer.user, self._peer.address
        record = OwnerRecord(mode=self.mode.value, activity=self._activity, user=user, client=client)
        return Owner(Holder("memory", id(self), 0), self.mode, Verdict.ALIVE, record)

    def _try(self, mode: LockMode) -> str | None:
        """Take the lock if nobody is in the way, else return the path that LockTimeout names."""
        with self._guard:
            place = self._place
            if place.writer:
                return f"{self.path}.exclusive"
            if mode is LockMode.SHARED:
                place.readers.add(self)
            elif place.readers - {self}:
                if self in place.readers and place.upgrader is None:
                    place.upgrader = self
                return self.path
            else:
                place.readers.discard(self)
                place.writer = self
            self.mode = mode
            return None

    def _upgrade_no_more(self) -> None:
        with self._guard:
            if self._place.upgrader is self:
                self._place.upgrader = None

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise WrongState("this lock is in use by another thread")
        try:
            yield
        finally:
            self._in_use.release()
