"""Compaction: the current entries of segments with much freeable space move to new segments, the old ones go.

Source: spec, repository-format.md section 16.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import islice

from ..errors import IntegrityError
from ..format import segment as segment_format
from ..format.entry import COMMIT_SIZE, DELETE, PUT, PUT_HEADER_SIZE
from ..format.shadows import NO_SEGMENT
from ..reporting import Reporter
from ..values import Value
from .index import ObjectIndex
from .log import SegmentLog
from .progress import ProgressMeter
from .source import SegmentSource
from .state import TransactionState

_ROOM_TO_KEEP = 4 * 4096
"""Bytes that compaction leaves free on a nearly full disk: for its commits, and for hints and integrity data."""


def _is_enough(available: int | None, needed: int) -> bool:
    return available is None or available >= needed


class CompactionPlan(Value):
    """`segments`: numbers of those to compact, ascending. `missing`: listed ones that do not exist."""

    segments: Sequence[int]
    missing: Sequence[int]


def list_commit_segments(log: SegmentLog, state: TransactionState) -> None:
    """Make compaction see the segments that hold a COMMIT only: borg 1.1 never listed them (section 16.1)."""
    for segment in log.segments():
        if log.size(segment) == segment_format.COMMIT_SEGMENT_SIZE:
            state.hints.set_puts(segment, 0)
            state.hints.set_freeable(segment, COMMIT_SIZE)


def plan_compaction(log: SegmentLog, state: TransactionState, threshold: float) -> CompactionPlan:
    """Choose the segments of whose bytes more than the fraction `threshold` can be freed (section 16.2)."""
    chosen, missing = array("I"), array("I")  # there may be millions
    compact = state.hints.compact
    for segment in sorted(compact):
        freeable = compact[segment]
        size = log.size(segment)
        if not size:
            missing.append(segment)
        elif freeable / size > threshold:
            chosen.append(segment)
    return CompactionPlan(chosen, missing)


def frees_something(plan: CompactionPlan, state: TransactionState) -> bool:
    """Return whether `plan` is about more than the one segment with nothing but a COMMIT that a compaction leaves."""
    if len(plan.segments) != 1:
        return bool(plan.segments or plan.missing)
    return state.hints.compact[plan.segments[0]] > COMMIT_SIZE


def compact(
    plan: CompactionPlan,
    log: SegmentLog,
    index: ObjectIndex,
    state: TransactionState,
    *,
    indexed_transaction: int | None,
    free_space: Callable[[], int | None] | None,
    reporter: Reporter,
) -> tuple[int, IntegrityError | None]:
    """Carry out `plan` and commit; return the segment of the final COMMIT, and the first damage that was met.

    `indexed_transaction`: N of the index.N on disk, which a crash would fall back to; entries of later segments are
    not yet safe to drop. `free_space`: None where there is enough for whatever is to be moved; else it tells the bytes
    that are free, and compaction goes from the segment with the least to move to that with the most, as far as each
    step's gain lets it. A damaged segment stays as it is. Raises StorageError; IntegrityError if the damage of one
    spreads while it is dealt with; and WrongState if the lock was taken away: the log asks for it before it removes
    what a COMMIT has made superfluous, which may be gone by then.
    """
    compaction = _Compaction(
        log,
        index,
        state,
        indexed_transaction=indexed_transaction,
        reporter=reporter,
    )
    compaction.drop_missing(plan.missing)
    quota_use = state.hints.storage_quota_use
    segments = plan.segments if free_space is None else sorted(plan.segments, key=compaction.size_to_move)
    meter = ProgressMeter(
        reporter, "repository.compact_segments", "Compacting segments {:3.0f}%", total=len(plan.segments), step=1
    )
    try:
        for segment in segments:
            meter.advance()
            if free_space is None or compaction.find_room(segment, free_space):
                compaction.move(segment)
    finally:
        meter.finish()
    transaction = compaction.finish()

    from ..events.maintenance import CompactionFinished

    reporter.report(CompactionFinished(quota_use - state.hints.storage_quota_use))
    return transaction, compaction.damage


class _Compaction:
    """`damage`: the first that was met, None as long as there was none."""

    def __init__(
        self,
        log: SegmentLog,
        index: ObjectIndex,
        state: TransactionState,
        *,
        indexed_transaction: int | None,
        reporter: Reporter,
    ) -> None:
        self._log = log
        self._index = index
        self._state = state
        self._indexed_transaction = indexed_transaction
        self._reporter = reporter
        self._unused = array("I")
        self.damage: IntegrityError | None = None

    def drop_missing(self, segments: Sequence[int]) -> None:
        from ..events.maintenance import CompactedSegmentMissing

        for segment in segments:
            self._reporter.report(CompactedSegmentMissing(segment))
            self._state.forget_segment(segment)

    def size_to_move(self, segment: int) -> int:
        """Return the bytes of a segment that cannot be freed."""
        return max(0, self._log.size(segment) - self._state.hints.compact.get(segment, 0))

    def find_room(self, segment: int, free_space: Callable[[], int | None]) -> bool:
        """Return whether there is room for moving `segment`, if need be by letting go of those moved before."""
        needed = self.size_to_move(segment) + _ROOM_TO_KEEP
        if _is_enough(free_space(), needed):
            return True
        if self._unused:
            self._complete()
        if _is_enough(free_space(), needed):
            return True
        from ..events.maintenance import CompactionPostponed

        self._reporter.report(CompactionPostponed(segment, needed))
        return False

    def move(self, segment: int) -> None:
        """Write what is still needed of a segment anew (section 16.3); if it is damaged it stays beside that."""
        done = _Moved()
        try:
            with self._log.source(segment) as source:
                self._move_entries(segment, source, done)
                if self._state.hints.segments.get(segment):
                    # Current PUTs were not met: with a damaged head they pass for superseded ones, which nobody checks.
                    for _ in segment_format.entries(source, segment, with_data=False):
                        pass
        except IntegrityError as error:
            self._keep(segment, done)
            self.damage = self.damage or error
        else:
            self._unused.append(segment)

    def _move_entries(self, segment: int, source: SegmentSource, done: _Moved) -> None:
        state = self._state

        def is_superseded(object_id: bytes, offset: int) -> bool:
            return self._index.get(object_id) != (segment, offset)

        entries = segment_format.entries(source, segment, whole=True, skips=is_superseded)
        for tag, object_id, offset, size, entry in entries:
            if tag == PUT:
                location = self._index.get(object_id)
                if location == (segment, offset):
                    self._move_put(object_id, segment, entry)
                    done.copied_size += size
                else:
                    if location is not None and location[0] == segment:
                        # Another PUT of this segment is current: or the index is wrong, and this one must not go.
                        self._log.put_size(object_id, *location)
                    state.unshadow(object_id, segment)
                    state.put_removed(size)
                done.size += size
            elif tag == DELETE and self._index.get(object_id) is None:
                self._move_delete(object_id, segment)
            done.entries += 1

    def _keep(self, segment: int, done: _Moved) -> None:
        """Let the books say that `segment` stays, with what was copied from it superseded by the copies.

        Raises IntegrityError when there is damage before the place where it was met first.
        """
        from ..events.maintenance import DamagedSegmentKept

        self._reporter.report(DamagedSegmentKept(segment))
        hints = self._state.hints
        with self._log.source(segment) as source:
            # Head by head, as not a byte beyond them is known to be readable: a superseded PUT was not read further.
            heads = segment_format.headers(source, segment, window=PUT_HEADER_SIZE)
            for tag, object_id, *_ in islice(heads, done.entries):
                if tag == PUT:
                    hints.shadow_index.add(object_id, segment)
        self._state.free(segment, done.copied_size)
        hints.storage_quota_use += done.size

    def _move_put(self, object_id: bytes, segment: int, entry: memoryview) -> None:
        self._make_room(object_id)
        # As it is, with the CRC that was just checked: to make the header anew would take 0.7 us of 7.
        location = self._log.put(object_id, entry)
        self._index.put(object_id, location, is_new=False)
        self._state.put_logged(location[0])
        self._state.put_left(segment)

    def _move_delete(self, object_id: bytes, segment: int) -> None:
        shadow_index = self._state.hints.shadow_index
        lowest = shadow_index.lowest(object_id)
        indexed = self._indexed_transaction
        if (
            lowest is None  # nothing is known of older PUTs
            or lowest < segment
            or indexed is None
            or segment > indexed
        ):
            self._make_room(object_id)
            self._state.delete_logged(self._log.delete(object_id))
        elif lowest == NO_SEGMENT:
            shadow_index.forget(object_id)

    def _make_room(self, object_id: bytes) -> None:
        """Before a new segment begins, what was moved so far is committed and its old segments go (section 16.4)."""
        if self._log.needs_new_segment(object_id):
            self._complete()

    def _complete(self) -> None:
        self._state.commit_logged(self._log.commit_in_place())
        self._remove_unused()

    def _remove_unused(self) -> None:
        for segment in self._unused:
            count = self._state.forget_segment(segment)
            if count:
                from ..events.maintenance import ReferenceCountWrong

                self._reporter.report(ReferenceCountWrong(segment, count))
            self._log.remove(segment)
        self._unused = array("I")

    def finish(self) -> int:
        transaction = self._log.commit()
        self._state.commit_logged(transaction)
        self._remove_unused()
        self._log.remove_empty_directories()
        return transaction


class _Moved:
    """How far one segment was moved, in case that it has to stay; its ids, maybe millions, are read again then.

    `entries`: how many were dealt with. `size`: bytes of the PUTs among them; `copied_size`: of those that were copied.
    """

    def __init__(self) -> None:
        self.entries = self.size = self.copied_size = 0
