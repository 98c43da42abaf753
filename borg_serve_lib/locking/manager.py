"""The lock manager for repositories on disk: borg's lock files, exactly (spec: repository-format.md section 9), and
behind each lock a lease (lease.py).
"""

from __future__ import annotations

from collections.abc import Callable

from ..reporting import Peer, Reporter
from .base import NOBODY, LockManager, go_on
from .claims import Claims
from .filelock import FileLock
from .identity import Identity
from .judge import BorgRules, LeaseJudge, Processes
from .lease import Lease
from .leasefiles import LeaseFiles


class FileLockManager(LockManager):
    """Hands out locks that native borgs respect, and respects theirs.

    One manager serves all of a process: borg's files cannot tell two locks of one process apart, the manager can.
    Its locks may be used in different threads, each lock in one at a time.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        processes: Processes,
        clock: Callable[[], float],
        now: Callable[[], float],
        sleep: Callable[[float], None],
        is_local_disk: Callable[[str], bool],
        reporter: Reporter,
    ) -> None:
        """`clock`: seconds, monotonic. `now`: seconds since the epoch. `sleep`: takes seconds.

        `is_local_disk`: whether the file system of a path is on a disk of this machine. `reporter` is told of stale and
        malformed locks.
        """
        self._identity = identity
        self._rules = BorgRules(identity, processes)
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._reporter = reporter
        self._is_local_disk = is_local_disk
        self._claims = Claims(identity.pid)
        self._leases: dict[str, Lease] = {}

    @classmethod
    def of_this_machine(cls, identity: Identity | None = None, *, reporter: Reporter | None = None) -> FileLockManager:
        """Return a manager with this machine's clock and processes. `identity`: None for the one borg would have."""
        from time import monotonic, sleep, time

        from .judge import KernelProcesses
        from .machine import is_local_disk

        return cls(
            Identity() if identity is None else identity,
            processes=KernelProcesses(),
            clock=monotonic,
            now=time,
            sleep=sleep,
            is_local_disk=is_local_disk,
            reporter=Reporter() if reporter is None else reporter,
        )

    def lock_for(
        self,
        path: str,
        reporter: Reporter | None = None,
        *,
        peer: Peer = NOBODY,
        interrupt: Callable[[], None] = go_on,
    ) -> FileLock:
        """Return a lock, not yet held, for the repository directory at the absolute `path`; nothing is touched yet."""
        lease = self._lease_of(path)
        return FileLock(
            path,
            lease=lease,
            judge=LeaseJudge(lease, self._rules),
            clock=self._clock,
            now=self._now,
            sleep=self._sleep,
            reporter=reporter or self._reporter,
            peer=peer,
            interrupt=interrupt,
            claims=self._claims,
        )

    def _lease_of(self, path: str) -> Lease:
        lease = self._leases.get(path)
        if lease is None:
            files = LeaseFiles(path, self._identity, self._is_local_disk)
            lease = self._leases.setdefault(path, Lease(files, self._identity, now=self._now, sleep=self._sleep))
        return lease
