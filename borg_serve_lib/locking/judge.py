"""Is the owner of a lock dead? The facts come through `Processes` and leases, the verdict from a `Judge`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager

from .leasefiles import LeaseState
from .owner import Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .identity import Holder, Identity
    from .lease import Lease


class Processes(ABC):
    """What is known of the processes of this host."""

    @abstractmethod
    def alive(self, pid: int) -> bool:
        """Return False only if it is certain that no process has this `pid`."""


class KernelProcesses(Processes):
    """Asks the kernel."""

    def alive(self, pid: int) -> bool:
        # 0 and below name process groups, never one process.
        if pid <= 0:
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):
            return True
        return True


class Judge(ABC):
    """Says of a lock that was found in one repository whether its owner is dead."""

    @abstractmethod
    def judge(self, holder: Holder) -> Verdict:
        """Return DEAD only if `holder` has certainly ended without giving its lock back."""

    @contextmanager
    def certify(self, holder: Holder) -> Iterator[Verdict]:
        """Return a context with the verdict on `holder`.

        As far as this judge can see to it, no process becomes `holder` (which takes no more than the same process id)
        while the context lasts: what is removed in there is the lock of the one who was judged.
        """
        yield self.judge(holder)


class BorgRules(Judge):
    """What borg itself goes by, no looser: same host id, thread 0, and the process is gone (spec: section 9.4)."""

    def __init__(self, identity: Identity, processes: Processes) -> None:
        self._identity = identity
        self._processes = processes

    def judge(self, holder: Holder) -> Verdict:
        # A process with that id may be another one by now, or one of another container.
        if holder.host != self._identity.host or holder.thread != 0 or self._processes.alive(holder.pid):
            return Verdict.UNKNOWN
        return Verdict.DEAD


class LeaseJudge(Judge):
    """Goes by leases; where there is none, or it proves nothing, by another judge."""

    def __init__(self, lease: Lease, otherwise: Judge) -> None:
        self._lease = lease
        self._otherwise = otherwise

    def judge(self, holder: Holder) -> Verdict:
        if holder == self._lease.holder:
            return Verdict.ALIVE
        with self._lease.files.grip(holder) as state:
            return self._conclude(state, holder)

    @contextmanager
    def certify(self, holder: Holder) -> Iterator[Verdict]:
        if holder == self._lease.holder:
            yield Verdict.ALIVE
            return
        with self._lease.files.grip(holder) as state:
            yield self._conclude(state, holder)

    def _conclude(self, state: LeaseState, holder: Holder) -> Verdict:
        if state is LeaseState.KEPT:
            return Verdict.ALIVE
        if state is LeaseState.UNREAD:
            return Verdict.UNKNOWN
        return Verdict.DEAD if state is LeaseState.FREE else self._otherwise.judge(holder)
