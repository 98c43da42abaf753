"""Two misfortunes at once: damage and an interruption, a full disk and damage, a broken lock in mid-compaction."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_serve_lib.buffers import InMemory
from borg_serve_lib.engine import compaction
from borg_serve_lib.engine.opening import HostRules
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.errors import (
    BorgServeError,
    CheckNeeded,
    IntegrityError,
    InvalidNonce,
    InvalidRepositoryConfig,
    StorageError,
    WrongState,
)
from borg_serve_lib.format import hintsfile
from borg_serve_lib.format import segment as segment_format
from borg_serve_lib.format.entry import PUT
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.storage.files import FilesystemReader
from borg_serve_lib.storage.memory import MemoryProvider

from .scenarios import PATH, session, stocked
from .support import Notes, content, created, identity, opened

SIZE = 1000
ENTRY = SIZE + 41


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository"


class Interrupted(BaseException):
    """The process ends here."""


def object_data(number: int) -> bytes:
    return bytes([number]) * SIZE


def filled(path: Path, count: int, *, max_segment_size: int = 9000, rules: HostRules | None = None) -> None:
    """Make a repository of `count` objects in segments of about nine each, and a manifest."""
    created(path, rules=rules or HostRules()).close()
    config = (path / "config").read_text()
    (path / "config").write_text(re.sub(r"max_segment_size = \d+", f"max_segment_size = {max_segment_size}", config))
    repository = opened(path)
    for number in range(count):
        repository.put(identity(number), object_data(number))
    repository.put(MANIFEST_ID, b"manifest")
    repository.commit(compact=False)
    repository.close()


def segment_files(path: Path) -> dict[int, Path]:
    return {int(file.name): file for file in path.glob("data/*/*")}


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def readable(path: Path) -> dict[bytes, bytes]:
    """Return all that can be read."""
    repository = opened(path)
    found = {}
    for object_id in repository.list():
        try:
            found[object_id] = bytes(repository.get(object_id))
        except BorgServeError:
            continue
    repository.close()
    return found


def wanted(numbers: Iterator[int] | range | set[int]) -> dict[bytes, bytes]:
    return {identity(number): object_data(number) for number in numbers}


# --- damage, and a repair that is interrupted


@pytest.fixture
def half_repaired(path: Path, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return what is whole in a repository whose repair ended when the segments were mended and the index was not."""
    filled(path, 10, max_segment_size=100_000)
    flip(segment_files(path)[0], 8 + 2 * ENTRY + 500)
    repository = opened(path)
    with monkeypatch.context() as patched:
        patched.setattr("borg_serve_lib.engine.checking.Check.compare_index", _interrupt)
        with pytest.raises(Interrupted):
            repository.check(repair=True)
    repository.close()
    return set(range(10)) - {2}


def _interrupt(*arguments: object) -> None:
    raise Interrupted


def test_after_an_interrupted_repair_whatever_is_whole_can_be_read(path: Path, half_repaired: set[int]) -> None:
    assert readable(path) == wanted(half_repaired) | {MANIFEST_ID: b"manifest"}


def test_compaction_after_an_interrupted_repair_loses_nothing(path: Path, half_repaired: set[int]) -> None:
    repository = opened(path)
    repository.delete(identity(0))
    repository.commit(threshold=0)
    repository.close()
    assert readable(path) == wanted(half_repaired - {0}) | {MANIFEST_ID: b"manifest"}


def test_compaction_does_not_believe_an_index_that_is_not_of_this_segment(path: Path) -> None:
    # Native borg's repair leaves such an index when it is interrupted.
    filled(path, 10, max_segment_size=100_000)
    repository = opened(path)
    repository.delete(identity(9))
    repository.commit(compact=False)
    segment = segment_files(path)[0]
    data = segment.read_bytes()
    segment.write_bytes(data[:8] + data[8 + ENTRY :])
    repository.put(MANIFEST_ID, b"manifest 2")
    with pytest.raises(IntegrityError):
        repository.commit(threshold=0)
    repository.close()
    repository = opened(path)
    repository.check(repair=True)
    repository.close()
    assert wanted(set(range(1, 9))).items() <= readable(path).items()


# --- going back by hand


