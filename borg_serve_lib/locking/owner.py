"""Is the owner of a lock dead? The facts come through `Processes`, the verdict from a `Judge`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from .identity import Holder, Identity


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
    """Says of a lock that was found in one repository whether its owner is dead.

    This is where better evidence than borg's comes in: a judge that has some asks that first and another judge then.
    """

    @abstractmethod
    def is_dead(self, holder: Holder) -> bool:
        """Return True only if `holder` has certainly ended without giving its lock back."""


class BorgRules(Judge):
    """What borg itself goes by, no looser: same host id, thread 0, and the process is gone (spec: section 9.4)."""

    def __init__(self, identity: Identity, processes: Processes) -> None:
        self._identity = identity
        self._processes = processes

    def is_dead(self, holder: Holder) -> bool:
        if holder.host != self._identity.host or holder.thread != 0:
            return False
        return not self._processes.alive(holder.pid)
