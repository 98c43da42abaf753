"""Writers that wait for readers are let through: new readers hold back a little. Borg lets a stream of readers starve
a writer; its clients take no notice of the file by which ours find each other.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .identity import Holder, parse_lock_name
from .judge import Judge
from .owner import Verdict
from .waiting import Deadline

LONGEST_COURTESY = 10.0
"""Seconds that a reader holds back at most; never more than half of what it would wait for a lock."""

WAITING_PREFIX = "lock.waiting."
_PAUSE = 0.05


class WaitingWriters:
    """The writers that wait for readers of one repository to finish: a file `lock.waiting.<holder>` for each.

    Only those count whose lease says that they are alive: nobody could say whether the others are still waiting.
    """

    def __init__(self, repository: str, judge: Judge) -> None:
        self._repository = repository
        self._judge = judge
        self._queued = ""  # the file that says that we wait

    def queue_up(self, holder: Holder) -> None:
        """Let `holder` count as waiting, as far as the disk allows it."""
        self._queued = f"{self._repository}/{WAITING_PREFIX}{holder.lock_name}"
        with suppress(OSError):
            os.close(os.open(self._queued, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))

    def leave(self) -> None:
        """Wait no longer."""
        if self._queued:
            with suppress(OSError):
                os.unlink(self._queued)
            self._queued = ""

    def let_pass(self, deadline: Deadline) -> None:
        """Return when no writer is waiting any more, or `deadline` has passed."""
        while not deadline.passed() and self._any():
            deadline.pause(_PAUSE)

    def _any(self) -> bool:
        try:
            names = [name for name in os.listdir(self._repository) if name.startswith(WAITING_PREFIX)]
        except OSError:
            return False
        return any(self._is_waiting(name) for name in names)

    def _is_waiting(self, name: str) -> bool:
        holder = parse_lock_name(name[len(WAITING_PREFIX) :])
        return holder is not None and self._judge.judge(holder) is Verdict.ALIVE