def test_a_transaction_that_was_removed_by_hand_is_not_brought_back(path: Path) -> None:
    # Of a transaction that only deletes, the index has no object in its segments to look for.
    rules = HostRules(append_only=True)
    filled(path, 5, rules=rules)
    before = max(segment_files(path))
    repository = opened(path, rules=rules)
    for object_id in list(repository.list()):
        repository.delete(object_id)
    repository.commit()
    repository.close()
    for number, file in segment_files(path).items():
        if number > before:
            file.unlink()
    assert readable(path) == wanted(range(5)) | {MANIFEST_ID: b"manifest"}
    repository = opened(path)
    repository.put(identity(7), b"seven")
    repository.commit()
    repository.close()
    assert wanted(range(5)).items() <= readable(path).items()


# --- a compaction that is interrupted


def thinned(path: Path, *, rules: HostRules | None = None) -> set[int]:
    """Delete every third of 60 objects; return the numbers that are left."""
    filled(path, 60, max_segment_size=9_000, rules=rules)
    repository = opened(path)
    for number in range(0, 60, 3):
        repository.delete(identity(number))
    repository.put(MANIFEST_ID, b"manifest 2")
    repository.commit(compact=False)
    repository.close()
    return set(range(60)) - set(range(0, 60, 3))


def compact_until(path: Path, removals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact until old segments were removed `removals` times: then the process ends."""
    remove, done = compaction._Compaction._remove_unused, []

    def counted(self: compaction._Compaction) -> None:
        remove(self)
        done.append(self)
        if len(done) == removals:
            raise Interrupted

    repository = opened(path)
    repository.put(MANIFEST_ID, b"manifest 3")
    with monkeypatch.context() as patched:
        patched.setattr(compaction._Compaction, "_remove_unused", counted)
        with pytest.raises(Interrupted):
            repository.commit(threshold=0.1)
    repository.close()


@pytest.mark.parametrize("removals", [1, 2])
def test_what_is_committed_and_then_damaged_is_for_a_repair_and_not_deleted(
    path: Path, removals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = thinned(path)
    compact_until(path, removals, monkeypatch)
    flip(segment_files(path)[max(segment_files(path))], 200)
    before = segment_files(path)
    repository = opened(path)
    with pytest.raises(CheckNeeded):
        repository.put(identity(99), b"new")
    repository.close()
    assert segment_files(path) == before
    repository = opened(path)
    assert not repository.check()
    assert repository.check(repair=True)
    repository.close()
    saved = readable(path)
    assert len(wanted(left).keys() - saved.keys()) == 1
    assert all(saved[object_id] == data for object_id, data in wanted(left).items() if object_id in saved)


def put_bytes(path: Path) -> int:
    """Return the bytes of all PUT entries on disk: what the quota counts."""
    total = 0
    for number, file in segment_files(path).items():
        with FilesystemReader(os.open(file, os.O_RDONLY), file.name) as source:
            total += sum(size for tag, _, _, size in segment_format.headers(source, number) if tag == PUT)
    return total


def quota_use(path: Path) -> int:
    newest = max(path.glob("hints.*"), key=lambda file: int(file.name.split(".")[1]))
    return hintsfile.decode(InMemory(newest.read_bytes())).storage_quota_use


@pytest.mark.parametrize("removals", [1, 2, 3])
def test_an_interrupted_compaction_does_not_use_up_the_quota(
    path: Path, removals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinned(path)
    compact_until(path, removals, monkeypatch)
    repository = opened(path)
    repository.put(MANIFEST_ID, b"manifest 4")
    repository.commit(compact=False)
    repository.close()
    # Each DELETE and COMMIT of a segment that went counts for up to 41 bytes too many.
    assert put_bytes(path) - 41 * 30 <= quota_use(path) <= put_bytes(path)


# --- damage met by compaction


def test_compaction_goes_round_a_damaged_segment(path: Path) -> None:
    left = thinned(path)
    flip(segment_files(path)[0], 8 + 41 + 5 * ENTRY)
    notes = Notes()
    repository = opened(path, reporter=notes)
    repository.put(MANIFEST_ID, b"manifest 3")
    with pytest.raises(IntegrityError, match="segment 0, offset"):
        repository.commit(threshold=0.1)
    repository.close()
    assert 0 in segment_files(path)
    assert not {1, 2} & segment_files(path).keys()
    assert "segment 0 is damaged and cannot be compacted; please run borg check --repair" in notes.lines()
    assert readable(path).items() >= wanted(left - {5}).items()
    assert quota_use(path) == put_bytes(path)
    repository = opened(path)
    assert repository.check(repair=True)
    assert content(repository) == wanted(left - {5}) | {MANIFEST_ID: b"manifest 3"}
    repository.close()


@pytest.mark.parametrize("free", [0, 4096, 20_000, 60_000])
def test_deleting_on_a_full_disk_with_one_damaged_object_leaves_the_rest_readable(free: int) -> None:
    storages = MemoryProvider()
    before = stocked(storages)
    storage = storages.open(PATH)
    names = [name for name in storage.names() if name.startswith("data/") and (storage.size(name) or 0) > 400]
    first = min(names, key=lambda name: int(name.split("/")[2]))
    data = bytearray(storage.read(first))
    data[100] ^= 1
    storage.replace(first, bytes(data))
    repository = session(storages)
    sound = {object_id for object_id in before if _is_readable(repository, object_id)}
    repository.close()
    storage.leave(free)
    repository = session(storages)
    doomed = [object_id for object_id in sorted(sound) if object_id != MANIFEST_ID][:3]
    for object_id in doomed:
        repository.delete(object_id)
    repository.put(MANIFEST_ID, b"without them")
    with pytest.raises(IntegrityError):
        repository.commit(compact=False)
    repository.close()
    repository = session(storages)
    assert {object_id for object_id in before if _is_readable(repository, object_id)} == sound - set(doomed)
    repository.close()


def _is_readable(repository: Repository, object_id: bytes) -> bool:
    try:
        repository.get(object_id)
    except BorgServeError:
        return False
    return True


# --- a lock that is broken


@pytest.mark.parametrize("compacts", [False, True])
@pytest.mark.parametrize("at", range(1, 4))
def test_a_lock_that_is_broken_during_compaction_costs_nothing_committed(
    path: Path, at: int, compacts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = thinned(path)
    locks = MemoryLockManager()
    move, moved = compaction._Compaction.move, []

    def intruded(self: compaction._Compaction, segment: int) -> None:
        move(self, segment)
        moved.append(segment)
        if len(moved) == at:
            locks.lock_for(str(path)).break_lock()
            other = opened(path, locks=locks)
            other.put(identity(100), b"of somebody else")
            other.commit(compact=compacts)
            other.close()

    repository = opened(path, locks=locks)
    repository.put(MANIFEST_ID, b"manifest 3")
    monkeypatch.setattr(compaction._Compaction, "move", intruded)
    with pytest.raises((WrongState, StorageError)):
        repository.commit(threshold=0.1)
    with pytest.raises(BorgServeError):
        repository.close()
    monkeypatch.undo()
    found = readable(path)
    assert (wanted(left) | {identity(100): b"of somebody else"}).items() <= found.items()
    repository = opened(path)
    assert repository.check()
    repository.close()


# --- a disk that cannot read some places


@contextmanager
def bad_sector(monkeypatch: pytest.MonkeyPatch, file: Path, begin: int = 4096) -> Iterator[None]:
    """Let 4096 bytes of a file be unreadable; what replaces it is another file, on other sectors."""
    end = begin + 4096
    read_at, inode = FilesystemReader.read_at, file.stat().st_ino

    def failing(self: FilesystemReader, offset: int, length: int) -> bytes:
        if os.fstat(self._descriptor).st_ino == inode and offset < end and min(offset + length, self.size) > begin:
            raise StorageError(errno.EIO, "Input/output error", str(file))
        return read_at(self, offset, length)

    with monkeypatch.context() as patched:
        patched.setattr(FilesystemReader, "read_at", failing)
        yield


def test_a_place_that_cannot_be_read_is_damage_that_a_check_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 30)
    notes = Notes()
    repository = opened(path, reporter=notes)
    with bad_sector(monkeypatch, segment_files(path)[1]):
        assert not repository.check()
    repository.close()
    found = [line for line in notes.lines() if "Segment cannot be read [segment 1" in line]
    assert len(found) == 1


def test_a_repair_reads_around_what_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 30)
    repository = opened(path)
    with bad_sector(monkeypatch, segment_files(path)[1]):
        assert repository.check(repair=True)
    repository.close()
    saved = readable(path)
    # Five entries of 1041 bytes touch that sector.
    assert len(saved) == 31 - 5
    assert saved.items() <= (wanted(range(30)) | {MANIFEST_ID: b"manifest"}).items()


LARGE = bytes(1 << 20)
LARGE_ENTRY = 41 + len(LARGE)


def with_large_objects(path: Path) -> Repository:
    """Return a repository with the objects 0 to 3 in segment 0, of which 1 is deleted and 3 is damaged, and with
    something to commit.
    """
    repository = created(path)
    for number in range(4):
        repository.put(identity(number), LARGE)
    repository.commit(compact=False)
    repository.delete(identity(1))
    repository.commit(compact=False)
    repository.close()
    flip(segment_files(path)[0], 8 + 3 * LARGE_ENTRY + 100)
    repository = opened(path)
    repository.put(MANIFEST_ID, b"manifest")
    return repository


def test_compaction_goes_round_damage_behind_a_superseded_object_that_cannot_be_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = with_large_objects(path)
    with bad_sector(monkeypatch, segment_files(path)[0], 8 + LARGE_ENTRY + 4096):
        with pytest.raises(IntegrityError, match=rf"checksum mismatch \[segment 0, offset {8 + 3 * LARGE_ENTRY}\]"):
            repository.commit(threshold=0.1)
        repository.close()
    assert 0 in segment_files(path)
    newest = max(path.glob("hints.*"), key=lambda file: int(file.name.split(".")[1]))
    shadow_index = hintsfile.decode(InMemory(newest.read_bytes())).shadow_index
    assert {object_id: list(segments) for object_id, segments in shadow_index.items()} == {
        identity(number): [0] for number in range(3)
    }
    assert quota_use(path) == put_bytes(path)


def test_damage_that_spreads_while_compaction_goes_round_it_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = with_large_objects(path)
    keep = compaction._Compaction._keep

    def keeping(self: compaction._Compaction, segment: int, done: compaction._Moved) -> None:
        flip(segment_files(path)[0], 8 + 7)  # the size of object 0
        keep(self, segment, done)

    monkeypatch.setattr(compaction._Compaction, "_keep", keeping)
    with pytest.raises(IntegrityError, match=r"short read \[segment 0, offset 8\]"):
        repository.commit(threshold=0.1)
    repository.close()
    monkeypatch.undo()
    assert readable(path) == {MANIFEST_ID: b"manifest", identity(2): LARGE}
    repository = opened(path)
    assert repository.check(repair=True)
    repository.delete(identity(2))
    repository.commit(threshold=0)
    assert repository.check()
    repository.close()
    assert readable(path).keys() == {MANIFEST_ID}


def test_an_object_that_cannot_be_read_does_not_keep_others_from_being_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, 30)
    with bad_sector(monkeypatch, segment_files(path)[1]):
        assert len(readable(path)) < 31
        assert len(readable(path)) >= 31 - 14  # the next ones are read ahead with them
    assert len(readable(path)) == 31


# --- small files that are large

HUGE = 3 * 10**9


@pytest.mark.parametrize("kind", ["hints", "integrity", "index"])
@pytest.mark.parametrize("without", ["", "integrity"])
def test_a_cache_file_of_any_size_is_made_anew(path: Path, kind: str, without: str) -> None:
    filled(path, 5)
    (file,) = path.glob(f"{kind}.*")
    os.truncate(file, HUGE)
    if without and without != kind:
        next(path.glob(f"{without}.*")).unlink()
    repository = opened(path)
    repository.put(identity(7), b"seven")
    repository.commit()
    repository.close()
    assert readable(path) == wanted(range(5)) | {MANIFEST_ID: b"manifest", identity(7): b"seven"}
    assert all(file.stat().st_size < 1_000_000 for file in path.iterdir())


def test_a_config_or_nonce_of_any_size_is_refused_in_one_line(path: Path) -> None:
    filled(path, 1)
    (path / "nonce").touch()
    os.truncate(path / "nonce", HUGE)
    repository = opened(path)
    with pytest.raises(InvalidNonce):
        repository.get_free_nonce()
    repository.close()
    os.truncate(path / "config", HUGE)
    with pytest.raises(InvalidRepositoryConfig, match="larger than"):
        opened(path)
