"""Check and repair: every segment is read through, and the index is compared with what the segments say.

Source: spec, repository-format.md section 17.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TypeAlias

from ..buffers import Buffer
from ..errors import BorgServeError, IntegrityError, NotPermitted
from ..events.maintenance import (
    CheckDetail,
    CheckFailed,
    CheckFinished,
    CheckFinishedWithErrors,
    CheckNote,
    CheckStarted,
)
from ..format import segment as segment_format
from ..format.heads import checked_heads, of_heads
from ..reporting import Reporter
from ..values import Value
from .caches import CacheFiles
from .index import ObjectIndex
from .log import SegmentLog
from .parallel import in_order, usable_cores
from .progress import ProgressMeter
from .proof import IndexProof
from .recovery import apply_segment
from .settings import Settings
from .state import TransactionState
from .transactions import Transactions

_MOST_KEPT = 64 << 20
"""Bytes of heads that are kept of all segments read ahead together: a fifth of what a connection may take at all. With
two threads that is 450,000 entries of each, with eight 180,000; a segment with more is read a second time.
"""

_NOT_FOUND = "<not found>"

_Outcome: TypeAlias = Iterable[Buffer] | IntegrityError
"""The heads of a segment's entries, in pieces, or what is wrong with it."""


class RepositoryFiles(Value):
    """The parts of a repository that a check works on. `location`: what a finding calls the repository."""

    location: str
    log: SegmentLog
    caches: CacheFiles
    settings: Settings
    reporter: Reporter


