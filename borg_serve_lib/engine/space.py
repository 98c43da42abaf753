"""How much room a commit may need, and whether it is there. Source: spec, repository-format.md section 18.3."""

from __future__ import annotations

from ..errors import InsufficientFreeSpaceError, StorageError
from ..events.transactions import FreeSpaceChecked, FreeSpaceUnknown
from ..format.config import RepositoryConfig
from ..format.hashindex import BUCKET_SIZE, HEADER_SIZE
from ..format.hints import Hints
from ..limits import MAX_ENTRY_SIZE
from ..reporting import Reporter
from ..storage.base import Storage
from .index import ObjectIndex
from .log import SegmentLog
from .state import TransactionState

_BYTES_PER_SEGMENT = 10
_SLACK = 4096
_INDEX_COPIES = 4
_FEW_BLOCKS = 6 * 4096


def free_space(storage: Storage, reporter: Reporter) -> int | None:
    """Return the bytes that may still be written, None where the system does not tell."""
    try:
        return storage.free_space()
    except StorageError as error:
        reporter.report(FreeSpaceUnknown(str(error)))
        return None


def has_room(
    storage: Storage,
    log: SegmentLog,
    config: RepositoryConfig,
    state: TransactionState,
    index: ObjectIndex,
    *,
    compacts: bool,
    reporter: Reporter,
) -> bool:
    """Return whether there is as much room as borg demands of every commit. A transaction that frees more than it
    adds may be committed with less, or a disk once full would stay so.

    Raises InsufficientFreeSpaceError.
    """
    available = free_space(storage, reporter)
    if available is None:
        return True
    required = required_space(
        state.hints,
        log,
        buckets=index.buckets,
        additional=config.additional_free_space,
        compacts=compacts,
        max_segment_size=config.max_segment_size,
    )
    reporter.report(FreeSpaceChecked(required, available))
    if available >= required:
        return True
    if state.shrinks:
        required = least_space(state.hints)
    if available < required:
        raise InsufficientFreeSpaceError(required, available)
    return False


def shortage(storage: Storage, hints: Hints, reporter: Reporter) -> InsufficientFreeSpaceError | None:
    """Return what is wrong if there is not even room for committing a transaction that only deletes, else None."""
    available, required = free_space(storage, reporter), least_space(hints)
    if available is None or available >= required:
        return None
    return InsufficientFreeSpaceError(required, available)


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
    return required + _to_be_moved(hints, log, at_most=max_segment_size + MAX_ENTRY_SIZE)


def _to_be_moved(hints: Hints, log: SegmentLog, *, at_most: int) -> int:
    """Return the bytes compaction may have to write before it can free any. Borg demands the most, half a gigabyte,
    wherever ten segments or more have something to free.
    """
    moved = 0
    for segment, freeable in hints.compact.items():
        moved += max(0, log.size(segment) - freeable)
        if moved >= at_most:
            return at_most
    return moved
