"""The repository: objects by id, changed in transactions.

Source: spec, repository-format.md sections 10 to 15 and 17, rpc.md section 3.
"""

from __future__ import annotations

import sys
import time
from itertools import chain, islice

from ..buffers import Buffer
from ..errors import (
    FileMissing,
    InsufficientFreeSpaceError,
    IntegrityError,
    InvalidArgument,
    NotPermitted,
    ObjectNotFound,
    StorageError,
    StorageQuotaExceeded,
    UnknownMarker,
    WrongState,
)
from ..format import segment as segment_format
from ..format.entry import PUT, PUT_HEADER_SIZE, put_header
from ..limits import MAX_DATA_SIZE
from ..locking.base import RepositoryLock
from ..reporting import Reporter
from ..storage.base import Storage
from .access import WriteAccess
from .index import Location, in_batches
from .log import SegmentLog
from .quota import admits
from .requests import OpenRequest, RepositoryRules
from .settings import Settings
from .state import TransactionState
from .transactions import Transactions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    ObjectIds: TypeAlias = list[bytes]
    IdBatches: TypeAlias = Iterator[tuple[bytes, ...]]


class Repository:
    """One open repository. Not for several threads at once.

    Made by `open_repository` (opening.py), which also takes the lock. `created`: made in this very session, so that
    a first commit for which the disk has no room takes the whole repository away again.
    """

    def __init__(
        self,
        storage: Storage,
        lock: RepositoryLock,
        settings: Settings,
        *,
        request: OpenRequest,
        rules: RepositoryRules,
        reporter: Reporter,
        utc_now: Callable[[], str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        config = settings.config
        self._storage = storage
        self._lock = lock
        self._settings = settings
        self._created = request.create
        self._reporter = reporter
        self._monotonic = monotonic
        self._closed = False
        self._access = WriteAccess(
            lock if request.locking else None, upgrades=request.exclusive is None, wait=request.lock_wait
        )
        self._log = SegmentLog(
            storage,
            segments_per_dir=config.segments_per_dir,
            max_segment_size=config.max_segment_size,
            require_lock=self._access.require,
            clock=monotonic,
        )
        self._transactions = Transactions(
            storage,
            self._log,
            settings,
            self._access,
            rules,
            utc_now=utc_now,
            reporter=reporter,
        )

    @property
    def id(self) -> bytes:
        """The 32 bytes that name the repository for its clients."""
        return self._settings.config.id

    @property
    def path(self) -> str:
        """Where the repository is: the absolute path of its directory."""
        return self._storage.location

    @property
    def append_only(self) -> bool:
        """Whether nothing may be freed."""
        return self._transactions.rules.append_only

    # --- reading

    def get(self, object_id: bytes) -> Buffer:
        """Return the data of an object, those put in the open transaction included.

        Raises ObjectNotFound, IntegrityError, FileMissing (its segment is gone), StorageError, and what finding the
        current transaction raises: CheckNeeded, LockTimeout.
        """
        index = self._transactions.open_index()
        location = index.get(object_id)
        if location is not None:
            try:
                return self._log.read_put(object_id, *location)
            except (IntegrityError, FileMissing):
                if index.verified:
                    raise
        if not index.verified:
            # Neither a miss nor a wrong place is believed before the whole index was verified (and maybe made anew).
            location = self._transactions.verified_index().get(object_id)
            if location is not None:
                return self._log.read_put(object_id, *location)
        raise self._not_found(object_id)

    @property
    def reads_slowly(self) -> bool:
        """Whether the object got last had to come from the disk: then it pays to announce the next ones."""
        return self._log.reads_slowly

    def announce(self, object_ids: Iterable[bytes]) -> None:
        """Let the system read ahead for objects that will be asked for soon. Never fails."""
        index = self._transactions.index
        if index is None:
            return
        try:
            for object_id in object_ids:
                location = index.get(object_id)
                if location is not None:
                    self._log.announce(*location)
        except StorageError:
            return

    def contains(self, object_id: bytes) -> bool:
        """Return whether there is an object of this id."""
        return self._find(object_id) is not None

    def is_own(self, object_id: bytes) -> bool | None:
        """Return whether the current data of an object were put in this very session, None if there is no object.

        After a compaction, which moves what others have put, nothing counts as the session's own but what it puts then.
        """
        location = self._find(object_id)
        if location is None:
            return None
        first = self._transactions.first_segment
        return first is not None and location[0] >= first

    def _find(self, object_id: bytes) -> Location | None:
        location = self._transactions.open_index().get(object_id)
        if location is None:
            location = self._transactions.verified_index().get(object_id)
        return location

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._transactions.verified_index())

    def list(self, limit: int | None = None, marker: bytes | None = None) -> ObjectIds:
        """Return at most `limit` object ids (None: all), those after the id `marker` if given.

        The order holds as long as nothing is written. Raises UnknownMarker, InvalidArgument.
        """
        return [*chain.from_iterable(self.list_batches(limit, marker))]

    def list_batches(self, limit: int | None = None, marker: bytes | None = None) -> IdBatches:
        """As `list`, many ids at a time: a million of them at once would take 100 MB."""
        if limit is not None and limit < 0:
            raise InvalidArgument("limit must not be negative")
        return _first(self._transactions.verified_index().id_batches(marker), limit)

    def scan(self, limit: int | None = None, marker: bytes | None = None) -> ObjectIds:
        """Return at most `limit` object ids (None: all) in the order of the log, those after `marker` if given.

        Raises UnknownMarker, InvalidArgument.
        """
        return [*chain.from_iterable(self.scan_batches(limit, marker))]

    def scan_batches(self, limit: int | None = None, marker: bytes | None = None) -> IdBatches:
        """As `scan`, many ids at a time."""
        if limit is not None and limit < 1:
            raise InvalidArgument("please use limit > 0 or limit = None")
        start = None
        if marker is not None:
            start = self._find(marker)
            if start is None:
                raise UnknownMarker("marker not found")
        ids = self._in_log_order(start)
        # Clients may ask for more than islice can count.
        return in_batches(ids if limit is None else islice(ids, min(limit, sys.maxsize)))

    def _in_log_order(self, start: Location | None) -> Iterator[bytes]:
        index = self._transactions.verified_index()
        for segment in self._log.segments(after=-1 if start is None else start[0] - 1):
            try:
                with self._log.source(segment) as source:
                    for tag, object_id, offset, _ in segment_format.headers(source, segment):
                        if (
                            tag == PUT
                            and index.get(object_id) == (segment, offset)
                            and (segment, offset) > (start or ())
                        ):
                            yield object_id
            except IntegrityError:
                continue

    # --- writing

    def put(self, object_id: bytes, data: Buffer) -> None:
        """Store `data` as the object of this id, in place of an older one; permanent with the next commit.

        Raises IntegrityError (more than MAX_DATA_SIZE bytes), InvalidArgument (no id), StorageQuotaExceeded,
        WrongState, StorageError.
        """
        size = len(data)
        if size > MAX_DATA_SIZE:
            raise IntegrityError(f"More than allowed put data [{size} > {MAX_DATA_SIZE}]")
        transactions = self._transactions
        state = transactions.state or transactions.begin()
        if transactions.doom is not None:
            raise transactions.doom.with_traceback(None)  # or it would keep the data of each put that it refuses
        header = put_header(object_id, data)
        index = transactions.open_index()
        old = index.get(object_id)
        old_size = 0 if old is None else self._entry_size(object_id, old)
        quota, entry_size = transactions.rules.storage_quota, size + PUT_HEADER_SIZE
        if quota and not admits(quota, state, entry_size, old_size, compacts=transactions.rules.compacts):
            transactions.doom = StorageQuotaExceeded(quota, state.hints.storage_quota_use + entry_size)
            raise transactions.doom
        try:
            if old is not None:
                self._log_delete(object_id, old[0], old_size, state)
            location = self._log.put(object_id, header, data)
            index.put(object_id, location, is_new=old is None)
            state.put_written(location[0], entry_size)
        except BaseException as error:
            transactions.spoil(error)
            raise

    def delete(self, object_id: bytes) -> None:
        """Delete an object; permanent with the next commit. Raises ObjectNotFound, WrongState, StorageError."""
        transactions = self._transactions
        state = transactions.state or transactions.begin()
        if transactions.doom is not None and not isinstance(transactions.doom, StorageQuotaExceeded):
            raise transactions.doom.with_traceback(None)  # what went wrong would go wrong again, at the same cost
        index = transactions.open_index()
        old = index.get(object_id)
        if old is None:
            raise self._not_found(object_id)
        size = self._entry_size(object_id, old)
        try:
            self._log_delete(object_id, old[0], size, state)
            index.remove(object_id)
        except BaseException as error:
            transactions.spoil(error)
            raise
        state.deletes += 1

    def _entry_size(self, object_id: bytes, location: Location) -> int:
        """Return the bytes of a current PUT entry; found before anything is written that would need it."""
        try:
            return self._log.put_size(object_id, *location)
        except FileMissing:
            # What is already lost can still be deleted; nothing of it is left to be freed.
            return 0

    def _log_delete(self, object_id: bytes, segment: int, size: int, state: TransactionState) -> None:
        if not (state.written or state.superseded):
            self._transactions.make_room_to_begin()
        deleted_in = self._log.delete(object_id)
        state.put_superseded(object_id, segment, size)
        state.delete_logged(deleted_in)

    def commit(self, compact: bool = True, threshold: float = 0.1, cleanup_commits: bool = False) -> None:
        """Make all changes since the last commit permanent; without any, nothing happens.

        `compact`: also free the space of superseded entries, in segments of which more than the fraction `threshold`
        can be freed; `cleanup_commits`: in those that hold only a COMMIT, too. Silently none in append-only mode.
        Raises InsufficientFreeSpaceError, StorageQuotaExceeded, WrongState, StorageError, IntegrityError.
        """
        try:
            self._transactions.commit(compact=compact, threshold=threshold, cleanup_commits=cleanup_commits)
        except InsufficientFreeSpaceError:
            # Others may have used the repository meanwhile, and broken the lock.
            if self._created and self._access.holds() and self._log.last_commit() is None:
                self._remove()
            raise
        self._created = False

    def has_to_compact(self, threshold: float = 0.1, cleanup_commits: bool = False) -> bool:
        """Return whether a commit that compacts, with these arguments (see there), would free something.

        Not within a transaction: raises WrongState; and what `put` raises before it writes.
        """
        if self._transactions.state is not None:
            raise WrongState("there are changes that are not committed")
        from .compaction import frees_something, list_commit_segments, plan_compaction

        try:
            state = self._transactions.begin()
            if cleanup_commits:
                list_commit_segments(self._log, state)
            return frees_something(plan_compaction(self._log, state, threshold), state)
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Forget all changes since the last commit."""
        self._transactions.rollback()

    # --- the whole repository

    def check(self, repair: bool = False, max_duration: float = 0) -> bool:
        """Return whether the repository has no errors, or had some and was repaired.

        `max_duration`: seconds, 0 for a full check; a partial one goes on where the last stopped. Findings are
        reported. Raises WrongState, InvalidArgument (repair in append-only mode), StorageError.
        """
        from .checking import check_repository

        if self._transactions.state is not None:
            raise WrongState("a transaction is open: commit it or roll it back before a check")
        if repair and self._transactions.rules.append_only:
            raise InvalidArgument(f"{self.path} is in append-only mode")
        if repair and not self._access.locking:
            raise WrongState("this session was opened without a lock: it may check, not repair")
        if repair and max_duration:
            raise WrongState("a repair cannot be limited in time")
        self._access.require()
        deadline = None
        if max_duration:
            end = self._monotonic() + max_duration
            deadline = lambda: self._monotonic() > end  # noqa: E731
        try:
            with self._access.busy("repair" if repair else "check"):
                return check_repository(
                    self._transactions,
                    self._log,
                    self._settings,
                    self.path,
                    self._reporter,
                    repair=repair,
                    deadline=deadline,
                )
        finally:
            self._transactions.rollback()

    def destroy(self) -> None:
        """Remove the repository and close it. Raises InvalidArgument (append-only mode), StorageError."""
        rules = self._transactions.rules
        if rules.append_only_later and self._log.last_commit() is not None:  # by a session beside this one, maybe
            rules = rules.after_a_commit()
        if rules.append_only:
            raise InvalidArgument(f"{self.path} is in append-only mode")
        self._remove()

    def _remove(self) -> None:
        self.close()
        self._storage.destroy()

    # --- key and nonce

    def save_key(self, keydata: bytes, *, replace: bool = True) -> bool:
        """Store the repokey, UTF-8 text, at once; return whether it was, which without `replace` it is not in place of
        an older one. Raises InvalidArgument, StorageError.
        """
        with self._unlocked_may_fail("config"):
            return self._settings.save_key(keydata, replace=replace)
        return True

    def load_key(self) -> bytes:
        """Return the repokey, b'' if there is none."""
        return self._settings.load_key()

    def get_free_nonce(self) -> int | None:
        """Return the first nonce that was not yet reserved, None if none ever was. Raises InvalidNonce, WrongState."""
        self._access.require()
        return self._settings.nonce()

    def commit_nonce_reservation(self, next_unreserved: int, start_nonce: int | None) -> None:
        """Reserve the nonces from `start_nonce` up to but without `next_unreserved`, at once and for good.

        Raises NonceMismatch, InvalidNonce, WrongState, StorageError.
        """
        self._access.require()
        with self._unlocked_may_fail("nonce"):
            self._settings.reserve_nonces(next_unreserved, start_nonce)

    def _unlocked_may_fail(self, name: str) -> _Tolerant:
        return _Tolerant(name, None if self._access.locking else self._reporter)

    # --- lock and end

    def break_lock(self) -> None:
        """Remove the lock of whoever holds it. Raises LockFailed."""
        self._lock.break_lock()

    def close(self) -> None:
        """Let go of everything and give the lock back; what was not committed stays uncommitted. Twice is fine.

        Raises NotLocked or NotMyLock, all closed, when somebody has taken the lock away.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._transactions.close()
        finally:
            self._lock.release()

    def _not_found(self, object_id: bytes) -> ObjectNotFound:
        return ObjectNotFound(object_id.hex(), self.path)


def _first(batches: IdBatches, limit: int | None) -> IdBatches:
    """Yield the first `limit` ids."""
    if limit is None:
        yield from batches
        return
    for batch in batches if limit else ():
        yield batch[:limit]
        limit -= len(batch)
        if limit <= 0:
            return


class _Tolerant:
    """In a session without lock, a file that may not be written is a warning (spec: rpc.md section 3.5)."""

    def __init__(self, name: str, reporter: Reporter | None) -> None:
        self._name = name
        self._reporter = reporter

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if self._reporter is None or not isinstance(error, NotPermitted):
            return False
        from ..events.transactions import WriteSkipped

        self._reporter.report(WriteSkipped(self._name, error.reason))
        return True
