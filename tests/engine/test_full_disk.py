"""A full disk and a used-up quota are no dead end: deleting and compacting go on, and reading always does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from borg_serve_lib.engine.opening import HostRules, open_repository
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.errors import BorgServeError, InsufficientFreeSpaceError, NoSpace, StorageQuotaExceeded
from borg_serve_lib.events.maintenance import CompactionPostponed, IndexNotWritten, OldIndexGaveWay
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage

from .scenarios import CREATING, PATH, make_segments_small, remove
from .support import READING, WRITING, Notes, content, identity

OBJECT = 400  # bytes
FEW_BLOCKS = 40_000
"""Bytes: a commit's segment, hints and integrity data, and some entries; less than the index has."""


class Disk:
    """A repository on a disk of which the free space can be set."""

    def __init__(self, segment_size: int = 1500) -> None:
        self.provider = MemoryProvider()
        self.notes = Notes()
        self.open(CREATING).close()
        make_segments_small(self.storage, segment_size)
        repository = self.open()
        put_all(repository, range(60))
        repository.close()

    @property
    def storage(self) -> MemoryStorage:
        return self.provider.open(PATH)

    def open(self, request: OpenRequest = WRITING, **rules: int) -> Repository:
        self.notes = Notes()
        return open_repository(
            PATH,
            request,
            storages=self.provider,
            locks=MemoryLockManager(),
            rules=HostRules(**rules),
            reporter=self.notes,
        )


@pytest.fixture
def disk() -> Disk:
    return Disk()


def put_all(repository: Repository, numbers: range) -> None:
    for number in numbers:
        repository.put(identity(number), bytes([number]) * OBJECT)
    repository.put(MANIFEST_ID, b"manifest %d" % numbers.stop)
    repository.commit(compact=False)


def delete_as_borg_does(repository: Repository, numbers: range) -> None:
    """Deletes first, then the manifest, then the commit; nothing is compacted."""
    for number in numbers:
        repository.delete(identity(number))
    repository.put(MANIFEST_ID, b"manifest after")
    repository.commit(compact=False)


def compact_as_borg_does(repository: Repository) -> None:
    repository.put(MANIFEST_ID, repository.get(MANIFEST_ID))
    repository.commit(compact=True, threshold=0.1)


def used(disk: Disk) -> int:
    return sum(disk.storage.size(name) or 0 for name in disk.storage.names() if name.startswith("data/"))


@pytest.mark.parametrize("free", [0, 1, 4096, FEW_BLOCKS, 80_000, 200_000, 1 << 20])
def test_deleting_and_compacting_need_little_room(disk: Disk, free: int) -> None:
    before = used(disk)
    disk.storage.leave(free)
    repository = disk.open()
    delete_as_borg_does(repository, range(10, 50))
    compact_as_borg_does(repository)
    kept = {**content(repository)}
    repository.close()
    assert set(kept) == {*map(identity, (*range(10), *range(50, 60))), MANIFEST_ID}
    assert used(disk) < before // 2
    repository = disk.open()
    assert content(repository) == kept
    assert repository.check()
    repository.close()


def test_what_adds_data_leaves_room_for_what_frees_it(disk: Disk) -> None:
    disk.storage.leave(100_000)
    repository = disk.open()
    with pytest.raises(InsufficientFreeSpaceError) as refusal:
        put_all(repository, range(60, 70))
    assert refusal.value.required > 165_000
    repository.close()
    repository = disk.open()
    delete_as_borg_does(repository, range(10, 50))
    compact_as_borg_does(repository)
    repository.close()
    disk.storage.capacity = None
    repository = disk.open()
    put_all(repository, range(60, 70))
    assert len(repository) == 31
    repository.close()


def test_a_disk_that_fills_while_data_come_in_gets_its_room_back(disk: Disk) -> None:
    disk.storage.leave(3000)
    before = used(disk)
    repository = disk.open()
    with pytest.raises(NoSpace) as refusal:
        put_all(repository, range(60, 90))
    assert "The disk is full" in str(refusal.value)
    repository.rollback()
    assert used(disk) == before
    assert len(repository) == 61
    repository.close()


