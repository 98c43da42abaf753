"""What can be told of a repository without its key, without its lock and without a write."""

from __future__ import annotations

import os

from ..errors import BorgServeError, FileMissing
from ..limits import MAX_SMALL_FILE_SIZE
from ..reporting import Reporter
from ..storage.base import Storage, StorageProvider
from ..values import Value
from .caches import CACHE_ERRORS, CacheFiles
from .lastcommit import LastCommit
from .log import SegmentLog
from .settings import Settings

_MOST_TRANSACTIONS = 10


class Summary(Value):
    """A repository as it was at a glance; another session may have changed it since.

    `id`: hex. `quota`: bytes, 0 for none. `segments`, `segment_bytes`: the files on disk. `last_segment`: the file of
    the last committed transaction, "" if there is none. `transaction`: its number. `objects`, `used_bytes` (what counts
    for the quota), `freeable_bytes` (by compaction): None where index or hints cannot be used. `transactions`: the last
    lines of the log that append-only repositories keep. `notes`: what is out of order, one sentence each.
    """

    path: str
    id: str
    append_only: bool
    quota: int
    segments: int
    segment_bytes: int
    transaction: int | None
    last_segment: str
    objects: int | None
    used_bytes: int | None
    freeable_bytes: int | None
    transactions: tuple[str, ...]
    notes: tuple[str, ...]


def summarise(path: str, *, storages: StorageProvider, reporter: Reporter) -> Summary:
    """Return a summary of the repository at the absolute `path`; nothing is written, no lock is taken.

    Raises DoesNotExist, InvalidRepository, InvalidRepositoryConfig, PathPermissionDenied, StorageError.
    """
    storage = storages.open(path)
    try:
        config = Settings(storage, reporter, random_bytes=os.urandom).config
        log = SegmentLog(storage, segments_per_dir=config.segments_per_dir, max_segment_size=config.max_segment_size)
        caches = CacheFiles(storage, reporter)
        notes: list[str] = []
        try:
            sizes = [log.size(segment) for segment in log.segments()]
            indexed, committed = caches.index_transaction(), _committed(storage, log, caches, notes)
        finally:
            log.close()
        try:
            transactions = storage.read("transactions", MAX_SMALL_FILE_SIZE).decode("ascii", "replace").splitlines()
        except FileMissing:
            transactions = []
        used, freeable = (0, 0) if committed is None else _hints(caches, indexed, notes)
        return Summary(
            path,
            config.id.hex(),
            config.append_only,
            config.storage_quota,
            segments=len(sizes),
            segment_bytes=sum(sizes),
            transaction=committed,
            last_segment="" if committed is None else log.name(committed),
            objects=0 if committed is None else _objects(caches, indexed, notes),
            used_bytes=used,
            freeable_bytes=freeable,
            transactions=tuple(transactions[-_MOST_TRANSACTIONS:]),
            notes=tuple(notes),
        )
    finally:
        storage.close()


def _committed(storage: Storage, log: SegmentLog, caches: CacheFiles, notes: list[str]) -> int | None:
    """Return the last committed transaction, None if there is none; note what a writer would find wrong with it."""
    indexed, committed = caches.index_transaction(), log.last_commit()
    if indexed == committed:
        return committed
    sealed = -1 if committed is None else committed
    if indexed is None:
        notes.append(f"there is no index, the last transaction is {committed}: the next writer makes it anew")
    elif indexed > sealed and LastCommit(storage, log, caches, Reporter()).is_proved(indexed, sealed):
        notes.append(f"the COMMIT of transaction {indexed} is damaged, the index proves it: see borg-serve repo check")
        return indexed
    else:
        notes.append(f"the index is of transaction {indexed}, the segments of {committed}: see borg-serve repo check")
    return committed


def _objects(caches: CacheFiles, transaction: int | None, notes: list[str]) -> int | None:
    if transaction is None:
        return None
    try:
        index = caches.open_index(transaction)
        try:
            index.verify()
            return len(index)
        finally:
            index.close()
    except CACHE_ERRORS as error:
        notes.append(_cannot_be_used(error))
        return None


def _hints(caches: CacheFiles, transaction: int | None, notes: list[str]) -> tuple[int | None, int | None]:
    if transaction is None:
        return None, None
    try:
        hints = caches.read_hints(transaction)
    except CACHE_ERRORS as error:
        notes.append(_cannot_be_used(error))
        return None, None
    return hints.storage_quota_use, sum(hints.compact.values())


def _cannot_be_used(error: BorgServeError) -> str:
    return f"{error}: the next writer makes it anew from the segments"
