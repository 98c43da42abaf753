"""Writers that wait for readers are let through: new readers hold back. Borg lets a stream of readers starve a writer;
its clients take no notice of the file by which ours find each other.

In the first minute of a writer's waiting no reader gets in before it. A stream of readers ends by that; who is still
reading after a minute was there before and may go on for hours, through which others would wait in vain. From then on
readers only hold back for a part of their own time.
"""

from __future__ import annotations

import os
from contextlib import suppress

from .identity import Holder, parse_lock_name
from .judge import Judge
from .owner import Verdict
from .waiting import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_RIGHT = 60.0
"""Seconds for which a waiting writer comes before all readers."""

LONGEST_COURTESY = 10.0
"""Seconds that a reader holds back at most; never more than half of what it would wait for a lock."""

WAITING_PREFIX = "lock.waiting."
_PAUSE = 0.05
_CAREFULLY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class WaitingWriters:
    """The writers that wait for readers of one repository to finish: a file `lock.waiting.<holder>` for each.

    Only those count whose lease says that they are alive: nobody could say whether the others are still waiting.
    """

    def __init__(self, repository: str, judge: Judge, age: Callable[[Holder], float]) -> None:
        """`age`: for how many seconds a writer has waited, negative where clocks differ."""
        self._repository = repository
        self._judge = judge
        self._age = age
        self._queued = ""  # the file that says that we wait

    def queue_up(self, holder: Holder) -> None:
        """Let `holder` count as waiting, as far as the disk allows it."""
        self._queued = f"{self._repository}/{WAITING_PREFIX}{holder.lock_name}"
        with suppress(OSError):
            os.close(os.open(self._queued, os.O_WRONLY | os.O_CREAT | _CAREFULLY, 0o666))

    def leave(self) -> None:
        """Wait no longer."""
        if self._queued:
            with suppress(OSError):
                os.unlink(self._queued)
            self._queued = ""

    def let_pass(self, courtesy: Deadline, deadline: Deadline) -> bool:
        """Return True when a reader may go on: when no writer is waiting any more, or none that still has the first
        right and `courtesy` has passed. Return False when `deadline` has passed before.
        """
        while ages := [self._age(holder) for holder in self._writers()]:
            if courtesy.passed() and not any(0 <= age < FIRST_RIGHT for age in ages):
                return True
            if deadline.passed():
                return False
            deadline.pause(_PAUSE)
        return True

    def _writers(self) -> list[Holder]:
        try:
            names = os.listdir(self._repository)
        except OSError:
            return []
        holders = (parse_lock_name(name[len(WAITING_PREFIX) :]) for name in names if name.startswith(WAITING_PREFIX))
        return [holder for holder in holders if holder is not None and self._judge.judge(holder) is Verdict.ALIVE]
