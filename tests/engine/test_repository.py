"""The repository as its clients see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from borg_serve_lib.buffers import InMemory
from borg_serve_lib.engine.index import ObjectIndex
from borg_serve_lib.engine.log import SegmentLog
from borg_serve_lib.engine.opening import HostRules, open_repository
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.errors import (
    AlreadyExists,
    CheckNeeded,
    DoesNotExist,
    FileMissing,
    IntegrityError,
    InvalidArgument,
    InvalidNonce,
    InvalidRepository,
    InvalidRepositoryConfig,
    LockTimeout,
    NonceMismatch,
    NotEnoughMemory,
    ObjectNotFound,
    StorageQuotaExceeded,
    UnknownMarker,
    WrongState,
)
from borg_serve_lib.events.transactions import UncommittedSegmentsRemoved
from borg_serve_lib.format.integrity import FileDigests
from borg_serve_lib.format.shadows import ShadowIndex
from borg_serve_lib.limits import MANIFEST_ID, MAX_DATA_SIZE
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.reporting import Level
from borg_serve_lib.storage.places import FilesystemProvider
from tests.engine.support import READING, WRITING, Notes, content, created, identity, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def repository(path: Path) -> Iterator[Repository]:
    repository = created(path)
    yield repository
    repository.close()


def segment_files(path: Path) -> dict[int, bytes]:
    return {int(file.name): file.read_bytes() for file in path.glob("data/*/*")}


# --- objects


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    repository = created(path)
    wanted = {identity(number): b"x" * number for number in range(50)} | {MANIFEST_ID: b"manifest"}
    for object_id, data in wanted.items():
        repository.put(object_id, data)
    repository.commit(compact=False)
    repository.close()
    repository = opened(path, READING)
    assert content(repository) == wanted
    assert len(repository) == 51
    repository.close()


def test_an_object_can_be_read_before_the_commit(repository: Repository) -> None:
    repository.put(identity(1), b"one")
    assert repository.get(identity(1)) == b"one"
    repository.put(identity(1), b"other")
    assert repository.get(identity(1)) == b"other"
    assert repository.list() == [identity(1)]
    assert len(repository) == 1


def test_an_empty_object_is_an_object(repository: Repository) -> None:
    repository.put(identity(1), b"")
    repository.commit()
    assert repository.get(identity(1)) == b""


def test_large_objects_up_to_the_limit_are_stored_and_larger_ones_refused(repository: Repository) -> None:
    repository.put(identity(1), b"small")
    with pytest.raises(IntegrityError, match=r"More than allowed put data \[20971480 > 20971479\]"):
        repository.put(identity(1), bytes(MAX_DATA_SIZE + 1))
    assert repository.get(identity(1)) == b"small"
    repository.put(identity(2), bytes(MAX_DATA_SIZE))
    repository.commit(compact=False)
    assert repository.get(identity(1)) == b"small"
    assert len(repository.get(identity(2))) == MAX_DATA_SIZE


def test_an_unknown_object_is_not_found_by_its_hex_id(repository: Repository, path: Path) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        repository.get(identity(7))
    assert caught.value.wire_args == (identity(7).hex(), str(path))
    with pytest.raises(ObjectNotFound):
        repository.delete(identity(7))


def test_a_deleted_object_is_gone_at_once_and_for_good(repository: Repository) -> None:
    repository.put(identity(1), b"one")
    repository.put(identity(2), b"two")
    repository.commit(compact=False)
    repository.delete(identity(1))
    with pytest.raises(ObjectNotFound):
        repository.get(identity(1))
    repository.commit(compact=False)
    assert content(repository) == {identity(2): b"two"}


def test_rollback_forgets_what_was_not_committed(repository: Repository) -> None:
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.put(identity(1), b"changed")
    repository.put(identity(2), b"two")
    repository.rollback()
    assert content(repository) == {identity(1): b"one"}


def test_a_put_after_a_rollback_is_committed_whole(repository: Repository, path: Path) -> None:
    repository.put(identity(1), b"one")
    repository.rollback()
    repository.put(identity(2), b"two")
    repository.commit(compact=False)
    repository.close()
    reopened = opened(path, WRITING)
    assert content(reopened) == {identity(2): b"two"}
    assert reopened.check()
    reopened.close()


def test_a_commit_without_changes_does_nothing(repository: Repository, path: Path) -> None:
    repository.commit()
    assert segment_files(path) == {}


# --- list and scan


def test_list_pages_through_all_ids_once(repository: Repository) -> None:
    wanted = {identity(number) for number in range(25)}
    for object_id in sorted(wanted)[:20]:
        repository.put(object_id, b"x")
    repository.commit(compact=False)
    for object_id in sorted(wanted)[20:]:
        repository.put(object_id, b"x")
    for page in (repository.list, repository.scan):
        pages, marker = [], None
        while ids := page(7, marker):
            pages.append(ids)
            marker = ids[-1]
        assert [len(ids) for ids in pages] == [7, 7, 7, 4]
        assert {object_id for ids in pages for object_id in ids} == wanted


def test_list_leaves_out_deleted_and_keeps_overwritten_objects(repository: Repository) -> None:
    for number in range(5):
        repository.put(identity(number), b"x")
    repository.commit(compact=False)
    repository.delete(identity(3))
    repository.put(identity(4), b"y")
    repository.put(identity(9), b"z")
    repository.put(identity(8), b"z")
    repository.delete(identity(8))
    wanted = {identity(number) for number in (0, 1, 2, 4, 9)}
    assert set(repository.list()) == wanted
    assert len(repository.list()) == len(repository) == 5


def test_scan_yields_current_objects_in_log_order(repository: Repository) -> None:
    for number in (5, 3, 9, 1):
        repository.put(identity(number), b"x")
    repository.put(identity(5), b"again")
    repository.delete(identity(9))
    repository.commit(compact=False)
    assert repository.scan() == [identity(3), identity(1), identity(5)]
    assert repository.scan(1, identity(3)) == [identity(1)]


def test_limits_and_markers_are_checked(repository: Repository) -> None:
    repository.put(identity(1), b"x")
    assert repository.list(0) == []
    with pytest.raises(InvalidArgument):
        repository.list(-1)
    with pytest.raises(InvalidArgument):
        repository.scan(0)
    for page in (repository.list, repository.scan):
        with pytest.raises(UnknownMarker):
            page(5, identity(2))
    repository.delete(identity(1))
    with pytest.raises(UnknownMarker):
        repository.list(5, identity(1))


# --- the layout of the log


def test_the_manifest_and_each_final_commit_begin_segments_of_their_own(repository: Repository, path: Path) -> None:
    repository.put(identity(1), b"one")
    repository.put(MANIFEST_ID, b"m1")
    repository.commit(compact=False)
    repository.put(MANIFEST_ID, b"m2")
    repository.commit(compact=False)
    sizes = {number: len(data) for number, data in segment_files(path).items()}
    assert sizes == {0: 8 + 44, 1: 8 + 43, 2: 17, 3: 8 + 41, 4: 8 + 43, 5: 17}


def test_hints_count_as_borg_counts(path: Path) -> None:
    from borg_serve_lib.format import hintsfile

    repository = created(path)
    repository.put(identity(1), b"one")
    repository.put(identity(2), b"two")
    repository.commit(compact=False)
    repository.put(identity(1), b"other")
    repository.delete(identity(2))
    repository.commit(compact=False)
    repository.close()
    read = hintsfile.decode(InMemory((path / "hints.3").read_bytes()))
    assert read.segments == {0: 0, 1: 0, 2: 1, 3: 0}
    assert read.compact == {0: 88, 1: 9, 2: 82, 3: 9}
    assert read.shadow_index == ShadowIndex({identity(1): (0,), identity(2): (0,)}.items())
    assert read.storage_quota_use == 44 + 44 + 46


def test_full_segments_are_followed_by_new_ones(path: Path) -> None:
    created(path).close()
    config = (path / "config").read_text()
    (path / "config").write_text(
        config.replace("max_segment_size = 524288000", "max_segment_size = 1000").replace(
            "segments_per_dir = 1000", "segments_per_dir = 3"
        )
    )
    repository = opened(path)
    for number in range(30):
        repository.put(identity(number), bytes(300))
    repository.commit(compact=False)
    assert len(content(repository)) == 30
    repository.close()
    assert sorted(int(file.name) for file in (path / "data").iterdir()) == list(range(4))
    assert max(len(data) for data in segment_files(path).values()) == 8 + 3 * 341


def test_an_interrupted_transaction_is_invisible_and_removed_by_the_next(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.put(identity(2), b"two")
    repository.close()
    assert sorted(segment_files(path)) == [0, 1, 2]
    notes = Notes()
    repository = opened(path, WRITING, reporter=notes)
    assert content(repository) == {identity(1): b"one"}
    repository.put(identity(3), b"three")
    assert notes.of(UncommittedSegmentsRemoved) == [UncommittedSegmentsRemoved(1, 1)]
    repository.commit(compact=False)
    assert content(repository) == {identity(1): b"one", identity(3): b"three"}
    assert repository.check()
    repository.close()


def test_an_interrupted_first_transaction_does_not_block_the_next_writer(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.close()
    repository = opened(path)
    repository.put(identity(2), b"two")
    repository.commit(compact=False)
    assert content(repository) == {identity(2): b"two"}
    assert repository.check()
    repository.close()


def test_a_repository_whose_every_commit_is_damaged_is_not_taken_for_an_interrupted_first_transaction(
    path: Path,
) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.close()
    (path / "data/0/1").write_bytes(bytes(17))
    for name in ("index.1", "hints.1", "integrity.1"):
        (path / name).unlink()
    repository = opened(path)
    with pytest.raises(CheckNeeded):
        repository.put(identity(2), b"two")
    repository.rollback()
    assert repository.check(repair=True)
    assert content(repository) == {identity(1): b"one"}
    repository.close()


# --- damage to the caches


@pytest.mark.parametrize("name", ["index.1", "hints.1", "integrity.1"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage"])
def test_damaged_caches_cost_no_data_to_readers_or_writers(path: Path, name: str, damage: str) -> None:
    repository = created(path)
    wanted = {identity(number): b"x" * number for number in range(20)}
    for object_id, data in wanted.items():
        repository.put(object_id, data)
    repository.commit(compact=False)
    repository.close()
    if damage == "missing":
        (path / name).unlink()
    else:
        (path / name).write_bytes(b"" if damage == "empty" else b"\xc1garbage")
    for request in (READING, WRITING):
        repository = opened(path, request)
        assert content(repository) == wanted
        repository.close()
    repository = opened(path, WRITING)
    repository.put(identity(99), b"new")
    repository.commit(compact=False)
    assert content(repository) == wanted | {identity(99): b"new"}
    assert repository.check()
    repository.close()


def test_a_single_wrong_place_in_the_index_is_noticed_by_a_get(path: Path) -> None:
    repository = created(path)
    for number in range(3):
        repository.put(identity(number), b"data %d" % number)
    repository.commit(compact=False)
    repository.close()
    raw = bytearray((path / "index.1").read_bytes())
    place = raw.index(identity(1)) + 36
    raw[place] ^= 0x40
    (path / "index.1").write_bytes(raw)
    repository = opened(path, READING)
    assert repository.get(identity(1)) == b"data 1"
    repository.close()


def test_a_missing_segment_is_an_error_of_the_object_and_a_finding_of_check(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.put(identity(2), b"two")
    repository.commit(compact=False)
    repository.close()
    (path / "data/0/0").unlink()
    notes = Notes()
    repository = opened(path, reporter=notes)
    with pytest.raises(FileMissing) as caught:
        repository.get(identity(1))
    assert caught.value.name == "data/0/0"
    assert repository.get(identity(2)) == b"two"
    assert not repository.check()
    repository.delete(identity(1))
    repository.commit(compact=False)
    assert repository.check()
    repository.close()


@pytest.mark.parametrize("repair", [False, True])
def test_a_missing_segment_is_named_by_check_and_by_repair(path: Path, repair: bool) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.put(identity(2), b"two")
    repository.commit(compact=False)
    repository.put(identity(3), b"three")
    repository.commit(compact=False)
    repository.close()
    (path / "data/0/0").unlink()
    notes = Notes()
    repository = opened(path, reporter=notes)
    assert repository.check(repair=repair) is repair
    repository.close()
    assert f"Segment file {path}/data/0/0 is missing, and with it 2 object(s)" in notes.lines(Level.ERROR)
    if repair:
        repository = opened(path)
        assert repository.check()
        assert content(repository) == {identity(3): b"three"}
        repository.close()


@pytest.mark.parametrize("limit", [2**63, 2**64 - 1])
def test_more_than_can_be_counted_is_all(repository: Repository, limit: int) -> None:
    repository.put(identity(1), b"one")
    assert repository.list(limit) == repository.scan(limit) == [identity(1)]


# --- quota, append-only, rights of the session


def test_the_quota_is_met_exactly_and_exceeded_by_one_byte(path: Path) -> None:
    repository = created(path, rules=HostRules(storage_quota=1000))
    repository.put(identity(1), bytes(1000 - 41))
    repository.commit(compact=False)
    with pytest.raises(StorageQuotaExceeded) as caught:
        repository.put(identity(2), b"")
    assert caught.value.wire_args == ("1.00 kB", "1.04 kB")
    with pytest.raises(StorageQuotaExceeded):
        repository.put(identity(3), b"")
    assert repository.get(identity(1)) == bytes(959)
    with pytest.raises(StorageQuotaExceeded):
        repository.commit(compact=False)
    repository.delete(identity(1))
    repository.commit(compact=True, threshold=0)
    repository.put(identity(2), b"")
    repository.commit(compact=False)
    assert content(repository) == {identity(2): b""}
    repository.close()
    assert "storage_quota = 1000" in (path / "config").read_text()


def test_the_hosts_quota_replaces_the_configured_one_in_both_directions(path: Path) -> None:
    created(path, rules=HostRules(storage_quota=100)).close()
    repository = opened(path, rules=HostRules(storage_quota=0))
    repository.put(identity(1), bytes(200))
    repository.commit(compact=False)
    repository.close()
    repository = opened(path)
    with pytest.raises(StorageQuotaExceeded):
        repository.put(identity(2), b"")
    repository.close()


def test_append_only_neither_compacts_nor_repairs_nor_destroys_and_logs_transactions(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.close()
    repository = opened(path, rules=HostRules(append_only=True))
    repository.delete(identity(1))
    repository.commit(compact=True, threshold=0)
    assert sorted(segment_files(path)) == [0, 1, 2, 3]
    for refused in (repository.destroy, lambda: repository.check(repair=True)):
        with pytest.raises(InvalidArgument, match="is in append-only mode"):
            refused()
    repository.close()
    line = (path / "transactions").read_text()
    assert line.startswith("transaction 3, UTC time 2")
    assert len(line) == len("transaction 3, UTC time YYYY-MM-DDTHH:MM:SS.ffffff\n")
    assert "append_only = 0" in (path / "config").read_text()


@pytest.mark.parametrize("number", [2**32 - 1024, 2**64, 10**200])
def test_a_segment_file_with_an_impossible_number_is_named_and_kept(path: Path, number: int) -> None:
    created(path).close()
    odd = path / "data" / str(number // 1000) / str(number)
    odd.parent.mkdir()
    odd.write_bytes(b"BORG_SEG")
    with pytest.raises(IntegrityError, match=f"{number} has a number that no segment can have; move it away"):
        opened(path, OpenRequest())
    assert odd.exists()


def test_append_only_at_creation_is_the_clients_wish_not_the_hosts(path: Path, tmp_path: Path) -> None:
    request = OpenRequest(create=True, exclusive=True, append_only=True)
    opened(path, request).close()
    assert "append_only = 1" in (path / "config").read_text()
    repository = created(tmp_path / "other", rules=HostRules(append_only=True))
    assert "append_only = 0" in (tmp_path / "other/config").read_text()
    repository.destroy()
    assert not (tmp_path / "other").exists()


def test_the_hosts_append_only_holds_for_the_session_that_creates_from_its_first_commit_on(path: Path) -> None:
    repository = created(path, rules=HostRules(append_only=True))
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.put(identity(1), b"two")
    repository.commit(compact=True, threshold=0)
    assert b"one" in b"".join(segment_files(path).values())
    for refused in (repository.destroy, lambda: repository.check(repair=True)):
        with pytest.raises(InvalidArgument, match="is in append-only mode"):
            refused()
    repository.close()
    assert (path / "transactions").read_text().startswith("transaction 3, UTC time 2")


def test_who_creates_append_only_without_a_lock_cannot_destroy_what_others_have_put(path: Path) -> None:
    locks, rules = MemoryLockManager(), HostRules(append_only=True)
    unlocked = OpenRequest(create=True, locking=False)
    creator = open_repository(path=str(path), request=unlocked, storages=FilesystemProvider(), locks=locks, rules=rules)
    other = opened(path, rules=rules)
    other.put(identity(1), b"one")
    other.commit(compact=False)
    other.close()
    with pytest.raises(InvalidArgument, match="is in append-only mode"):
        creator.destroy()
    creator.close()
    assert b"one" in b"".join(segment_files(path).values())


def test_a_session_opened_for_reading_writes_nothing(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.close()
    repository = opened(path, READING)
    for write in (lambda: repository.put(identity(2), b""), lambda: repository.delete(identity(1)), repository.check):
        with pytest.raises(WrongState):
            write()
    with pytest.raises(WrongState):
        repository.get_free_nonce()
    repository.close()


def test_a_session_that_leaves_it_open_upgrades_at_its_first_write(path: Path) -> None:
    created(path).close()
    locks = MemoryLockManager()
    request = OpenRequest(exclusive=None, lock_wait=0)
    repository = opened(path, request, locks=locks)
    reader = opened(path, READING, locks=locks)
    with pytest.raises(LockTimeout):
        repository.put(identity(1), b"one")
    reader.close()
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    with pytest.raises(LockTimeout):
        opened(path, READING, locks=locks)
    repository.close()
    assert content(opened(path, READING, locks=locks)) == {identity(1): b"one"}


def test_nothing_is_committed_after_the_lock_was_broken(path: Path) -> None:
    locks = MemoryLockManager()
    created(path).close()
    repository = opened(path, WRITING, locks=locks)
    repository.put(identity(1), b"one")
    other = opened(path, OpenRequest(locking=False, exclusive=False), locks=locks)
    other.break_lock()
    other.close()
    with pytest.raises(WrongState):
        repository.commit()


def test_a_session_without_a_lock_reads_and_does_not_write(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit()
    repository.close()
    unlocked = opened(path, OpenRequest(locking=False, exclusive=True))
    assert content(unlocked) == {identity(1): b"one"}
    with pytest.raises(WrongState, match="without a lock"):
        unlocked.put(identity(2), b"two")
    with pytest.raises(WrongState, match="without a lock"):
        unlocked.delete(identity(1))
    with pytest.raises(WrongState, match="without a lock"):
        unlocked.check(repair=True)
    assert unlocked.commit() is None
    assert unlocked.check()
    unlocked.close()
    assert content(opened(path)) == {identity(1): b"one"}


def test_a_session_without_a_lock_that_has_to_make_the_index_leaves_no_trace(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    repository.commit()
    repository.close()
    for cache in [*path.glob("index.*"), *path.glob("hints.*"), *path.glob("integrity.*")]:
        cache.unlink()
    before = sorted(file.name for file in path.rglob("*"))
    unlocked = opened(path, OpenRequest(locking=False, exclusive=False))
    assert content(unlocked) == {identity(1): b"one"}
    unlocked.close()
    assert sorted(file.name for file in path.rglob("*")) == before


def test_an_index_written_here_is_not_verified_again_but_after_an_upgrade_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    verify_index = FileDigests.verify_index

    def verify(self: FileDigests, name: str, *rest: Any) -> None:
        verified.append(name)
        verify_index(self, name, *rest)

    monkeypatch.setattr(FileDigests, "verify_index", verify)
    locks = MemoryLockManager()
    with closing(created(path, locks=locks)) as repository:
        for number in range(3):
            repository.put(identity(number), b"data")
            repository.commit()
        assert len(repository) == 3
    assert verified == []
    with closing(opened(path, OpenRequest(exclusive=None, lock_wait=0), locks=locks)) as repository:
        assert len(repository) == 3
        repository.put(identity(3), b"data")
        repository.commit()
    # By the reader, and again by the writer, since another one might have come first.
    assert verified == ["index.8", "index.8"]


def test_only_a_read_that_took_time_makes_reads_slow(path: Path) -> None:
    with closing(created(path)) as repository:
        repository.put(identity(1), b"data")
        repository.commit()
    now = 0.0
    cost = 0.001

    def clock() -> float:
        nonlocal now
        now += cost
        return now

    storage = FilesystemProvider().open(str(path))
    log = SegmentLog(storage, segments_per_dir=1000, max_segment_size=1 << 20, clock=clock)
    assert log.reads_slowly
    assert bytes(log.read_put(identity(1), 0, 8)) == b"data"
    assert log.reads_slowly
    cost = 0.0001
    log.read_put(identity(1), 0, 8)
    assert not log.reads_slowly
    log.close()


def test_what_somebody_else_has_committed_in_spite_of_the_lock_is_not_undone(path: Path) -> None:
    repository = created(path)
    assert content(repository) == {}
    somebody = opened(path, locks=MemoryLockManager())
    somebody.put(identity(1), b"one")
    somebody.commit()
    somebody.close()
    with pytest.raises(WrongState, match="somebody else"):
        repository.put(identity(2), b"two")
    repository.close()
    assert content(opened(path)) == {identity(1): b"one"}


# --- opening, key, nonce


def test_a_new_repository_holds_what_borg_would_write(path: Path) -> None:
    repository = created(path)
    repository.close()
    assert (path / "README").read_bytes() == (
        b"This is a Borg Backup repository.\nSee https://borgbackup.readthedocs.io/\n"
    )
    assert (path / "config").read_text() == (
        "[repository]\nversion = 1\nsegments_per_dir = 1000\nmax_segment_size = 524288000\nappend_only = 0\n"
        f"storage_quota = 0\nadditional_free_space = 0\nid = {repository.id.hex()}\n\n"
    )
    assert sorted(file.name for file in path.iterdir()) == ["README", "config", "data"]
    assert len(repository.id) == 32


def test_opening_names_what_is_wrong_and_leaves_no_lock(path: Path, tmp_path: Path) -> None:
    locks = MemoryLockManager()
    with pytest.raises(DoesNotExist):
        opened(path, locks=locks)
    path.write_bytes(b"")
    with pytest.raises(InvalidRepository):
        opened(path, locks=locks)
    path.unlink()
    path.mkdir()
    with pytest.raises(InvalidRepository):
        opened(path, locks=locks)
    (path / "config").write_text("[repository]\nversion = 2\n")
    with pytest.raises(InvalidRepositoryConfig):
        opened(path, locks=locks)
    (path / "config").unlink()
    path.rmdir()
    created(path).close()
    with pytest.raises(AlreadyExists):
        created(path)
    (path / "data").rmdir()
    with pytest.raises(InvalidRepository):
        opened(path, locks=locks)
    (path / "data").mkdir()
    opened(path, locks=locks).close()


def test_the_key_is_kept_beside_the_other_settings(repository: Repository, path: Path) -> None:
    assert repository.load_key() == b""
    key = b"BORG_KEY " + b"0" * 64 + b"\n" + b"\n".join([b"a" * 70] * 5)
    repository.save_key(key)
    assert repository.load_key() == key
    repository.save_key(b"second\nkey\n")
    repository.close()
    again = opened(path, READING)
    assert again.load_key() == b"second\nkey"
    assert again.id == repository.id
    again.close()
    assert not (path / "config.old").exists()
    assert [file.name for file in path.iterdir() if file.name.endswith(".tmp")] == []


def test_a_key_that_is_no_text_is_refused(repository: Repository) -> None:
    with pytest.raises(InvalidArgument):
        repository.save_key(b"\xff\xfe")


def test_a_key_that_another_session_has_saved_is_not_replaced_unless_asked_for(path: Path) -> None:
    created(path).close()
    unlocked = OpenRequest(locking=False)
    with closing(opened(path, unlocked)) as first, closing(opened(path, unlocked)) as second:
        assert first.load_key() == second.load_key() == b""
        assert second.save_key(b"theirs", replace=False)
        assert not first.save_key(b"mine", replace=False)
    with closing(opened(path, unlocked)) as repository:
        assert repository.load_key() == b"theirs"
        assert repository.save_key(b"new")
        assert repository.load_key() == b"new"


def test_nonces_are_reserved_in_unbroken_sequence(repository: Repository, path: Path) -> None:
    assert repository.get_free_nonce() is None
    with pytest.raises(NonceMismatch):
        repository.commit_nonce_reservation(10, 0)
    repository.commit_nonce_reservation(268435484, None)
    assert (path / "nonce").read_bytes() == b"000000001000001c"
    assert repository.get_free_nonce() == 268435484
    with pytest.raises(NonceMismatch):
        repository.commit_nonce_reservation(1, None)
    repository.commit_nonce_reservation(2**64 - 1, 268435484)
    assert repository.get_free_nonce() == 2**64 - 1
    with pytest.raises(InvalidArgument):
        repository.commit_nonce_reservation(2**64, 2**64 - 1)
    (path / "nonce").write_bytes(b"no number")
    with pytest.raises(InvalidNonce):
        repository.get_free_nonce()


def test_destroy_removes_everything_and_the_lock(path: Path) -> None:
    locks = MemoryLockManager()
    repository = created(path, locks=locks)
    repository.put(identity(1), b"x")
    repository.destroy()
    assert not path.exists()
    created(path, locks=locks).close()


@pytest.mark.parametrize(
    ("failure", "told"), [(MemoryError(), NotEnoughMemory), (KeyError(), WrongState), (KeyboardInterrupt(), WrongState)]
)
@pytest.mark.parametrize("method", ["put", "delete"])
def test_what_goes_wrong_in_the_midst_of_a_change_lets_nothing_be_committed(
    path: Path, method: str, failure: BaseException, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = created(path)
    repository.put(identity(0), b"zero")
    repository.commit()

    def fail(*_: object, **__: object) -> None:
        raise failure

    repository.put(identity(1), b"one")
    with monkeypatch.context() as context:
        context.setattr(ObjectIndex, {"put": "put", "delete": "remove"}[method], fail)
        with pytest.raises(type(failure)):
            repository.put(identity(2), b"two") if method == "put" else repository.delete(identity(0))
    with pytest.raises(told):
        repository.put(identity(3), b"three")
    with pytest.raises(told):
        repository.delete(identity(1))
    with pytest.raises(told):
        repository.commit()
    repository.put(identity(4), b"four")
    repository.commit()
    assert content(repository) == {identity(0): b"zero", identity(4): b"four"}
    repository.close()
    assert content(opened(path)) == {identity(0): b"zero", identity(4): b"four"}


def test_what_cannot_be_put_at_all_dooms_nothing(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), b"one")
    with pytest.raises(InvalidArgument):
        repository.put(b"short", b"data")
    with pytest.raises(TypeError):
        repository.put(identity(1), "text")  # type: ignore[arg-type]
    repository.commit()
    assert content(repository) == {identity(1): b"one"}
    repository.close()


def test_refused_puts_are_not_kept(path: Path) -> None:
    repository = created(path, rules=HostRules(storage_quota=1000))
    for _ in range(5):
        with pytest.raises(StorageQuotaExceeded) as caught:
            repository.put(identity(1), bytes(1000))
    assert len(caught.traceback) <= 3
    repository.close()
