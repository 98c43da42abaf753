"""Index and hints made anew from the entries of the segments.

Source: spec, repository-format.md sections 6 (version 1), 13 and 14.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from ..errors import IntegrityError, StorageError
from ..format import segment as segment_format
from ..format.entry import COMMIT_SIZE, DELETE, DELETE_SIZE, PUT
from ..reporting import Reporter
from .index import Location, ObjectIndex
from .log import SegmentLog
from .progress import ProgressMeter
from .state import TransactionState


def replay(
    log: SegmentLog, index: ObjectIndex, state: TransactionState, *, after: int, through: int, reporter: Reporter
) -> None:
    """Bring `index` and `state` from segment `after` (-1: from nothing) up to the committed segment `through`.

    Raises IntegrityError when a segment is damaged, StorageError.
    """
    segments = array("I", log.segments(after=after, through=through))
    meter = ProgressMeter(
        reporter, "repository.replay_segments", "Replaying segments {:3.0f}%", total=len(segments), step=5
    )
    try:
        for segment in segments:
            meter.advance()
            with log.source(segment) as source:
                entries = segment_format.entries(source, segment, with_data=False)
                apply_segment(segment, (entry[:4] for entry in entries), log, index, state)
    finally:
        meter.finish()
    _forget_missing_segments(log, state)


def _forget_missing_segments(log: SegmentLog, state: TransactionState) -> None:
    """Take what an interrupted compaction has removed out of the books that it began with.

    Borg leaves that in, and counts what was moved twice. Of what a segment could free its DELETEs never counted for
    the quota; how many it had nobody knows any more, so that 41 bytes too many are given back for each.
    """
    hints = state.hints
    missing = {segment for segment in hints.segments if not log.size(segment)}
    if not missing:
        return
    for segment in missing:
        freeable = hints.compact.get(segment, 0)
        if freeable != COMMIT_SIZE:
            hints.storage_quota_use = max(0, hints.storage_quota_use - freeable)
        state.forget_segment(segment)
    hints.shadow_index.forget_segments(missing.__contains__)
    hints.shadow_index.forget_unshadowed()


def apply_segment(
    segment: int,
    entries: Iterable[tuple[int, bytes, int, int]],
    log: SegmentLog,
    index: ObjectIndex,
    state: TransactionState,
) -> None:
    """Take the entries (tag, object id, offset, size) of one segment into account, in their order."""
    hints = state.hints
    hints.set_puts(segment, 0)
    puts = put_bytes = 0
    for tag, object_id, offset, size in entries:
        if tag == PUT:
            old = index.set(object_id, (segment, offset))
            if old is not None:
                # The old entry may lie in a segment that is gone; borg takes the size of the new one, and so do we.
                state.put_superseded(object_id, old[0], size)
            puts += 1
            put_bytes += size
        elif tag == DELETE:
            old = index.get(object_id)
            if old is not None:
                index.remove(object_id)
                _supersede_deleted(object_id, old, log, state)
    hints.storage_quota_use += put_bytes
    hints.segments[segment] += puts
    if hints.segments[segment] == 0:
        hints.set_freeable(segment, log.size(segment))


def _supersede_deleted(object_id: bytes, old: Location, log: SegmentLog, state: TransactionState) -> None:
    segment, offset = old
    if not log.size(segment):
        return
    try:
        size = log.put_size(object_id, segment, offset)
    except (IntegrityError, StorageError):
        # A damaged old segment is a finding of its own; here it only means that nothing is known to be freeable.
        size = 0
    state.put_superseded(object_id, segment, size)


def size_listed_segments(log: SegmentLog, index: ObjectIndex, state: TransactionState) -> None:
    """Compute the freeable bytes that hints of version 1 do not have (spec: repository-format.md section 6)."""
    hints = state.hints
    for segment in sorted(hints.unsized):
        file_size = log.size(segment)
        if not file_size:
            hints.segments.pop(segment, None)
        elif not hints.segments.get(segment):
            hints.set_freeable(segment, file_size)
        else:
            hints.set_freeable(segment, _freeable(log, index, segment))
    hints.unsized = ()


def _freeable(log: SegmentLog, index: ObjectIndex, segment: int) -> int:
    freeable = 0
    with log.source(segment) as source:
        for tag, object_id, offset, size in segment_format.headers(source, segment):
            if tag == DELETE:
                freeable += DELETE_SIZE
            elif tag == PUT and index.get(object_id) != (segment, offset):
                freeable += size
    return freeable