class Check:
    """One run of check over a repository in which no transaction is open.

    `committed`: the index on disk, None if it could not be read. `deadline`: tells whether the time allowed for a
    partial check is used up; None makes the check a full one. After a full check that repairs, `rebuilt` and `state`
    are what the segments say.
    """

    def __init__(
        self,
        files: RepositoryFiles,
        committed: ObjectIndex | None,
        *,
        repair: bool,
        deadline: Callable[[], bool] | None,
    ) -> None:
        self._files = files
        self._repair = repair
        self._deadline = deadline
        self._threads = usable_cores()
        self._most_kept = _MOST_KEPT // (self._threads + 2)
        self._committed = committed
        make_room = files.caches.scratch.make_room
        self._proof = None if repair or committed is None else IndexProof(committed, make_room)
        self.errors = False
        self.rebuilt = ObjectIndex.empty(make_room)
        self.state = TransactionState.empty(make_room)

    def close(self) -> None:
        """Let go of the files that were too large for memory."""
        self.rebuilt.close()
        self.state.close()
        if self._proof is not None:
            self._proof.close()

    @property
    def mode(self) -> str:
        """`full` or `partial`."""
        return "full" if self._deadline is None else "partial"

    def note(self, text: str) -> None:
        """Tell a step."""
        self._files.reporter.report(CheckNote(text))

    def found(self, finding: str) -> None:
        """Tell a finding: the repository has errors."""
        self.errors = True
        self._files.reporter.report(CheckFailed(finding))

    # --- segments

    def check_segments(self, through: int) -> None:
        """Read the segments up to `through` and, in a full check, see what they say of the index."""
        segments = array("I", self._files.log.segments(after=self._start_after(), through=through))
        self._files.reporter.report(CheckDetail(f"Found {len(segments)} segments"))
        meter = self._meter(len(segments))
        verified = in_order(self._verify, segments, self._threads)
        try:
            for segment, outcome in verified:
                meter.advance()
                self._check_segment(segment, outcome)
                if self._deadline is not None and self._deadline():
                    self.note(f"finished partial segment check, last segment checked is {segment}")
                    self._store_last_checked(segment)
                    return
        finally:
            verified.close()
            meter.finish()
        last = self._files.log.last_segment()  # borg names the last one there is, committed or not
        self.note(f"finished segment check at segment {-1 if last is None else last}")
        self._store_last_checked(None)

    def _meter(self, segments: int) -> ProgressMeter:
        return ProgressMeter(
            self._files.reporter, "repository.check", "Checking segments {:3.1f}%", total=segments, step=0.1
        )

    def _start_after(self) -> int:
        if self._deadline is None:
            self._store_last_checked(None)
            return -1
        last = self._files.settings.config.last_segment_checked
        after = -1 if last is None else last
        self.note(f"skipping to segments >= {after + 1}")
        return after

    def _store_last_checked(self, segment: int | None) -> None:
        if self._files.settings.config.last_segment_checked == segment:
            return
        try:
            self._files.settings.change_config(lambda config: setattr(config, "last_segment_checked", segment))
        except NotPermitted as error:
            self.note(f"the next partial check cannot go on from here: {error.reason}")

    def _check_segment(self, segment: int, outcome: _Outcome) -> None:
        self._files.reporter.report(CheckDetail(f"checking segment file {self._file_name(segment)}..."))
        if isinstance(outcome, IntegrityError):
            self.found(str(outcome))
            if self._repair:
                self.note(f"attempting to recover {self._file_name(segment)}")
                # Its entries move: an index that knows them by their old places must not survive an interruption.
                self._files.caches.remove()
                self._recover_segment(segment)
                outcome = self._verify(segment)
        if self._repair:
            self._apply(segment, outcome)
        elif self._proof is not None and self._deadline is None and not isinstance(outcome, IntegrityError):
            try:
                self._proof.show(segment, outcome)
            except IntegrityError as error:
                self.found(str(error))

    def _apply(self, segment: int, outcome: _Outcome) -> None:
        """Gather what a segment says in `rebuilt` and `state`; a damaged one says nothing.

        Raises IntegrityError if it was whole when it was read first and no longer is: some of it may be in there then.
        """
        entries = of_heads(() if isinstance(outcome, IntegrityError) else outcome)
        apply_segment(segment, entries, self._files.log, self.rebuilt, self.state)

    def _verify(self, segment: int) -> _Outcome:
        """Read a segment through; return the heads of all its entries, or what is wrong with it. In any thread.

        The error goes back as a value: it is a finding, not the end of the check. Heads that are too many to keep are
        read again, and checked again, when they are asked for.
        """
        kept: list[bytearray] = []
        size = 0
        try:
            for heads in self._heads(segment):
                size += len(heads)
                if size <= self._most_kept:
                    kept.append(heads)
                else:
                    kept.clear()
        except IntegrityError as error:
            return error
        return kept if size <= self._most_kept else self._heads(segment)

    def _heads(self, segment: int) -> Iterator[bytearray]:
        with self._files.log.source(segment) as source:
            yield from checked_heads(source, segment)

    def _recover_segment(self, segment: int) -> None:
        with self._files.log.source(segment) as source:
            self._files.log.rewrite(segment, segment_format.salvage(source.around_holes()))

    def _file_name(self, segment: int) -> str:
        return f"{self._files.location}/{self._files.log.name(segment)}"

    # --- index

    def compare_index(self, through: int) -> None:
        """Compare the index on disk, if it could be read, with what the segments up to `through` say."""
        self.note("Starting repository index check")
        committed = self._committed
        if committed is None or not len(committed):
            return
        if self._proof is not None:
            if self._is_proved(self._proof, through):
                self.note("Index object count match.")
                return
            self._rebuild(through)
        if len(committed) == len(self.rebuilt):
            self.note("Index object count match.")
        else:
            self.found("Index object count mismatch.")
            self.found(f"committed index: {len(committed)} objects")
            self.found(f"rebuilt index:   {len(self.rebuilt)} objects")
        objects = Counter(segment for _, segment, _ in committed.items())
        self._find_missing_segments(objects)
        for difference in _differences(committed, objects.total(), self.rebuilt):
            self.found(difference)

    def _is_proved(self, proof: IndexProof, through: int) -> bool:
        log = self._files.log
        while proof.goes_on():
            for segment in log.segments(through=through):
                try:
                    with log.source(segment) as source:
                        proof.show_again(segment_format.headers(source, segment))
                except IntegrityError:
                    return False  # a finding of before, or one of the comparison to come
        return proof.holds()

    def _rebuild(self, through: int) -> None:
        """Gather what the segments say, to tell in which way the index is wrong."""
        segments = array("I", self._files.log.segments(through=through))
        meter = self._meter(len(segments))
        verified = in_order(self._verify, segments, self._threads)
        try:
            for segment, outcome in verified:
                meter.advance()
                self._apply(segment, outcome)
        finally:
            verified.close()
            meter.finish()

    def _find_missing_segments(self, objects: Counter[int]) -> None:
        for segment, count in sorted(objects.items()):
            if not self._files.log.size(segment):
                self.found(f"Segment file {self._file_name(segment)} is missing, and with it {count} object(s)")


