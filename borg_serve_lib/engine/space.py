"""How much room a commit may need. Source: spec, repository-format.md section 18.3."""

from __future__ import annotations

from ..format.hashindex import BUCKET_SIZE, HEADER_SIZE
from ..format.hints import Hints
from ..limits import MAX_ENTRY_SIZE
from .log import SegmentLog

_BYTES_PER_SEGMENT = 10
_SLACK = 4096
_INDEX_COPIES = 4
_FEW_BLOCKS = 6 * 4096
_FEW_SEGMENTS = 10


def least_space(hints: Hints) -> int:
    """Return the bytes without which not even a transaction that only deletes can be committed: the COMMIT, hints and
    integrity data; the index takes the place of the old one.
    """
    return _BYTES_PER_SEGMENT * (len(hints.segments) + len(hints.compact)) + _FEW_BLOCKS


def required_space(
    hints: Hints, log: SegmentLog, *, buckets: int, additional: int, compacts: bool, max_segment_size: int
) -> int:
    """Return the bytes that must be free for a commit to be tried.

    `buckets`: of the index. `additional`: the host's reserve. `compacts`: the repository is not append-only.
    """
    index = _INDEX_COPIES * (HEADER_SIZE + BUCKET_SIZE * buckets)
    hints_size = _BYTES_PER_SEGMENT * (len(hints.segments) + len(hints.compact))
    required = index + hints_size + _SLACK + additional
    if not compacts:
        return required
    largest_segment = max_segment_size + MAX_ENTRY_SIZE
    if len(hints.compact) >= _FEW_SEGMENTS:
        return required + largest_segment
    moved = sum(size - freeable for segment, freeable in hints.compact.items() if (size := log.size(segment)))
    return required + min(moved, largest_segment)
