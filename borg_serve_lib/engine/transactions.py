"""Transactions: from the last commit on disk to the next.

Source: spec, repository-format.md sections 10 to 14 and 18.3.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import (
    BorgServeError,
    CheckNeeded,
    InsufficientFreeSpaceError,
    IntegrityError,
    NoSpace,
    NotPermitted,
    WrongState,
    not_enough_memory,
)
from ..format import segment as segment_format
from ..reporting import Reporter
from ..storage.base import Storage
from .access import WriteAccess
from .caches import CACHE_ERRORS, CacheFiles
from .index import ObjectIndex
from .lastcommit import LastCommit
from .log import SegmentLog
from .quota import is_exceeded
from .requests import RepositoryRules
from .settings import Settings
from .state import TransactionState

_URGENT_THRESHOLD = 0.1
"""What clients ask for, too, unless told otherwise."""

_OUT_OF_SPACE = (NoSpace, InsufficientFreeSpaceError)
"""Dooms after which what is not committed has to leave the disk at once."""


class Transactions:
    """The current index of a repository and, while one is open, the transaction that changes it.

    `state` is None while no transaction is open. `doom` is the error that made the open transaction impossible to
    commit, or None. `rules`: what holds at present. `first_segment`: what lies there or beyond was put by this session
    and by nobody else; None as long as it has written nothing.
    """

    def __init__(
        self,
        storage: Storage,
        log: SegmentLog,
        settings: Settings,
        access: WriteAccess,
        rules: RepositoryRules,
        *,
        utc_now: Callable[[], str],
        reporter: Reporter,
    ) -> None:
        self._storage = storage
        self._log = log
        self._settings = settings
        self._access = access
        self.rules = rules
        self._utc_now = utc_now
        self._reporter = reporter
        self.caches = CacheFiles(storage, reporter, require_lock=access.require)
        self.index: ObjectIndex | None = None
        self.state: TransactionState | None = None
        self.doom: BorgServeError | None = None
        self._transaction: int | None = None
        self.first_segment: int | None = None
        self.last_commit = LastCommit(storage, log, self.caches, reporter)
        self._unwritten: TransactionState | None = None  # what goes with an index that could not be written

    # --- the last committed transaction

    def current(self) -> int | None:
        """Return the number of the last committed transaction, None if there is none; index.N exists for it.

        An index behind or beyond the segments is made anew from them. Raises CheckNeeded, IntegrityError (a damaged
        segment), LockTimeout, StorageError.
        """
        indexed, committed = self.caches.index_transaction(), self._log.last_commit()
        sealed = -1 if committed is None else committed
        if indexed is not None and indexed > sealed and self.last_commit.is_proved(indexed, sealed):
            return indexed
        if committed is None and indexed is not None:
            raise CheckNeeded(self._storage.location)
        if committed is not None and indexed != committed:
            behind = indexed is not None and indexed < committed
            if indexed is not None and not behind:
                from ..events.maintenance import TransactionsLost

                self._reporter.report(TransactionsLost(committed, indexed))
            self._recover(committed, indexed if behind else None)
        return committed

    def open_index(self) -> ObjectIndex:
        """Return the index of the current transaction; a miss in it is not to be believed before `verified_index`."""
        if self.index is None:
            transaction = self._transaction = self.current()
            try:
                self._load_index()
            except CACHE_ERRORS as error:
                assert transaction is not None  # it is a file that could not be loaded  # noqa: S101
                return self._replace_damaged_index(transaction, error)
        assert self.index is not None  # noqa: S101
        return self.index

    def _load_index(self) -> None:
        """Open the index of the current transaction, unless it is in memory because it could not be written."""
        if self.index is None:
            transaction = self._transaction
            self.index = self._empty_index() if transaction is None else self.caches.open_index(transaction)

    def verified_index(self) -> ObjectIndex:
        """Return the index of the current transaction, verified as a whole."""
        index = self.open_index()
        if not index.verified:
            try:
                index.verify()
            except CACHE_ERRORS as error:
                assert self._transaction is not None  # an empty index needs no verification  # noqa: S101
                return self._replace_damaged_index(self._transaction, error)
        return index

    def _replace_damaged_index(self, transaction: int, error: BorgServeError) -> ObjectIndex:
        """As borg does for a reader, make the index anew and seal it with a commit of its own (section 14)."""
        self._report_damage(error)
        self.rollback()
        self._recover(transaction, None)
        if self.index is None:
            self.begin()
            self.commit(compact=False, threshold=0, cleanup_commits=False)
        return self.verified_index()

    def _report_damage(self, error: BorgServeError) -> None:
        from ..events.maintenance import IndexDamaged

        self._reporter.report(IndexDamaged(str(error)))

    def _recover(self, transaction: int, base: int | None) -> None:
        """Make index and hints of the committed `transaction` from its segments, on top of those of `base` if given."""
        from ..events.maintenance import ReplayStarted
        from .recovery import replay

        self._access.require(recovering=True)
        self._reporter.report(ReplayStarted())
        index, state = self._base_for_recovery(base)
        try:
            after = -1 if base is None or index.owns_table else base
            with self._access.busy("making the index anew"):
                replay(self._log, index, state, after=after, through=transaction, reporter=self._reporter)
            # Without a lock somebody else may be writing them.
            if self._access.locking and self._write_caches_if_possible(transaction, index, state):
                index.close()
                state.close()
            else:
                self.index, self._unwritten = index, state
        except BaseException:
            index.close()
            state.close()
            raise

    def _base_for_recovery(self, base: int | None) -> tuple[ObjectIndex, TransactionState]:
        if base is not None:
            try:
                index = self.caches.open_index(base)
                try:
                    index.verify(to_change=True)
                    return index, TransactionState(self.caches.read_hints(base))
                except BaseException:
                    index.close()
                    raise
            except CACHE_ERRORS as error:
                self._report_damage(error)
        return self._empty_index(), self._empty_state()

    def _empty_index(self) -> ObjectIndex:
        return ObjectIndex.empty(self.caches.scratch.make_room)

    def _empty_state(self) -> TransactionState:
        return TransactionState.empty(self.caches.scratch.make_room)

    # --- begin, commit, rollback

    def begin(self) -> TransactionState:
        """Open a transaction, unless one is open, and return its state.

        What an interrupted one left is deleted. Raises WrongState, LockTimeout and all that `current` raises.
        """
        if self.state is not None:
            return self.state
        if not self._access.locking:
            raise WrongState("this session was opened without a lock: it may read, not write")
        if self._access.require():
            self.rollback()
            self.caches.forget()
        transaction = self._prepare_index()
        if transaction is not None:
            self.rules = self.rules.after_a_commit()
        state = self._empty_state() if transaction is None else self._read_state(transaction)
        try:
            self.last_commit.restore()
            self._clean_up(transaction)
        except BaseException:
            if state is not self._unwritten:
                state.close()
            raise
        self._log.continue_at(0 if transaction is None else transaction + 1)
        if self.first_segment is None:
            self.first_segment = self._log.segment
        self.state = state
        self._report_quota()
        return state

    def _prepare_index(self) -> int | None:
        """Load and verify the index; a damaged one is made anew."""
        try:
            if self.index is None:
                self._transaction = self.current()
                self._load_index()
            assert self.index is not None  # noqa: S101
            self.index.verify(to_change=True)
        except CACHE_ERRORS as error:
            self._report_damage(error)
            self.rollback()
            transaction = self._log.last_commit()
            if transaction is None:
                raise CheckNeeded(self._storage.location) from None
            self._recover(transaction, None)
            self._transaction = transaction
            self._load_index()
        return self._transaction

    def _read_state(self, transaction: int) -> TransactionState:
        try:
            state = self._unwritten or TransactionState(self.caches.read_hints(transaction))
        except CACHE_ERRORS as error:
            from ..events.maintenance import HintsDamaged

            self._reporter.report(HintsDamaged(str(error)))
            self.rollback()
            self._recover(transaction, None)
            self._prepare_index()
            state = self._unwritten or TransactionState(self.caches.read_hints(transaction))
        if state.hints.unsized:
            from .recovery import size_listed_segments

            size_listed_segments(self._log, self.open_index(), state)
        return state

    def _clean_up(self, transaction: int | None) -> None:
        last = -1 if transaction is None else transaction
        end = self._log.end()
        if end.committed is not None and end.committed > last:
            raise WrongState(f"transaction {end.committed} was committed by somebody else: nothing more is written")
        # Leftovers of an interrupted transaction go; but what had a COMMIT and is damaged now must not be mistaken for
        # that: it is for check to repair.
        if end.damaged is not None:
            raise CheckNeeded(self._storage.location)
        if end.newest is None or end.newest <= last:
            return
        if transaction is None:
            for segment in self._log.segments():
                if self._log.size(segment) == segment_format.COMMIT_SEGMENT_SIZE:
                    raise CheckNeeded(self._storage.location)
        count = self._log.remove_after(last)
        if count:
            from ..events.transactions import UncommittedSegmentsRemoved

            self._reporter.report(UncommittedSegmentsRemoved(count, last))

    def commit(self, *, compact: bool, threshold: float, cleanup_commits: bool) -> None:
        """Make the open transaction permanent and end it; without one, nothing happens.

        Raises the doom of the transaction, InsufficientFreeSpaceError, WrongState, StorageError; and IntegrityError
        when compaction meets a damaged segment, with the transaction itself committed.
        """
        state, index = self.state, self.index
        if state is None or index is None:
            return
        if self.doom is not None:
            doom = self.doom
            self.rollback()
            raise doom.with_traceback(None)
        try:
            self._access.require()
            plenty = self._has_room(state, index)
            if not compact and (not plenty or is_exceeded(self.rules.storage_quota, state)):
                # Where there is no room for what is obsolete it cannot wait for the client to have it removed.
                compact, threshold = True, _URGENT_THRESHOLD
            self._report_quota()
            transaction = self._log.commit()
            state.commit_logged(transaction)
            damage: IntegrityError | None = None
            if compact and self.rules.compacts:
                transaction, damage = self._compact(
                    transaction, state, index, threshold, cleanup_commits=cleanup_commits, plenty=plenty
                )
                self.first_segment = self._log.segment
            self._access.require()
            self._write_caches_if_possible(transaction, index, state)
            if damage is not None:
                raise damage
            objects = len(index)
        except _OUT_OF_SPACE as error:
            self.doom = error
            raise
        finally:
            self.rollback()
        self._report_commit(transaction, state, objects)
        self.rules = self.rules.after_a_commit()

    def spoil(self, error: BaseException) -> None:
        """Let nothing of the open transaction be committed any more: `error` came in the midst of a change.

        A torn entry may be in the segment now, or one that index and hints do not know of. The first doom stays, but
        that the disk is full has to be known of at the end.
        """
        if self.doom is not None and not isinstance(error, _OUT_OF_SPACE):
            return
        if isinstance(error, MemoryError):
            error = not_enough_memory()
        self.doom = error if isinstance(error, BorgServeError) else WrongState("a change went wrong before")

    def _report_commit(self, transaction: int, state: TransactionState, objects: int) -> None:
        from ..events.transactions import TransactionCommitted

        overwritten = state.shadowed - state.deletes
        self._reporter.report(
            TransactionCommitted(
                self._storage.location,
                transaction,
                added=state.puts - overwritten,
                overwritten=overwritten,
                deleted=state.deletes,
                bytes_added=state.written,
                bytes_superseded=state.superseded,
                objects=objects,
                bytes_used=state.hints.storage_quota_use,
                quota=self.rules.storage_quota,
            )
        )

    def _compact(
        self,
        transaction: int,
        state: TransactionState,
        index: ObjectIndex,
        threshold: float,
        *,
        cleanup_commits: bool,
        plenty: bool,
    ) -> tuple[int, IntegrityError | None]:
        """Compact; return the last COMMIT, and the first damage that was met."""
        from . import compaction

        if cleanup_commits:
            compaction.list_commit_segments(self._log, state)
        if not state.hints.compact:
            return transaction, None
        plan = compaction.plan_compaction(self._log, state, threshold)
        indexed = self.caches.index_transaction()
        with self._access.busy("compaction"):
            return compaction.compact(
                plan,
                self._log,
                index,
                state,
                indexed_transaction=indexed,
                free_space=None if plenty else self._storage.free_space,
                reporter=self._reporter,
            )

    def _write_caches(self, transaction: int, index: ObjectIndex, state: TransactionState) -> None:
        if self.rules.append_only:
            self._settings.log_transaction(transaction, self._utc_now())
        self.caches.write(transaction, index, state.hints)

    def _write_caches_if_possible(self, transaction: int, index: ObjectIndex, state: TransactionState) -> bool:
        """Return whether index and hints could be written: a full disk, or a mount that is for reading only, is no
        reason to fail, as the segments say it all.
        """
        try:
            self._write_caches(transaction, index, state)
        except (NoSpace, NotPermitted) as error:
            from ..events.maintenance import IndexNotWritten

            self._reporter.report(IndexNotWritten(str(error)))
            return False
        return True

    def rollback(self) -> None:
        """Forget the open transaction, if any, and the index. Its segments are deleted by the next one, or at once
        when the disk is full.
        """
        out_of_space = isinstance(self.doom, _OUT_OF_SPACE)
        began_with, self._transaction = self._transaction, None
        for held in (self.index, self.state, self._unwritten):
            if held is not None:
                held.close()
        self.index = self.state = self.doom = self._unwritten = self.last_commit.damaged = None
        self._log.abandon_segment()
        if out_of_space:
            self._remove_uncommitted(began_with)

    def _remove_uncommitted(self, began_with: int | None) -> None:
        """Free what an impossible transaction has written. Only the segments tell how far it was committed: compaction
        commits in between and deletes what it has moved.
        """
        from ..events.transactions import PartialTransactionRemoved

        committed = self._log.last_commit()
        if (committed is None and began_with is not None) or not self._access.holds():
            return
        self._reporter.report(PartialTransactionRemoved())
        self._log.remove_after(-1 if committed is None else committed)

    def adopt(self, transaction: int, index: ObjectIndex, state: TransactionState) -> None:
        """Write `index` and `state`, gathered by a repair, as those of the committed `transaction`."""
        self._write_caches(transaction, index, state)

    # --- room

    def make_room_to_begin(self) -> None:
        """Let the open transaction, which begins by making something obsolete, write at all: on a disk that is full
        to the last block, index and hints give way.
        """
        from .space import shortage

        if self.state is None or self.index is None or self.index.owns_table:
            return
        error = shortage(self._storage, self.state.hints, self._reporter)
        if error is not None:
            self.caches.give_way(self.index, error)

    def _has_room(self, state: TransactionState, index: ObjectIndex) -> bool:
        from .space import has_room

        return has_room(
            self._storage,
            self._log,
            self._settings.config,
            state,
            index,
            compacts=self.rules.compacts,
            reporter=self._reporter,
        )

    def _report_quota(self) -> None:
        if self.rules.storage_quota and self.state is not None:
            from ..events.transactions import QuotaStatus

            self._reporter.report(QuotaStatus(self.state.hints.storage_quota_use, self.rules.storage_quota))

    def close(self) -> None:
        """Let go of everything open. An open transaction stays uncommitted."""
        self.rollback()
        self._log.close()
