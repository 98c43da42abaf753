"""Writers that wait for readers are let through: new readers hold back. Borg lets a stream of readers starve a writer;
its clients take no notice of the file by which ours find each other.

In the first minute of a writer's waiting no reader gets in before it. A stream of readers ends by that; who is still
reading after a minute was there before and may go on for hours, through which others would wait in vain. So readers
have the next minute, in which they only hold back for a part of their own time. Then it is the writer's turn again, for
two minutes, and so on: readers that overlap, each of them longer than the writer's turn, would keep it out for ever if
its turns did not grow. They grow to a quarter of an hour, because for so long others do not get in where one reader
stays for hours.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ..values import Value
from .base import LockMode
from .identity import Holder, parse_lock_name
from .inplace import overwrite
from .judge import Judge
from .owner import OwnerRecord, Verdict, parse_record, render_record
from .waiting import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .claims import Claims

FIRST_TURN = 60.0
"""Seconds for which a waiting writer comes before all readers. They have as long then; its next turn is twice that."""

LONGEST_TURN = 16 * 60.0
"""Seconds after which its turns grow no more."""

LONGEST_COURTESY = 10.0
"""Seconds that a reader holds back at most when it is no writer's turn; never more than half of what it would wait."""

WAITING_PREFIX = "lock.waiting."
_PAUSE = 0.05
_CAREFULLY = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MOST_BYTES = 4096


def has_turn(age: float) -> bool:
    """Return whether a writer that has waited for `age` seconds comes before all readers.

    Not if that is negative (clocks differ) or infinite (nobody knows).
    """
    turn = FIRST_TURN
    while turn < LONGEST_TURN and age >= 2 * turn:
        age -= 2 * turn
        turn *= 2
    return 0 <= age < float("inf") and age % (2 * turn) < turn


def holder_of_mark(name: str) -> Holder | None:
    """Return who waits, by the name of a file, None if it is no mark of a waiting writer."""
    if not name.startswith(WAITING_PREFIX):
        return None
    rest = name[len(WAITING_PREFIX) :]
    front, _, number = rest.rpartition(".")
    # No lock's name ends in a dot and digits: what follows the last dot has a dash in it.
    return parse_lock_name(front if number.isdecimal() else rest)


class _Mark(Value):
    """The mark of a writer that waits. `since`: 0.0 if it does not tell; `reads`: whether it is a reader meanwhile."""

    name: str
    holder: Holder
    since: float
    reads: bool


class WaitingWriters:
    """The writers that wait for readers of one repository to finish: a file `lock.waiting.<holder>` for each, and
    `lock.waiting.<holder>.<number>` for further ones of a process. It tells, as a lease does, since when the writer
    waits and how it holds the lock meanwhile.

    Only those count whose lease says that they are alive: nobody could say whether the others are still waiting.
    """

    def __init__(
        self,
        repository: str,
        judge: Judge,
        claims: Claims,
        *,
        now: Callable[[], float],
        age: Callable[[Holder], float],
    ) -> None:
        """`now`: seconds since the epoch. `age`: for how many seconds a process has had its lease."""
        self._repository = repository
        self._judge = judge
        self._claims = claims
        self._now = now
        self._age = age
        self._queued = ""  # the name of the file that says that we wait
        self._since = 0.0

    def queue_up(self, holder: Holder, mode: LockMode) -> None:
        """Let `holder`, which holds the lock as `mode`, count as waiting from now on, as far as the disk allows it.

        It waits until it is told to `leave`: who queues up again has kept its place.
        """
        self._since = self._since or self._now()
        number = self._claims.number(self._repository, self)
        self._queued = WAITING_PREFIX + holder.lock_name + (f".{number}" if number else "")
        with suppress(OSError):
            descriptor = os.open(f"{self._repository}/{self._queued}", os.O_WRONLY | os.O_CREAT | _CAREFULLY, 0o666)
            try:
                overwrite(descriptor, render_record(OwnerRecord(since=self._since, mode=mode.value)))
            finally:
                os.close(descriptor)

    def pause(self) -> None:
        """Leave the way to readers no more than the moment that it takes to look whether there are any."""
        if self._queued:
            with suppress(OSError):
                os.unlink(f"{self._repository}/{self._queued}")
            self._queued = ""

    def leave(self) -> None:
        """Wait no longer."""
        self.pause()
        self._since = 0.0
        self._claims.free_number(self._repository, self)

    def let_pass(self, courtesy: Deadline, deadline: Deadline) -> bool:
        """Return True when a reader may go on: when no writer is waiting any more, or it is no writer's turn and
        `courtesy` has passed. Return False when `deadline` has passed before.
        """
        while ages := [self._waited(mark) for mark in self._marks()]:
            if courtesy.passed() and not any(map(has_turn, ages)):
                return True
            if deadline.passed():
                return False
            deadline.pause(_PAUSE)
        return True

    def is_hopeless(self) -> bool:
        """Return whether another one that reads has queued up before us: of two readers that both wait to write, each
        would wait for the other. The second to come is the one that must not.
        """
        mine = (self._since, self._queued)
        return any(
            mark.reads and mark.name != self._queued and (mark.since, mark.name) < mine for mark in self._marks()
        )

    def forget(self, holder: Holder) -> None:
        """Remove the marks that a dead predecessor of the same name has left: they would count as ours."""
        for name in self._names():
            if holder_of_mark(name) == holder:
                with suppress(OSError):
                    os.unlink(f"{self._repository}/{name}")

    def _waited(self, mark: _Mark) -> float:
        return self._now() - mark.since if mark.since else self._age(mark.holder)

    def _marks(self) -> Iterator[_Mark]:
        for name in self._names():
            holder = holder_of_mark(name)
            if holder is not None and self._judge.judge(holder) is Verdict.ALIVE:
                record = self._read(name)
                yield _Mark(name, holder, record.since, record.mode == LockMode.SHARED.value)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._repository)
        except OSError:
            return []

    def _read(self, name: str) -> OwnerRecord:
        try:
            descriptor = os.open(f"{self._repository}/{name}", os.O_RDONLY | _CAREFULLY)
        except OSError:
            return OwnerRecord()
        try:
            return parse_record(os.read(descriptor, _MOST_BYTES)) or OwnerRecord()
        except OSError:
            return OwnerRecord()
        finally:
            os.close(descriptor)