def test_what_has_no_room_to_be_compacted_waits() -> None:
    disk = Disk(segment_size=12_000)
    repository = disk.open()
    for number in range(0, 60, 8):
        repository.delete(identity(number))
    repository.commit(compact=False)
    repository.close()
    wanted = 61 - 8
    disk.storage.leave(26_000)
    repository = disk.open()
    compact_as_borg_does(repository)
    assert len(content(repository)) == wanted
    assert disk.notes.of(CompactionPostponed)
    repository.close()
    disk.storage.capacity = None
    before = used(disk)
    repository = disk.open()
    compact_as_borg_does(repository)
    assert not disk.notes.of(CompactionPostponed)
    assert len(content(repository)) == wanted
    assert repository.check()
    repository.close()
    assert used(disk) < before


def test_without_room_for_two_indexes_the_old_one_goes_first(disk: Disk) -> None:
    disk.storage.leave(33_000)
    repository = disk.open()
    delete_as_borg_does(repository, range(10, 11))
    assert disk.notes.of(OldIndexGaveWay)
    assert not disk.notes.of(IndexNotWritten)
    repository.close()
    assert sum(name.startswith("index.") for name in disk.storage.names()) == 1


@pytest.mark.parametrize("missing", [["index"], ["hints"], ["index", "hints", "integrity"]])
@pytest.mark.parametrize("request_", [READING, WRITING, OpenRequest(exclusive=None)])
def test_reading_needs_no_room_even_without_an_index(disk: Disk, missing: list[str], request_: OpenRequest) -> None:
    remove(disk.storage, *missing)
    disk.storage.leave(0)
    repository = disk.open(request_)
    assert len(content(repository)) == 61
    assert len(repository) == 61
    repository.close()


def test_a_commit_without_room_for_its_index_is_a_commit(disk: Disk) -> None:
    remove(disk.storage, "index", "hints", "integrity")
    disk.storage.leave(FEW_BLOCKS)
    repository = disk.open()
    delete_as_borg_does(repository, range(10, 50))
    assert disk.notes.of(IndexNotWritten)
    repository.close()
    repository = disk.open(READING)
    assert len(content(repository)) == 21
    repository.close()


# --- quota


def fill_quota(disk: Disk, quota: int) -> None:
    repository = disk.open(storage_quota=quota)
    with pytest.raises(StorageQuotaExceeded):
        put_all(repository, range(60, 200))
    repository.close()


@pytest.mark.parametrize("spare", [0, 1, 30, 100])
def test_a_used_up_quota_lets_one_delete_and_compact(disk: Disk, spare: int) -> None:
    quota = 60 * (OBJECT + 41) + len(b"manifest 60") + 41 + spare
    fill_quota(disk, quota)
    repository = disk.open(storage_quota=quota)
    compact_as_borg_does(repository)
    delete_as_borg_does(repository, range(10, 50))
    compact_as_borg_does(repository)
    assert len(content(repository)) == 21
    put_all(repository, range(60, 90))
    repository.close()


def test_a_quota_that_was_lowered_lets_one_delete(disk: Disk) -> None:
    repository = disk.open(storage_quota=1000)
    delete_as_borg_does(repository, range(10, 50))
    repository.close()
    assert used(disk) < 21 * (OBJECT + 41) + 3000  # the commit has compacted
    repository = disk.open(storage_quota=1000)
    with pytest.raises(StorageQuotaExceeded):
        repository.put(identity(70), b"")
    repository.close()


@pytest.mark.parametrize("append_only", [False, True])
def test_a_used_up_quota_cannot_be_outwitted(disk: Disk, append_only: bool) -> None:
    """Neither by writing and deleting again and again, nor where deleting frees nothing."""
    quota = 60 * (OBJECT + 41) + 52
    most = used(disk)
    for turn in range(20):
        repository = disk.open(storage_quota=quota, append_only=append_only)
        try:
            for number in range(5):
                repository.delete(identity(number))
            for number in range(5):
                repository.put(identity(number), bytes([turn]) * OBJECT)
            repository.commit(compact=False)
        except BorgServeError:
            assert append_only
        repository.close()
        assert used(disk) < most + 20 * 441


def test_the_three_ways_to_be_full_say_so_differently(disk: Disk) -> None:
    from borg_serve_lib.errors import FileSystemQuotaExceeded

    said: list[str] = []
    causes: list[Callable[[], object]] = [
        lambda: NoSpace(28, "No space left on device", "data/0/1"),
        lambda: FileSystemQuotaExceeded(122, "Disk quota exceeded", "data/0/1"),
        lambda: StorageQuotaExceeded(1000, 1001),
        lambda: InsufficientFreeSpaceError(1000, 999),
    ]
    for cause in causes:
        said.append(str(cause()))
    assert len({line.split(":")[0] for line in said}) == 4
    assert all("rror" not in line.split(":")[0] for line in said)
