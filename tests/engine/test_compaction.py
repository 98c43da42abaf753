"""Compaction: what is freed, what must stay, and the layout it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from borg_serve_lib.buffers import InMemory
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.errors import IntegrityError, ObjectNotFound
from borg_serve_lib.events.maintenance import CompactedSegmentMissing, CompactionFinished, Progress, ProgressFinished
from borg_serve_lib.format import hintsfile
from borg_serve_lib.format.entry import COMMIT_ENTRY
from borg_serve_lib.format.hints import Hints
from borg_serve_lib.limits import MANIFEST_ID
from tests.engine.support import Notes, content, created, identity, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def with_small_segments(path: Path, size: int = 1000, **overrides: object) -> Repository:
    created(path).close()
    config = (path / "config").read_text().replace("max_segment_size = 524288000", f"max_segment_size = {size}")
    (path / "config").write_text(config)
    return opened(path, **overrides)


def segments(path: Path) -> list[int]:
    return sorted(int(file.name) for file in path.glob("data/*/*"))


def disk_use(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("data/*/*"))


def test_the_space_of_deleted_and_overwritten_objects_is_freed(path: Path) -> None:
    notes = Notes()
    repository = created(path, reporter=notes)
    for number in range(10):
        repository.put(identity(number), bytes(1000))
    repository.commit(compact=False)
    for number in range(5):
        repository.delete(identity(number))
    repository.put(identity(5), b"new")
    repository.commit(compact=True)
    assert content(repository) == {identity(5): b"new"} | {identity(number): bytes(1000) for number in range(6, 10)}
    assert disk_use(path) < 5 * 1100
    assert notes.of(CompactionFinished) == [CompactionFinished(6 * 1041)]
    assert notes.of(Progress)
    assert [event.operation for event in notes.of(ProgressFinished)] == ["repository.compact_segments"]
    assert repository.check()
    repository.close()


def test_only_segments_above_the_threshold_are_compacted(path: Path) -> None:
    repository = created(path)
    for number in range(10):
        repository.put(identity(number), bytes(1000))
    repository.commit(compact=False)
    repository.delete(identity(0))
    repository.commit(compact=True, threshold=0.5)
    assert 0 in segments(path)
    repository.delete(identity(1))
    repository.commit(compact=True, threshold=0.05)
    assert 0 not in segments(path)
    repository.close()


def test_the_manifest_is_moved_behind_a_commit_of_its_own_as_borg_does(path: Path) -> None:
    repository = created(path)
    repository.put(MANIFEST_ID, b"m" * 50)
    repository.put(identity(1), bytes(100))
    repository.put(identity(2), bytes(100))
    repository.commit(compact=False)
    repository.delete(identity(1))
    repository.commit(compact=True, threshold=0)
    repository.close()
    # 0: all PUTs, 1: commit, 2: DELETE, 3: commit; then 4: commit alone, 5: manifest, object 2, the DELETE, 6: commit.
    assert segments(path) == [4, 5, 6]
    assert (path / "data/0/4").read_bytes() == b"BORG_SEG" + COMMIT_ENTRY
    repository = opened(path)
    assert set(content(repository)) == {MANIFEST_ID, identity(2)}
    repository.close()


def test_moved_objects_fill_segments_with_commits_between(path: Path) -> None:
    repository = with_small_segments(path)
    for number in range(40):
        repository.put(identity(number), bytes([number]) * 300)
    repository.commit(compact=False)
    for number in range(0, 40, 2):
        repository.delete(identity(number))
    repository.commit(compact=True, threshold=0)
    assert content(repository) == {identity(number): bytes([number]) * 300 for number in range(1, 40, 2)}
    assert repository.check()
    repository.close()
    ends = [file.read_bytes().endswith(COMMIT_ENTRY) for file in path.glob("data/*/*")]
    assert sum(ends) > 2


def test_a_delete_stays_as_long_as_an_older_put_may_come_back(path: Path) -> None:
    repository = with_small_segments(path, size=100)
    for number in range(4):
        repository.put(identity(number), bytes(1000))
    repository.commit(compact=False)
    repository.delete(identity(0))
    repository.commit(compact=False)
    # Only the DELETE's segment is compacted: segment 0 with the old PUT is exempted by a wrong entry in the hints.
    tid = max(segments(path))
    kept = hintsfile.decode(InMemory((path / f"hints.{tid}").read_bytes()))
    kept.compact.pop(0)
    (path / f"hints.{tid}").write_bytes(b"".join(hintsfile.encode(kept)))
    (path / f"integrity.{tid}").unlink()
    repository.close()
    repository = opened(path)
    repository.put(identity(9), b"x")
    repository.commit(compact=True, threshold=0)
    repository.close()
    for name in [*path.glob("index.*"), *path.glob("hints.*"), *path.glob("integrity.*")]:
        name.unlink()
    repository = opened(path)
    with pytest.raises(ObjectNotFound):
        repository.get(identity(0))
    repository.close()


def test_a_second_compaction_frees_the_deletes_too(path: Path) -> None:
    repository = created(path)
    for number in range(50):
        repository.put(identity(number), bytes(100))
    repository.commit(compact=False)
    for number in range(49):
        repository.delete(identity(number))
    for _ in range(3):
        repository.put(identity(99), b"x")
        repository.commit(compact=True, threshold=0)
    assert disk_use(path) < 1000
    repository.close()


def test_segments_that_are_listed_but_gone_are_forgotten(path: Path) -> None:
    notes = Notes()
    repository = created(path, reporter=notes)
    repository.put(identity(1), b"one")
    repository.commit(compact=False)
    repository.delete(identity(1))
    repository.commit(compact=False)
    (path / "data/0/0").unlink()
    repository.put(identity(2), b"two")
    repository.commit(compact=True)
    assert notes.of(CompactedSegmentMissing) == [CompactedSegmentMissing(0)]
    assert content(repository) == {identity(2): b"two"}
    repository.close()


def test_commit_segments_of_old_borg_are_cleaned_up_on_request(path: Path) -> None:
    repository = created(path)
    for number in range(5):
        repository.put(identity(number), bytes(1000))
        repository.commit(compact=False)
    repository.close()
    tid = max(segments(path))
    old = hintsfile.decode(InMemory((path / f"hints.{tid}").read_bytes()))
    old.compact.clear()
    (path / f"hints.{tid}").write_bytes(b"".join(hintsfile.encode(old)))
    (path / f"integrity.{tid}").unlink()
    repository = opened(path)
    repository.put(identity(9), b"x")
    repository.commit(compact=True, threshold=0.9)
    assert {1, 3, 5, 7, 9} <= set(segments(path))
    repository.put(identity(10), b"x")
    repository.commit(compact=True, cleanup_commits=True)
    assert not {1, 3, 5, 7, 9} & set(segments(path))
    assert len(content(repository)) == 7
    repository.close()


def test_a_damaged_segment_stops_compaction_but_not_the_transaction(path: Path) -> None:
    repository = created(path)
    repository.put(identity(1), bytes(1000))
    repository.put(identity(2), bytes(1000))
    repository.commit(compact=False)
    repository.delete(identity(1))
    raw = bytearray((path / "data/0/0").read_bytes())
    raw[1500] ^= 1
    (path / "data/0/0").write_bytes(raw)
    repository.put(identity(3), b"three")
    with pytest.raises(IntegrityError):
        repository.commit(compact=True, threshold=0)
    repository.close()
    repository = opened(path)
    assert repository.get(identity(3)) == b"three"
    assert sorted(repository.list()) == [identity(2), identity(3)]
    repository.close()


LARGE = bytes(1 << 20)
"""Read alone, not with its neighbours."""


def with_large_objects(path: Path) -> Repository:
    """Return a repository with the objects 0 to 3 in segment 0, of which 0 and 2 are deleted but not yet freed."""
    repository = created(path)
    for number in range(4):
        repository.put(identity(number), LARGE)
    repository.commit(compact=False)
    for number in (0, 2):
        repository.delete(identity(number))
    repository.commit(compact=False)
    return repository


def entry_at(number: int) -> int:
    return 8 + number * (41 + len(LARGE))


def damage(path: Path, position: int) -> None:
    raw = bytearray((path / "data/0/0").read_bytes())
    raw[position] ^= 1
    (path / "data/0/0").write_bytes(raw)


def test_damaged_data_of_a_large_superseded_object_hinder_nobody(path: Path) -> None:
    repository = with_large_objects(path)
    damage(path, entry_at(2) + 1000)
    repository.put(identity(9), b"nine")
    repository.commit(compact=True, threshold=0)
    assert content(repository) == {identity(1): LARGE, identity(3): LARGE, identity(9): b"nine"}
    assert not (path / "data/0/0").exists()
    assert repository.check()
    repository.close()


@pytest.mark.parametrize("position", [9 + 5, 4, 8, 41 + 1000], ids=["id", "size", "tag", "data"])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_damage_that_lets_a_large_current_object_pass_for_another_frees_nothing(
    path: Path, number: int, position: int
) -> None:
    repository = with_large_objects(path)
    damage(path, entry_at(number) + position)
    raw = (path / "data/0/0").read_bytes()
    repository.put(identity(9), b"nine")
    if number % 2 or position in (4, 8):
        with pytest.raises(IntegrityError):
            repository.commit(compact=True, threshold=0)
        assert (path / "data/0/0").read_bytes() == raw
    else:
        repository.commit(compact=True, threshold=0)
        assert content(repository)[identity(1)] == content(repository)[identity(3)] == LARGE
    repository.close()


def kept_hints(path: Path) -> Hints:
    newest = max(path.glob("hints.*"), key=lambda file: int(file.name.split(".")[1]))
    return hintsfile.decode(InMemory(newest.read_bytes()))


@pytest.mark.parametrize("size", [100, len(LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("number", range(7))
def test_of_a_damaged_segment_the_hints_know_what_was_met_before_the_damage(path: Path, number: int, size: int) -> None:
    repository = created(path)
    for each in (0, 1, 2, 3, 4, 5, 2):  # of 2, the second one is current
        repository.put(identity(each), bytes(size))
    repository.delete(identity(5))
    repository.commit(compact=False)
    repository.delete(identity(0))
    repository.commit(compact=False)
    entries = [0, 1, 2, 3, 4, 5, "DELETE of 2", 2, "DELETE of 5"]
    superseded = {0, 2, 5}
    before = kept_hints(path)
    assert {object_id for object_id, _ in before.shadow_index.items()} == {identity(each) for each in superseded}
    at = 8 + sum(41 if isinstance(entry, str) else 41 + size for entry in entries[:number])
    damage(path, at + 4)  # in its size: that ends every reading
    repository.put(identity(9), b"nine")
    with pytest.raises(IntegrityError):
        repository.commit(compact=True, threshold=0)
    repository.close()
    met = [entry for entry in entries[:number] if not isinstance(entry, str)]
    after = kept_hints(path)
    for each in range(6):
        shadows = list(dict(after.shadow_index.items()).get(identity(each), ()))
        assert shadows == [0] * ((each in superseded) or each in met), each
    copied = len(set(met) - superseded)
    assert after.compact[0] == before.compact[0] + copied * (41 + size)
    assert after.storage_quota_use == before.storage_quota_use + 41 + 4 + copied * (41 + size)


def test_emptied_directories_are_removed(path: Path) -> None:
    created(path).close()
    config = (path / "config").read_text().replace("segments_per_dir = 1000", "segments_per_dir = 2")
    (path / "config").write_text(config)
    repository = opened(path)
    for number in range(4):
        repository.put(identity(number), bytes(1000))
        repository.commit(compact=False)
    for number in range(4):
        repository.delete(identity(number))
    repository.put(identity(9), b"x")
    repository.commit(compact=True, threshold=0)
    assert min(int(directory.name) for directory in (path / "data").iterdir()) >= 4
    assert content(repository) == {identity(9): b"x"}
    repository.close()
