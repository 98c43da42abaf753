"""The lock of one repository on disk, as one session holds it: borg's lock files, step by step (spec:
repository-format.md section 9).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import attrgetter

from ..errors import InvalidArgument, LockError, LockFailed, LockTimeout, NotLocked, NotMyLock
from ..reporting import Event, Peer, Reporter
from .base import LockMode, RepositoryLock
from .claims import Claims
from .directory import LockDirectory
from .identity import Holder
from .judge import Judge
from .lease import WAITING, Lease
from .leftovers import Leftovers
from .owner import RIVAL, Owner, Verdict, describe
from .precedence import LONGEST_COURTESY, WaitingWriters
from .rosterfile import NoRoomForRoster, RosterFile
from .waiting import Deadline

READERS_PAUSE = 0.2
"""Seconds between two looks at whether the readers are gone, as borg's."""

RELEASE_WAIT = 1.5
"""Seconds that a reader waits for the lock directory when it signs off. Nobody keeps it for long while there are
readers; and a session that has ended should be gone within two seconds."""

_RELEASE_RHYTHM = 0.02


class _OncePerWait(Reporter):
    """Passes each event on once until told to forget: what is found at every look is told at the first."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._told: set[Event] = set()

    def report(self, event: Event) -> None:
        if event not in self._told:
            self._told.add(event)
            self._reporter.report(event)

    def forget(self) -> None:
        self._told.clear()


class FileLock(RepositoryLock):
    """The lock of one repository on disk; made by FileLockManager."""

    def __init__(
        self,
        repository: str,
        *,
        lease: Lease,
        judge: Judge,
        clock: Callable[[], float],
        now: Callable[[], float],
        sleep: Callable[[float], None],
        reporter: Reporter,
        peer: Peer,
        interrupt: Callable[[], None],
        claims: Claims,
    ) -> None:
        self.mode = LockMode.NONE
        self.path = f"{repository}/lock"
        self._lease = lease
        self._judge = judge
        self._peer = peer
        self._interrupt = interrupt
        self._clock = clock
        self._sleep = sleep
        self._reporter = _OncePerWait(reporter)
        self._directory = LockDirectory(self.path, judge, self._reporter, claims, lease.files)
        self._roster = RosterFile(self.path, judge, self._reporter, lease.files)
        self._waiting = WaitingWriters(repository, judge, claims, now=now, age=lease.age)
        self._leftovers = Leftovers(lease.files, judge)
        self._claims = claims
        self._me = Holder("", 0, 0)
        self._dirty = False  # the step that is being taken may have changed the roster

    def acquire(self, mode: LockMode, wait: float | None) -> None:
        if mode is LockMode.NONE:
            raise InvalidArgument("a lock is acquired either shared or exclusive")
        deadline = Deadline(wait, self._clock, self._sleep_a_while, waited_long=lambda: self._report_wait(mode))
        self._disown()
        before = self.mode
        if before in (mode, LockMode.EXCLUSIVE):
            return
        self._begin()
        try:
            if before is LockMode.NONE:
                self._me = self._lease.join(self, self._reporter, self._peer)
            self._enter(mode, deadline)
            if deadline.is_late:
                self._report_end_of_wait(mode, self._clock() - deadline.begun)
        except BaseException:
            self._retreat(before)
            raise

    def _sleep_a_while(self, seconds: float) -> None:
        self._interrupt()
        self._sleep(seconds)

    def _report_wait(self, mode: LockMode) -> None:
        from ..events.locks import LockAwaited

        self._reporter.report(LockAwaited(self.path, mode.value, describe(self._owners())))

    def _report_end_of_wait(self, mode: LockMode, seconds: float) -> None:
        from ..events.locks import LockObtained

        self._reporter.report(LockObtained(self.path, mode.value, seconds))

    def downgrade(self) -> None:
        self._disown()
        if self.mode is LockMode.NONE:
            raise NotLocked(self.path)
        if self.mode is LockMode.SHARED:
            return
        self._begin()
        try:
            self._directory.check()
            self._enroll(LockMode.SHARED)
            self._directory.give_back()
            self._settle(LockMode.SHARED)
        except (NotLocked, NotMyLock):
            self._retreat(LockMode.NONE)
            raise
        except LockFailed:
            if self.holds_exclusive():
                self._claims.sign_off(self.path, self)
            else:
                self._settle(LockMode.SHARED)
            raise
        except BaseException:
            self._retreat(LockMode.SHARED)
            raise

    def holds_exclusive(self) -> bool:
        return self.mode is LockMode.EXCLUSIVE and self._directory.is_mine() and self._lease.is_mine(self._me)

    def release(self) -> None:
        self._disown()
        mode = self.mode
        if mode is LockMode.NONE:
            # Left when a signal came in the very moment of a failure.
            self._waiting.leave()
            self._lease.leave(self)
            return
        self._begin()
        try:
            if mode is LockMode.SHARED:
                self._sign_off()
            else:
                self._directory.check()
                self._enroll(LockMode.NONE)
                self._directory.give_back()
            self._settle(LockMode.NONE)
        except LockError as error:
            self._directory.abandon()
            self._lease.leave(self, orphaned=not isinstance(error, (NotLocked, NotMyLock)))
            self._settle(LockMode.NONE)
            raise
        except BaseException:
            self._dirty = True
            self._retreat(LockMode.NONE)
            raise

    def note(self, activity: str) -> None:
        if self.mode is not LockMode.NONE:
            self._lease.tell(self, self.mode.value, activity)

    def owners(self) -> tuple[Owner, ...]:
        return self._owners_but(None)

    def _owners_but(self, asking: FileLock | None) -> tuple[Owner, ...]:
        writers, readers = self._directory.owners(), sorted(self._roster.read().shared, key=attrgetter("lock_name"))
        holders = [(LockMode.EXCLUSIVE, holder) for holder in writers] + [(LockMode.SHARED, who) for who in readers]
        return tuple(owner for mode, holder in holders for owner in self._owners_named(holder, mode, asking))

    def _owners_named(self, holder: Holder, mode: LockMode, asking: FileLock | None) -> Iterable[Owner]:
        """Return whom a name in the lock files stands for: of this process, each lock but `asking`."""
        own = self._lease.users() if holder == self._lease.holder else {}
        mine = [lock for lock, record in own.items() if record.mode == mode.value]
        if mine:
            return (Owner(holder, mode, Verdict.ALIVE, own[lock]) for lock in mine if lock is not asking)
        return (Owner(holder, mode, self._judge.judge(holder), self._lease.files.record(holder)),)

    def break_lock(self) -> None:
        try:
            self._roster.delete()
            self._claims.sign_all_off(self.path)
            self._directory.break_open()
        except OSError as error:
            raise LockFailed(self.path, str(error)) from error
        self._leftovers.clear(frozenset())
        self._leftovers.forget()

    def _owners(self) -> tuple[Owner, ...]:
        """Return the owners that are not known dead and not this lock, as far as they can be found out."""
        try:
            owners = self._owners_but(self)
        except LockError:
            return ()
        return tuple(owner for owner in owners if owner.verdict is not Verdict.DEAD)

    def _enter(self, mode: LockMode, deadline: Deadline) -> None:
        try:
            if self._lease.took_over:
                self._bury_predecessor(deadline)
            if mode is LockMode.SHARED:
                self._sign_on(deadline)
            else:
                self._seize(deadline)
        except LockTimeout as timeout:
            raise LockTimeout(timeout.path, timeout.owners or describe(self._owners())) from None

    def _bury_predecessor(self, deadline: Deadline) -> None:
        """Remove what a dead process of our very name has left: others take it for ours now, and wait for us."""
        self._directory.take(self._me, deadline)
        self._enroll(self.mode)
        self._waiting.forget(self._me)
        self._lease.took_over = False
        with suppress(NotLocked, NotMyLock):
            self._directory.give_back()

    def _sign_on(self, deadline: Deadline) -> None:
        """Take a place among the readers."""
        if not self._waiting.let_pass(deadline.part(0.5, LONGEST_COURTESY), deadline):
            raise LockTimeout(self.path)
        while True:
            self._directory.take(self._me, deadline)
            try:
                self._enroll(LockMode.SHARED)
            except NoRoomForRoster as full:
                # With the disk full to the last block, a reader can only be alone.
                self._directory.give_back()
                try:
                    self._seize(deadline)
                except LockTimeout:
                    raise full from None
                return
            try:
                self._directory.give_back()
            except (NotLocked, NotMyLock) as broken:  # and our entry may have gone with it
                if deadline.passed():
                    raise LockTimeout(self._directory.path) from broken
                continue
            self._settle(LockMode.SHARED)
            return

    def _sign_off(self) -> None:
        """Give up the place among the readers. Raises LockError, and leaves the entry, if the directory is kept."""
        self._dirty = True
        try:
            self._directory.take(self._me, self._release_deadline())
        except LockTimeout:
            # Only after our lock was broken can somebody keep the directory for so long; then our entry is gone, too.
            if self._me in self._roster.load().shared:
                raise
            return
        self._enroll(LockMode.NONE)
        self._directory.give_back()

    def _seize(self, deadline: Deadline) -> None:
        """Take the lock directory, and keep it if no readers are left (but ourselves: an upgrade)."""
        while True:
            self._directory.take(self._me, deadline)
            if not self._others_read():
                # The directory keeps everybody out; that the roster names us as well is a courtesy.
                with suppress(NoRoomForRoster):
                    self._enroll(LockMode.EXCLUSIVE)
                self._settle(LockMode.EXCLUSIVE)
                return
            # Borg signs off before it looks and signs on again before it waits. We stay signed on: nothing to put back.
            with suppress(NotLocked, NotMyLock):
                self._directory.give_back()
            try:
                self._waiting.queue_up(self._me, self.mode)
                self._wait_for_readers(deadline)
            finally:
                self._waiting.pause()

    def _wait_for_readers(self, deadline: Deadline) -> None:
        """Wait until a look at the roster shows no other readers: without the directory, so as not to be in their way.

        Raises LockTimeout, at once if they wait for us as well.
        """
        while True:
            if self.mode is LockMode.SHARED and self._waiting.is_hopeless():
                raise LockTimeout(self.path, describe(self._owners(), RIVAL))
            if deadline.passed():
                raise LockTimeout(self.path)
            deadline.pause(READERS_PAUSE)
            if not self._others_read():
                return

    def _others_read(self) -> bool:
        shared = self._roster.load().shared
        if self._claims.has_entry(self.path):
            shared -= {self._me}
        return bool(shared or self._claims.readers(self.path) - {self})

    def _enroll(self, mode: LockMode) -> None:
        """Make the roster say that this lock is held as `mode`. The lock directory must be held."""
        self._dirty = True
        (self._claims.sign_on if mode is LockMode.SHARED else self._claims.sign_off)(self.path, self)
        shared = bool(self._claims.readers(self.path))
        # While nobody else can write the roster: if it is damaged one day, this says whom it has named.
        self._lease.tell(self, WAITING if mode is LockMode.NONE else mode.value)
        roster = self._roster.load().with_holder(self._me, shared=shared, exclusive=mode is LockMode.EXCLUSIVE)
        self._roster.store(roster)
        if not shared:
            self._claims.entry_removed(self.path)
        if mode is not LockMode.NONE:
            self._leftovers.clear(roster.shared | roster.exclusive | {self._me})

    def _disown(self) -> None:
        """In a child made by fork: what its parent holds is not held here."""
        if self.mode is not LockMode.NONE and not self._lease.is_mine(self._me):
            self.mode = LockMode.NONE

    def _begin(self) -> None:
        self._reporter.forget()
        self._dirty = False

    def _settle(self, mode: LockMode) -> None:
        """Note that the lock is held as `mode` now and the disk agrees, or never will."""
        self.mode = mode
        self._waiting.leave()
        if mode is not LockMode.SHARED:
            self._claims.sign_off(self.path, self)
        if mode is LockMode.NONE:
            self._lease.leave(self)

    def _retreat(self, mode: LockMode) -> None:
        """Go back to `mode` after a failure, as far as possible: directory, roster and all. Raises nothing of its own.

        It is gone through with when a signal comes in between (see transports.stdio: there is no second one).
        """
        try:
            self._undo(mode)
        except BaseException:
            self._undo(mode)
            raise

    def _undo(self, mode: LockMode) -> None:
        with suppress(LockError):
            if self._dirty and not self._directory.is_claimed():
                self._directory.take(self._me, self._release_deadline())
            if self._directory.is_claimed():
                self._enroll(mode)
        self._directory.abandon()
        self._settle(mode)

    def _release_deadline(self) -> Deadline:
        return Deadline(RELEASE_WAIT, self._clock, self._sleep, _RELEASE_RHYTHM)