def _differences(committed: ObjectIndex, objects: int, rebuilt: ObjectIndex) -> Iterator[str]:
    """`objects`: how many `committed` has."""
    common = 0
    for object_id, segment, offset in rebuilt.items():
        other = committed.get(object_id)
        common += other is not None
        if other != (segment, offset):
            yield _difference(object_id, (segment, offset), other)
    if common == objects:
        return
    for object_id, segment, offset in committed.items():
        if rebuilt.get(object_id) is None:
            yield _difference(object_id, None, (segment, offset))


def _difference(object_id: bytes, rebuilt: tuple[int, int] | None, committed: tuple[int, int] | None) -> str:
    ours, theirs = (_NOT_FOUND if place is None else str(place) for place in (rebuilt, committed))
    return f"ID: {object_id.hex()} rebuilt index: {ours:<16} committed index: {theirs:<16}"


def check_repository(
    transactions: Transactions,
    log: SegmentLog,
    settings: Settings,
    location: str,
    reporter: Reporter,
    *,
    repair: bool,
    deadline: Callable[[], bool] | None,
) -> bool:
    """Check, and repair if asked for; return whether all is well afterwards (section 17.1).

    No transaction is open and the exclusive lock is held. Raises StorageError; findings are reported, not raised.
    """
    reporter.report(CheckStarted())
    transaction, committed = _committed(transactions, log, reporter)
    files = RepositoryFiles(location, log, transactions.caches, settings, reporter)
    with closing(Check(files, committed, repair=repair, deadline=deadline)) as check:
        if transaction is None:
            check.found("This repository contains no valid data.")
            return False
        if repair:
            log.remove_after(transaction)
        through = transaction
        check.check_segments(through)
        if deadline is None and log.last_commit() != transaction:
            if repair:
                check.found(f"Adding commit tag to segment {transaction}")
                log.continue_at(transaction + 1)
                transaction = log.commit()
            elif transactions.last_commit.damaged is not None:
                check.found(f"Segment {transaction} does not end with a commit")
        if deadline is None:
            check.compare_index(through)
        if repair:
            transactions.adopt(transaction, check.rebuilt, check.state)
        if check.errors and not repair:
            reporter.report(CheckFinishedWithErrors(check.mode))
            return False
        reporter.report(CheckFinished(check.mode, repaired=check.errors))
        return True


def _committed(
    transactions: Transactions, log: SegmentLog, reporter: Reporter
) -> tuple[int | None, ObjectIndex | None]:
    """Return the transaction to check and its index as far as it can be had (section 17.1, steps 3 and 4).

    The transaction is taken after the index was opened, which may have made a new one; it is None when there is no
    segment at all.
    """
    committed: ObjectIndex | None = None
    try:
        committed = transactions.verified_index()
    except BorgServeError as error:
        reporter.report(CheckDetail(f"Failed to read committed index ({error})"))
    transaction = transactions.last_commit.damaged
    if transaction is None:
        transaction = log.end().damaged
    if transaction is None:
        transaction = log.last_commit()
    if transaction is None:
        reporter.report(CheckDetail("No segments transaction found"))
        transaction = transactions.caches.index_transaction()
    if transaction is None:
        reporter.report(CheckDetail("No index transaction found, trying latest segment"))
        transaction = log.last_segment()
    reporter.report(CheckDetail(f"Determined transaction is {transaction}"))
    return transaction, committed
