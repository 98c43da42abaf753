"""How a repository comes to be open: created if asked for, locked, its config read.

Source: spec, repository-format.md sections 1 and 10, rpc.md section 3.1, serve-command.md sections 6 and 7.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ..errors import AtticRepository, FileMissing, InvalidRepository
from ..format import segment as segment_format
from ..locking.base import NOBODY, LockManager, LockMode, RepositoryLock, go_on
from ..reporting import Peer, Reporter
from ..storage.base import Storage, StorageProvider
from ..values import Value
from .log import SegmentLog
from .repository import Repository
from .requests import OpenRequest, RepositoryRules
from .settings import Settings


class HostRules(Value):
    """What the host lays down for every repository of a connection.

    `append_only` adds to what the repository's config says; `storage_quota` (bytes, 0: none), if not None, replaces
    it in both directions (spec: serve-command.md sections 6 and 7). `compacts` False keeps compaction from removing
    what is superseded, even where a commit would need the room.
    """

    append_only: bool = False
    compacts: bool = True
    storage_quota: int | None = None


_NO_RULES = HostRules()
_UNHEARD = Reporter()


def open_repository(
    path: str,
    request: OpenRequest,
    *,
    storages: StorageProvider,
    locks: LockManager,
    rules: HostRules = _NO_RULES,
    reporter: Reporter = _UNHEARD,
    peer: Peer = NOBODY,
    interrupt: Callable[[], None] = go_on,
    random_bytes: Callable[[int], bytes] = os.urandom,
    now: Callable[[], float] = time.time,
) -> Repository:
    """Open, or create and open, the repository at the absolute `path`, and lock it as `request` asks.

    `rules`: what the host lays down. `reporter`: is told what happens. `peer`, `interrupt`: whom its lock is for, and
    what is called while it is waited for, see LockManager.lock_for. `now`: seconds since 1970.

    Raises the errors of spec rpc.md section 3.1: DoesNotExist, InvalidRepository, InvalidRepositoryConfig,
    AtticRepository, PathPermissionDenied, LockTimeout, LockFailed; when creating also AlreadyExists,
    PathAlreadyExists, ParentPathDoesNotExist. After an error nothing stays locked or open.
    """
    if request.create:
        _create(path, request, storages=storages, rules=rules, reporter=reporter, random_bytes=random_bytes)
    storage = storages.open(path)
    lock = locks.lock_for(path, reporter, peer=peer, interrupt=interrupt)
    try:
        if request.locking:
            lock.acquire(LockMode.EXCLUSIVE if request.exclusive else LockMode.SHARED, request.lock_wait)
        settings = Settings(storage, reporter, random_bytes=random_bytes)
        _refuse_foreign_segments(storage, settings)
        return Repository(
            storage,
            lock,
            settings,
            request=request,
            rules=_session_rules(request, rules, settings),
            reporter=reporter,
            utc_now=lambda: _utc_text(now()),
        )
    except BaseException:
        _give_back(storage, lock)
        raise


def _create(
    path: str,
    request: OpenRequest,
    *,
    storages: StorageProvider,
    rules: HostRules,
    reporter: Reporter,
    random_bytes: Callable[[int], bytes],
) -> None:
    storage = storages.create(path, make_parent_dirs=request.make_parent_dirs)
    try:
        settings = Settings(storage, reporter, random_bytes=random_bytes)
        settings.initialise(append_only=request.append_only, storage_quota=rules.storage_quota or 0)
    finally:
        storage.close()


def _session_rules(request: OpenRequest, rules: HostRules, settings: Settings) -> RepositoryRules:
    config = settings.config
    quota = config.storage_quota if rules.storage_quota is None else rules.storage_quota
    append_only = config.append_only or request.append_only
    # The host's append-only does not hold for the first commit: what it writes is new anyway.
    later = rules.append_only and request.create and not append_only
    append_only = append_only or (rules.append_only and not later)
    return RepositoryRules(append_only, rules.compacts and not append_only, quota, later)


def _refuse_foreign_segments(storage: Storage, settings: Settings) -> None:
    """Raise AtticRepository if the newest segment is Attic's, InvalidRepository if there is no `data`."""
    config = settings.config
    log = SegmentLog(storage, segments_per_dir=config.segments_per_dir, max_segment_size=config.max_segment_size)
    try:
        newest = log.last_segment()
    except FileMissing:
        raise InvalidRepository(storage.location) from None
    if newest is None:
        return
    with log.source(newest) as source:
        if source.read_at(0, segment_format.MAGIC_SIZE) == segment_format.ATTIC_MAGIC:
            raise AtticRepository(storage.location)


def _give_back(storage: Storage, lock: RepositoryLock) -> None:
    try:
        lock.release()
    finally:
        storage.close()


def _utc_text(seconds: float) -> str:
    """Return `YYYY-MM-DDTHH:MM:SS.ffffff` (spec: repository-format.md section 8)."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1_000_000):06d}"
