"""The lock files on disk: borg's layout, dead owners, damage, failures and interruptions at every line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from borg_serve_lib import locking
from borg_serve_lib.errors import LockError, LockFailed, LockTimeout, NotLocked, NotMyLock
from borg_serve_lib.events.locks import (
    LockAwaited,
    LockObtained,
    MalformedLock,
    StaleLockRemoved,
    StaleRosterEntryRemoved,
)
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.filelock import RELEASE_WAIT, FileLock
from borg_serve_lib.reporting import Peer

from .support import Disk, World, borgs_files, lock_files

SHARED, EXCLUSIVE, NONE = LockMode.SHARED, LockMode.EXCLUSIVE, LockMode.NONE


@pytest.fixture
def disk() -> Disk:
    return Disk(World())


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repository = tmp_path / "repo"
    repository.mkdir()
    return repository


def lock_of(disk: Disk, repo: Path, pid: int, host: str = "here@1") -> FileLock:
    return disk.manager(pid, host).lock_for(str(repo))


def roster(repo: Path) -> object:
    return json.loads((repo / "lock.roster").read_bytes())


def put_lock(repo: Path, *names: str) -> None:
    (repo / "lock.exclusive").mkdir()
    for name in names:
        (repo / "lock.exclusive" / name).touch()


def put_roster(repo: Path, content: bytes | dict[str, list[list[object]]]) -> None:
    (repo / "lock.roster").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def assert_free(disk: Disk, repo: Path) -> None:
    with disk.manager(80).exclusive(str(repo), wait=0) as lock:
        assert lock.holds_exclusive()
    assert lock_files(repo) == []


def assert_free_once_broken(disk: Disk, repo: Path) -> None:
    lock_of(disk, repo, 81).break_lock()
    assert lock_files(repo) == []
    assert_free(disk, repo)


# --- the files ------------------------------------------------------------------------------------------------------


def test_a_writer_leaves_exactly_borgs_files(disk: Disk, repo: Path) -> None:
    before = os.umask(0o077)
    try:
        with disk.manager(16841).exclusive(str(repo), wait=0):
            assert borgs_files(repo) == ["lock.exclusive", "lock.roster"]
            assert os.listdir(repo / "lock.exclusive") == ["here@1.16841-0"]
            own_file = repo / "lock.exclusive" / "here@1.16841-0"
            assert (own_file.stat().st_size, own_file.stat().st_mode & 0o777) == (0, 0o600)
            assert (repo / "lock.exclusive").stat().st_mode & 0o777 == 0o700
            assert (repo / "lock.roster").read_bytes() == b'{"exclusive": [["here@1", 16841, 0]]}'
            assert (repo / "lock.roster").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert lock_files(repo) == []


def test_the_lock_directory_is_private_whatever_the_umask(disk: Disk, repo: Path) -> None:
    before = os.umask(0o007)
    try:
        with disk.manager(5).exclusive(str(repo), wait=0):
            assert (repo / "lock.exclusive").stat().st_mode & 0o777 == 0o700
            assert (repo / "lock.exclusive" / "here@1.5-0").stat().st_mode & 0o777 == 0o660
    finally:
        os.umask(before)


def test_readers_leave_only_a_roster(disk: Disk, repo: Path) -> None:
    with disk.manager(5).shared(str(repo), wait=0), disk.manager(6, "there@2").shared(str(repo), wait=0):
        assert borgs_files(repo) == ["lock.roster"]
        assert roster(repo) == {"shared": [["here@1", 5, 0], ["there@2", 6, 0]]}
    assert lock_files(repo) == []


def test_readers_of_one_process_share_an_entry_until_the_last_signs_off(disk: Disk, repo: Path) -> None:
    manager = disk.manager(5)
    first, second = manager.lock_for(str(repo)), manager.lock_for(str(repo))
    first.acquire(SHARED, 0)
    second.acquire(SHARED, 0)
    assert roster(repo) == {"shared": [["here@1", 5, 0]]}
    first.release()
    assert roster(repo) == {"shared": [["here@1", 5, 0]]}
    second.release()
    assert lock_files(repo) == []


def test_an_upgrade_moves_the_entry(disk: Disk, repo: Path) -> None:
    lock = lock_of(disk, repo, 5)
    lock.acquire(SHARED, 0)
    lock.upgrade(0)
    assert roster(repo) == {"exclusive": [["here@1", 5, 0]]}
    lock.release()
    assert lock_files(repo) == []


def test_the_process_id_is_taken_anew_for_every_acquisition(disk: Disk, repo: Path) -> None:
    manager = disk.manager(0)
    lock = manager.lock_for(str(repo))
    for pid in (5, 6):
        manager._identity.pid = lambda pid=pid: pid  # type: ignore[misc]
        lock.acquire(EXCLUSIVE, 0)
        assert os.listdir(repo / "lock.exclusive") == [f"here@1.{pid}-0"]
        lock.release()


@pytest.mark.parametrize("held", [SHARED, EXCLUSIVE])
def test_waiting_writes_nothing_after_the_first_look(disk: Disk, repo: Path, held: LockMode) -> None:
    if held is EXCLUSIVE:
        put_lock(repo, "there@2.7-0")
    else:
        put_roster(repo, {"shared": [["there@2", 7, 0]]})
    before = lock_files(repo)
    changes: list[int] = []

    def sleep(seconds: float) -> None:
        changes.append(repo.stat().st_mtime_ns)
        World.sleep(disk.world, seconds)

    disk.world.sleep = sleep  # type: ignore[method-assign]
    with pytest.raises(LockTimeout):
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 10)
    assert len(changes) >= 50
    assert len(set(changes)) == 1
    assert lock_files(repo) == before
    assert_free_once_broken(disk, repo)


# --- others' leftovers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_an_empty_lock_directory_is_taken_over_at_once(disk: Disk, repo: Path, mode: LockMode) -> None:
    put_lock(repo)
    lock = lock_of(disk, repo, 5)
    lock.acquire(mode, 0)
    lock.release()
    assert lock_files(repo) == []
    assert disk.reporter.events == []


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
@pytest.mark.parametrize("dead", [["here@1.66-0"], ["here@1.66-0", "here@1.67-0"]])
def test_the_lock_of_the_dead_is_removed_even_if_there_is_no_time_to_wait(
    disk: Disk, repo: Path, mode: LockMode, dead: list[str]
) -> None:
    disk.processes.dead = {66, 67}
    put_lock(repo, *dead)
    lock = lock_of(disk, repo, 5)
    lock.acquire(mode, 0)
    assert sorted(map(str, disk.reporter.events)) == sorted(map(str, map(StaleLockRemoved, dead)))
    lock.release()
    assert lock_files(repo) == []


@pytest.mark.parametrize(
    "name", ["here@1.5-0", "there@2.66-0", "here.66-0", "here@1.66-1", "here@1.0-0", "here@1x.66-0"]
)
def test_the_lock_of_anybody_not_known_dead_is_respected(disk: Disk, repo: Path, name: str) -> None:
    disk.processes.dead = {66}
    put_lock(repo, name)
    with pytest.raises(LockTimeout) as caught:
        lock_of(disk, repo, 7).acquire(EXCLUSIVE, 1)
    assert caught.value.path == f"{repo}/lock.exclusive"
    assert os.listdir(repo / "lock.exclusive") == [name]
    assert disk.reporter.events == []
    assert_free_once_broken(disk, repo)


def test_a_dead_owner_that_another_process_removes_first_is_not_told_by_us(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.processes.dead = {66}
    put_lock(repo, "here@1.66-0")
    unlink = os.unlink

    def outrun(path: str | Path, **place: Any) -> None:
        if str(path).endswith("here@1.66-0") and place:
            unlink(path, **place)
            put = repo / "lock.exclusive" / "there@2.7-0"
            put.touch()
            disk.world.after(1, put.unlink)
        unlink(path, **place)

    monkeypatch.setattr(os, "unlink", outrun)
    lock = lock_of(disk, repo, 5)
    with pytest.raises(LockTimeout):
        lock.acquire(EXCLUSIVE, 0)
    lock.acquire(EXCLUSIVE, 5)
    assert disk.reporter.events == []
    lock.release()
    assert lock_files(repo) == []


@pytest.mark.parametrize("error", [errno.EPERM, errno.EROFS, errno.ENOENT])
def test_a_dead_owner_that_cannot_be_removed_keeps_the_lock(disk: Disk, repo: Path, error: int) -> None:
    disk.processes.dead = {66}
    put_lock(repo, "here@1.66-0")
    with pytest.MonkeyPatch.context() as monkeypatch:
        failing(monkeypatch, "unlink", error, "here@1.66-0")
        with pytest.raises(LockTimeout):
            lock_of(disk, repo, 5).acquire(EXCLUSIVE, 1)
    assert disk.reporter.events == []
    assert lock_files(repo) == ["lock.exclusive"]
    assert_free(disk, repo)


def test_one_living_owner_beside_a_dead_one_keeps_the_lock(disk: Disk, repo: Path) -> None:
    disk.processes.dead = {66}
    put_lock(repo, "here@1.66-0", "here@1.5-0")
    with pytest.raises(LockTimeout):
        lock_of(disk, repo, 7).acquire(EXCLUSIVE, 1)
    assert "here@1.5-0" in os.listdir(repo / "lock.exclusive")
    disk.processes.dead.add(5)
    assert_free(disk, repo)


def test_a_malformed_name_is_respected_and_told_once_per_wait(disk: Disk, repo: Path) -> None:
    put_lock(repo, "garbage")
    lock = lock_of(disk, repo, 7)
    for _ in range(2):
        with pytest.raises(LockTimeout):
            lock.acquire(EXCLUSIVE, 5)
    assert os.listdir(repo / "lock.exclusive") == ["garbage"]
    awaited = LockAwaited(f"{repo}/lock", "exclusive", holders="")
    assert disk.reporter.events == [MalformedLock("garbage", f"{repo}/lock.exclusive"), awaited] * 2
    assert_free_once_broken(disk, repo)


def test_a_predecessors_lock_with_our_own_process_id_counts_as_ours(disk: Disk, repo: Path) -> None:
    put_lock(repo, "here@1.5-0")
    lock = lock_of(disk, repo, 5)
    lock.acquire(EXCLUSIVE, 0)
    assert lock.holds_exclusive()
    lock.release()
    assert lock_files(repo) == []


def test_dead_readers_are_dropped_and_told_once_per_wait(disk: Disk, repo: Path) -> None:
    disk.processes.dead = {66, 67}
    put_roster(repo, {"shared": [["here@1", 66, 0], ["there@2", 66, 0]], "exclusive": [["here@1", 67, 0]]})
    with pytest.raises(LockTimeout) as caught:
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 3)
    assert caught.value.path == f"{repo}/lock"
    *removed, awaited = disk.reporter.events
    assert isinstance(awaited, LockAwaited)
    assert "process 66 on there@2" in awaited.holders
    assert sorted(map(repr, removed)) == sorted(
        map(
            repr,
            (
                StaleRosterEntryRemoved("shared", "here@1", 66, 0),
                StaleRosterEntryRemoved("exclusive", "here@1", 67, 0),
            ),
        )
    )
    with disk.manager(5).shared(str(repo), wait=0):
        assert roster(repo) == {"shared": [["here@1", 5, 0], ["there@2", 66, 0]]}
    assert roster(repo) == {"shared": [["there@2", 66, 0]]}
    assert_free_once_broken(disk, repo)


def test_a_long_wait_is_told_when_it_is_long_and_when_it_ends(disk: Disk, repo: Path) -> None:
    reader = lock_of(disk, repo, 9)
    reader.acquire(SHARED, 0)
    disk.world.after(4, reader.release)
    with disk.manager(5).exclusive(str(repo), wait=10):
        awaited, obtained = disk.reporter.events
    assert isinstance(awaited, LockAwaited)
    assert (awaited.path, awaited.mode) == (f"{repo}/lock", "exclusive")
    assert "process 9 on here@1" in awaited.holders
    assert obtained == LockObtained(f"{repo}/lock", "exclusive", pytest.approx(4, abs=0.3))


def test_a_short_wait_is_not_worth_telling(disk: Disk, repo: Path) -> None:
    reader = lock_of(disk, repo, 9)
    reader.acquire(SHARED, 0)
    disk.world.after(0.7, reader.release)
    with disk.manager(5).exclusive(str(repo), wait=10):
        assert disk.reporter.events == []


def test_a_roster_of_dead_readers_alone_stops_no_writer(disk: Disk, repo: Path) -> None:
    disk.processes.dead = {66}
    put_roster(repo, {"shared": [["here@1", 66, 0]]})
    with disk.manager(5).exclusive(str(repo), wait=0):
        assert roster(repo) == {"exclusive": [["here@1", 5, 0]]}
    assert lock_files(repo) == []


def test_an_exclusive_entry_without_the_directory_stops_nobody(disk: Disk, repo: Path) -> None:
    put_roster(repo, {"exclusive": [["there@2", 66, 0]]})
    with disk.manager(5).exclusive(str(repo), wait=0):
        pass
    assert roster(repo) == {"exclusive": [["there@2", 66, 0]]}
    assert_free_once_broken(disk, repo)


def test_a_reader_with_our_process_id_is_not_taken_for_us(disk: Disk, repo: Path) -> None:
    put_roster(repo, {"shared": [["here@1", 5, 0]]})
    with pytest.raises(LockTimeout):
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 0)
    disk.processes.dead = {5}
    assert_free(disk, repo)


@pytest.mark.parametrize(
    "damage", [b"", b"garbage", b'{"shared": [["there@2", 6', b"[1]", b"\0" * 50, b'{"shared": 7}']
)
@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_a_roster_that_names_nobody_stops_nobody(disk: Disk, repo: Path, damage: bytes, mode: LockMode) -> None:
    put_roster(repo, damage)
    lock = lock_of(disk, repo, 5)
    lock.acquire(mode, 0)
    assert roster(repo) == {mode.value: [["here@1", 5, 0]]}
    lock.release()
    assert lock_files(repo) == []


@pytest.mark.parametrize(
    "damaged", [b'{"shared": [["there@2", 66, 0], 7]}', b'{"shared": [["there@2", 66, 0], ["x', b'[["there@2", 66, 0]]']
)
def test_a_reader_in_a_damaged_roster_is_respected_and_kept(disk: Disk, repo: Path, damaged: bytes) -> None:
    put_roster(repo, damaged)
    with pytest.raises(LockTimeout) as caught:
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 0)
    assert caught.value.path == f"{repo}/lock"
    with disk.manager(5).shared(str(repo), wait=0):
        assert roster(repo) == {"shared": [["here@1", 5, 0], ["there@2", 66, 0]]}
    assert_free_once_broken(disk, repo)


DAMAGES = [b"", b" ", b"garbage", b'{"shared": [["there@', b'{"shared": [["there@2"]]}', b'{"shared": {"there@2": 9}}',
           b"[]", b"null", b"\0" * 50, b'{"shared": [["there@2", "9", 0]]}', b'{"shqred": []}']  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_reader_that_a_damaged_roster_names_no_more_is_respected_by_its_lease(
    disk: Disk, repo: Path, damage: bytes
) -> None:
    reader, waiting = lock_of(disk, repo, 9, "there@2"), lock_of(disk, repo, 8, "third@3")
    reader.acquire(SHARED, 0)
    waiting._lease.join(waiting, disk.reporter)
    put_roster(repo, damage)
    with pytest.raises(LockTimeout, match="process 9 on there@2") as caught:
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 1)
    assert caught.value.path == f"{repo}/lock"
    assert "more" not in caught.value.owners  # who only waits is no reader
    with disk.manager(6).shared(str(repo), wait=0):
        assert roster(repo) == {"shared": [["here@1", 6, 0], ["there@2", 9, 0]]}  # and is whole again
    reader.release()
    with disk.manager(5).exclusive(str(repo), wait=0):
        pass
    assert not (repo / "lock.roster").exists()
    waiting._lease.leave(waiting)
    assert lock_files(repo) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_process_finds_itself_again_in_a_damaged_roster(disk: Disk, repo: Path, damage: bytes) -> None:
    manager = disk.manager(5)
    reader = manager.lock_for(str(repo))
    reader.acquire(SHARED, 0)
    put_roster(repo, damage)
    with pytest.raises(LockTimeout):
        manager.lock_for(str(repo)).acquire(EXCLUSIVE, 0)
    reader.upgrade(0)
    reader.downgrade()
    assert roster(repo) == {"shared": [["here@1", 5, 0]]}
    put_roster(repo, damage)
    reader.release()
    assert lock_files(repo) == []


def test_a_dead_reader_is_not_found_again_in_a_damaged_roster(disk: Disk, repo: Path) -> None:
    reader = lock_of(disk, repo, 9, "there@2")
    reader.acquire(SHARED, 0)
    put_roster(repo, b"")
    assert reader._lease._file
    reader._lease._file.close()
    reader._lease._file = None
    with disk.manager(5).exclusive(str(repo), wait=0):
        pass
    assert lock_files(repo) == []


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_nobody_respects_the_lease_of_a_lock_that_native_borg_broke(disk: Disk, repo: Path, mode: LockMode) -> None:
    """It removes directory and roster, and knows of no leases."""
    lock = lock_of(disk, repo, 9)
    lock.acquire(mode, 0)
    shutil.rmtree(repo / "lock.exclusive", ignore_errors=True)
    (repo / "lock.roster").unlink()
    with disk.manager(5).exclusive(str(repo), wait=0) as other:
        assert other.holds_exclusive()
        assert not lock.holds_exclusive()
    with disk.manager(5).shared(str(repo), wait=0):
        pass
    with suppress(NotLocked):
        lock.release()
    assert lock_files(repo) == []


def test_who_reads_cannot_be_told_where_leases_cannot_be_looked_at(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = lock_of(disk, repo, 9), lock_of(disk, repo, 5)
    reader.acquire(SHARED, 0)
    put_roster(repo, b"")
    with monkeypatch.context() as patched:
        failing(patched, "open", errno.EMFILE, "lock.lease.here@1.9-0")
        with pytest.raises(LockFailed, match="a damaged roster"):
            writer.acquire(EXCLUSIVE, 0)
    reader.release()
    assert lock_files(repo) == []


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_an_emptied_lock_directory_is_its_owners_as_long_as_that_lives(disk: Disk, repo: Path, mode: LockMode) -> None:
    manager = disk.manager(9)
    writer, beside = manager.lock_for(str(repo)), manager.lock_for(str(repo))
    writer.acquire(EXCLUSIVE, 0)
    (repo / "lock.exclusive" / "here@1.9-0").unlink()
    for other in (lock_of(disk, repo, 5), lock_of(disk, repo, 6, "there@2"), beside):
        with pytest.raises(LockTimeout) as caught:
            other.acquire(mode, 1)
        assert caught.value.path == f"{repo}/lock.exclusive"
        assert "held by a writer, process 9 on here@1" in caught.value.owners
    assert os.listdir(repo / "lock.exclusive") == []
    assert not writer.holds_exclusive()  # native borg could take it at any moment
    with pytest.raises(NotMyLock):
        writer.release()
    with disk.manager(5).exclusive(str(repo), wait=0):
        pass
    assert not (repo / "lock.exclusive").exists()
    disk.processes.dead = {9}  # its entry in the roster stays until then
    assert_free(disk, repo)


def test_an_emptied_lock_directory_is_nobodys_once_its_owner_is_dead(disk: Disk, repo: Path) -> None:
    writer, waiting = lock_of(disk, repo, 9), lock_of(disk, repo, 8)
    writer.acquire(EXCLUSIVE, 0)
    waiting._lease.join(waiting, disk.reporter)
    (repo / "lock.exclusive" / "here@1.9-0").unlink()
    assert writer._lease._file
    writer._lease._file.close()
    writer._lease._file = None
    with disk.manager(5).exclusive(str(repo), wait=0):
        pass
    waiting._lease.leave(waiting)
    assert lock_files(repo) == []


def test_an_emptied_lock_directory_whose_owner_cannot_be_looked_at_is_respected(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = lock_of(disk, repo, 9)
    writer.acquire(EXCLUSIVE, 0)
    (repo / "lock.exclusive" / "here@1.9-0").unlink()
    with monkeypatch.context() as patched:
        failing(patched, "open", errno.EMFILE, "lock.lease.here@1.9-0")
        with pytest.raises(LockTimeout):
            lock_of(disk, repo, 5).acquire(EXCLUSIVE, 1)
    with pytest.raises(NotMyLock):
        writer.release()
    disk.processes.dead = {9}
    assert_free(disk, repo)


def test_breaking_removes_everything_whatever_it_is(disk: Disk, repo: Path) -> None:
    put_lock(repo, "garbage", "there@2.5-0", "here@1.7-0")
    put_roster(repo, b"garbage")
    lock_of(disk, repo, 5).break_lock()
    assert lock_files(repo) == []


def test_a_lock_that_is_taken_while_it_is_broken_is_left_to_the_new_owner(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_lock(repo, "there@2.7-0")
    rmdir = os.rmdir

    def late(path: str) -> None:
        (repo / "lock.exclusive" / "there@2.8-0").touch()
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", late)
    lock_of(disk, repo, 5).break_lock()
    assert os.listdir(repo / "lock.exclusive") == ["there@2.8-0"]
    monkeypatch.undo()
    assert_free_once_broken(disk, repo)


def test_a_lock_that_cannot_be_removed_is_not_broken(disk: Disk, repo: Path) -> None:
    put_lock(repo, "there@2.7-0")
    for function, part in (("unlink", "there@2.7-0"), ("rmdir", "lock.exclusive")):
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing(monkeypatch, function, errno.EROFS, part)
            with pytest.raises(LockFailed, match="Read-only") as caught:
                lock_of(disk, repo, 5).break_lock()
            assert caught.value.path == f"{repo}/lock"
    assert_free_once_broken(disk, repo)


# --- a lock that is taken away --------------------------------------------------------------------------------------


def test_what_happened_to_a_lost_lock_is_told_apart(disk: Disk, repo: Path) -> None:
    lock = lock_of(disk, repo, 5)
    lock.acquire(EXCLUSIVE, 0)
    (repo / "lock.exclusive" / "here@1.5-0").unlink()
    assert not lock.holds_exclusive()
    with pytest.raises(NotMyLock):
        lock.release()
    (repo / "lock.exclusive").rmdir()
    lock.acquire(EXCLUSIVE, 0)
    lock_of(disk, repo, 6).break_lock()
    with pytest.raises(NotLocked):
        lock.release()
    assert lock_files(repo) == []


def test_a_lock_that_native_borg_broke_is_free_to_the_other_locks_of_our_process(disk: Disk, repo: Path) -> None:
    manager = disk.manager(5)
    lock, other = manager.lock_for(str(repo)), manager.lock_for(str(repo))
    lock.acquire(EXCLUSIVE, 0)
    (repo / "lock.roster").unlink()
    (repo / "lock.exclusive" / "here@1.5-0").unlink()
    (repo / "lock.exclusive").rmdir()
    other.acquire(EXCLUSIVE, 0)
    assert not lock.holds_exclusive()
    with pytest.raises(NotMyLock):
        lock.release()
    assert other.holds_exclusive()
    other.release()
    assert lock_files(repo) == []


def test_a_writer_that_lost_its_lock_leaves_the_roster_of_its_successors_alone(disk: Disk, repo: Path) -> None:
    lock = lock_of(disk, repo, 5)
    lock.acquire(EXCLUSIVE, 0)
    lock_of(disk, repo, 6).break_lock()
    with disk.manager(7).shared(str(repo), wait=0):
        with pytest.raises(NotLocked):
            lock.release()
        assert roster(repo) == {"shared": [["here@1", 7, 0]]}


def test_a_writer_that_lost_its_directory_does_not_touch_the_roster(disk: Disk, repo: Path) -> None:
    lock = lock_of(disk, repo, 5)
    lock.acquire(EXCLUSIVE, 0)
    before = (repo / "lock.roster").read_bytes()
    (repo / "lock.exclusive" / "here@1.5-0").rename(repo / "lock.exclusive" / "there@2.7-0")
    with pytest.raises(NotMyLock):
        lock.release()
    assert (repo / "lock.roster").read_bytes() == before
    assert_free_once_broken(disk, repo)


def test_a_later_reader_with_our_process_id_is_not_taken_for_us_either(disk: Disk, repo: Path) -> None:
    manager = disk.manager(5)
    with manager.shared(str(repo), wait=0):
        pass
    put_roster(repo, {"shared": [["here@1", 5, 0]]})
    with pytest.raises(LockTimeout):
        manager.lock_for(str(repo)).acquire(EXCLUSIVE, 0)
    disk.processes.dead = {5}
    assert_free(disk, repo)


def test_a_second_reader_of_a_process_writes_no_roster(disk: Disk, repo: Path) -> None:
    manager = disk.manager(5)
    with manager.shared(str(repo), wait=0):
        before = (repo / "lock.roster").stat().st_mtime_ns
        with manager.shared(str(repo), wait=0):
            pass
        assert (repo / "lock.roster").stat().st_mtime_ns == before


def test_another_session_of_the_same_process_is_told_since_when_and_what_the_first_is_doing(
    disk: Disk, repo: Path
) -> None:
    manager = disk.manager(5)
    with manager.exclusive(str(repo), wait=0) as lock:
        lock.note("compaction")
        disk.world.now += 30
        with pytest.raises(LockTimeout) as caught:
            manager.lock_for(str(repo), peer=Peer(user="bob")).acquire(SHARED, 1)
        assert "a writer, process 5 on here@1, since 1970-01-01 00:16:40 UTC, busy with comp" in caught.value.owners
    assert lock_files(repo) == []


def test_a_reader_whose_lock_was_broken_signs_off_beside_the_next_writer(disk: Disk, repo: Path) -> None:
    reader = lock_of(disk, repo, 5)
    reader.acquire(SHARED, 0)
    lock_of(disk, repo, 6).break_lock()
    with disk.manager(6).exclusive(str(repo), wait=0) as writer:
        reader.release()
        assert writer.holds_exclusive()
    assert reader.mode is NONE
    assert lock_files(repo) == []


def test_a_reader_waits_a_moment_for_the_directory_to_sign_off(disk: Disk, repo: Path) -> None:
    reader = lock_of(disk, repo, 5)
    reader.acquire(SHARED, 0)
    put_lock(repo, "there@2.6-0")
    disk.world.after(1, lock_of(disk, repo, 7)._directory.break_open)
    reader.release()
    assert lock_files(repo) == []


def test_a_reader_that_cannot_sign_off_says_so_and_does_not_stand_in_its_own_way(disk: Disk, repo: Path) -> None:
    manager = disk.manager(5)
    reader = manager.lock_for(str(repo))
    reader.acquire(SHARED, 0)
    put_lock(repo, "there@2.6-0")
    with pytest.raises(LockTimeout) as caught:
        reader.release()
    assert caught.value.path == f"{repo}/lock.exclusive"
    assert disk.world.now - 1000 == pytest.approx(RELEASE_WAIT, abs=0.01)
    assert reader.mode is NONE
    reader.release()
    (repo / "lock.exclusive" / "there@2.6-0").unlink()
    with manager.exclusive(str(repo), wait=0):
        pass
    assert lock_files(repo) == []


def test_a_reader_whose_registration_is_broken_in_the_act_registers_again(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = lock_of(disk, repo, 5)
    store = lock._roster.store
    breaks = [lock_of(disk, repo, 6).break_lock]

    def store_and_lose(new: Any) -> None:
        store(new)
        if breaks:
            breaks.pop()()

    monkeypatch.setattr(lock._roster, "store", store_and_lose)
    with pytest.raises(LockTimeout):
        lock.acquire(SHARED, 0)
    assert (lock.mode, lock_files(repo)) == (NONE, [])
    breaks.append(lock_of(disk, repo, 6).break_lock)
    lock.acquire(SHARED, 1)
    assert roster(repo) == {"shared": [["here@1", 5, 0]]}
    lock.release()
    assert lock_files(repo) == []


# --- what the file system refuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
@pytest.mark.parametrize("wait", [0, None])
def test_a_repository_that_is_gone_cannot_be_locked(
    disk: Disk, tmp_path: Path, mode: LockMode, wait: float | None
) -> None:
    lock = lock_of(disk, tmp_path / "missing", 5)
    with pytest.raises(LockFailed, match="No such file") as caught:
        lock.acquire(mode, wait)
    assert caught.value.path == f"{tmp_path}/missing/lock.exclusive"
    assert lock.mode is NONE


def test_something_else_in_the_place_of_the_lock_directory_is_named(disk: Disk, repo: Path) -> None:
    (repo / "lock.exclusive").touch()
    with pytest.raises(LockFailed, match="Not a directory"):
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, None)
    assert lock_files(repo) == ["lock.exclusive"]
    (repo / "lock.exclusive").unlink()
    assert_free(disk, repo)


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_a_roster_that_cannot_be_read_fails_and_frees_the_directory(disk: Disk, repo: Path, mode: LockMode) -> None:
    (repo / "lock.roster").mkdir()
    lock = lock_of(disk, repo, 5)
    with pytest.raises(LockFailed, match="not a regular file") as caught:
        lock.acquire(mode, None)
    assert caught.value.path == f"{repo}/lock"
    assert lock.mode is NONE
    with pytest.raises(LockFailed):
        lock.break_lock()
    assert lock_files(repo) == ["lock.roster"]
    (repo / "lock.roster").rmdir()
    assert_free(disk, repo)


@pytest.mark.parametrize("host", ["../up", "a/b", "nul\0", "x" * 300])
def test_a_host_id_that_is_no_file_name_fails_and_touches_nothing(disk: Disk, repo: Path, host: str) -> None:
    with pytest.raises(LockFailed):
        lock_of(disk, repo, 5, host).acquire(EXCLUSIVE, 0)
    assert os.listdir(repo) == []
    assert os.listdir(repo.parent) == ["repo"]


def failing(monkeypatch: pytest.MonkeyPatch, function: str, error: int, part: str) -> None:
    """Let the function of os fail for paths with `part` in them."""
    real: Callable[..., Any] = getattr(os, function)

    def fake(path: str, *rest: Any, **named: Any) -> Any:
        if part in str(path):
            raise OSError(error, os.strerror(error), path)
        return real(path, *rest, **named)

    monkeypatch.setattr(os, function, fake)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
@pytest.mark.parametrize(
    ("function", "part"),
    [("mkdir", ".tmp"), ("open", ".tmp/"), ("replace", ".tmp"), ("open", "lock.roster")],
)
def test_a_lock_that_cannot_be_written_fails_and_leaves_nothing(
    disk: Disk, repo: Path, mode: LockMode, error: int, function: str, part: str
) -> None:
    lock = lock_of(disk, repo, 5)
    with pytest.MonkeyPatch.context() as monkeypatch:
        failing(monkeypatch, function, error, part)
        with pytest.raises(LockFailed) as caught:
            lock.acquire(mode, None)
    assert os.strerror(error) in caught.value.reason
    assert caught.value.path == f"{repo}/lock" + ("" if part == "lock.roster" else ".exclusive")
    assert lock.mode is NONE
    assert lock_files(repo) == []
    lock.acquire(mode, 0)
    lock.release()
    assert lock_files(repo) == []


@pytest.mark.parametrize("room", [0, 10])
@pytest.mark.parametrize("step", ["reader", "writer", "upgrade"])
def test_a_full_disk_while_writing_the_roster_keeps_every_readers_place(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch, room: int, step: str
) -> None:
    """`room`: how many bytes beyond its old size the roster can still grow by."""
    others: dict[str, list[list[object]]] = {} if step == "writer" else {"shared": [["there@2", 66, 0]]}
    if step != "upgrade":
        others["exclusive"] = [["there@2", 67, 0]]
    if others and step != "upgrade":
        put_roster(repo, others)
    lock = lock_of(disk, repo, 5)
    if step == "upgrade":
        lock.acquire(SHARED, 0)
    before = (repo / "lock.roster").read_bytes()
    pwrite = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        rest = len(before) + room - offset
        if rest <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data[:rest], offset)

    monkeypatch.setattr(os, "pwrite", full)
    if step == "reader":
        with pytest.raises(LockFailed, match="No space left"):
            lock.acquire(SHARED, 0)
        assert lock.mode is NONE
    else:  # the directory is the lock; that the roster names a writer as well needs room that is not there
        lock.acquire(EXCLUSIVE, 0)
        assert lock.holds_exclusive()
        if step == "upgrade" and room:  # {"exclusive": … is three bytes longer than {"shared": …
            before = (repo / "lock.roster").read_bytes()
            assert roster(repo) == {"exclusive": [["here@1", 5, 0]]}
    assert (repo / "lock.roster").read_bytes() == before
    lock.release()
    assert lock_files(repo) == ([] if step == "upgrade" else ["lock.roster"])
    monkeypatch.undo()
    assert_free_once_broken(disk, repo)


def test_a_reader_without_room_in_the_roster_is_alone(disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    lock = lock_of(disk, repo, 5)
    lock.acquire(SHARED, 0)
    assert lock.mode is EXCLUSIVE
    with pytest.raises(LockTimeout):
        lock_of(disk, repo, 6).acquire(SHARED, 0)
    lock.release()
    assert lock_files(repo) == []


def test_the_roster_is_readable_at_every_moment_while_it_is_rewritten(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_roster(repo, {"shared": [["there@2", 66, 0]]})
    seen: list[object] = []

    def watch(function: str) -> None:
        real: Callable[..., Any] = getattr(os, function)

        def watched(*arguments: Any) -> Any:
            result = real(*arguments)
            seen.append(json.loads((repo / "lock.roster").read_bytes())["shared"])
            return result

        monkeypatch.setattr(os, function, watched)

    for function in ("pwrite", "ftruncate", "open", "close"):
        watch(function)
    with disk.manager(5).shared(str(repo), wait=0):
        pass
    monkeypatch.undo()
    assert len(seen) > 8
    assert all(["there@2", 66, 0] in shared for shared in seen if isinstance(shared, list))
    assert roster(repo) == {"shared": [["there@2", 66, 0]]}
    assert_free_once_broken(disk, repo)


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_a_release_that_cannot_write_the_roster_says_so_and_frees_the_directory(
    disk: Disk, repo: Path, mode: LockMode
) -> None:
    put_roster(repo, {"exclusive": [["there@2", 66, 0]]})
    lock = lock_of(disk, repo, 5)
    lock.acquire(mode, 0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        failing(monkeypatch, "open", errno.EROFS, "lock.roster")
        with pytest.raises(LockFailed, match="Read-only"):
            lock.release()
    assert lock.mode is NONE
    assert lock_files(repo) == ["lock.lease.here@1.5-0", "lock.roster"]
    with disk.manager(6, "elsewhere@3").exclusive(str(repo), wait=0):
        pass  # the lease has proved that the entry left in the roster is nobody's
    assert borgs_files(repo) == ["lock.roster"]
    assert roster(repo) == {"exclusive": [["there@2", 66, 0]]}
    assert_free_once_broken(disk, repo)


def test_a_release_that_cannot_remove_the_lock_says_so_and_the_process_can_take_it_again(
    disk: Disk, repo: Path
) -> None:
    manager = disk.manager(5)
    lock = manager.lock_for(str(repo))
    lock.acquire(EXCLUSIVE, 0)
    with pytest.MonkeyPatch.context() as monkeypatch:
        failing(monkeypatch, "unlink", errno.EIO, "lock.exclusive/")
        failed: list[LockFailed] = []

        def release() -> None:
            with pytest.raises(LockFailed) as caught:
                lock.release()
            failed.append(caught.value)
            monkeypatch.undo()

        disk.world.after(1, release)
        with manager.exclusive(str(repo), wait=5):
            assert failed
    assert lock.mode is NONE
    assert lock_files(repo) == []


def test_a_lock_directory_nobody_may_look_into_is_somebody_elses(
    disk: Disk, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_lock(repo, "here@1.66-0")
    disk.processes.dead = {66}

    def refuse(path: str) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("borg_serve_lib.locking.directory.opened_directory", refuse)
    with pytest.raises(LockTimeout):
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 1)
    assert lock_files(repo) == ["lock.exclusive"]
    monkeypatch.undo()
    assert_free(disk, repo)


# --- interruptions --------------------------------------------------------------------------------------------------

_PACKAGE = os.path.dirname(locking.__file__)
_DROPPED_OPEN = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Of a file that the interpreter had to close, since an exception came before we could."""


def interrupted(action: Callable[[], object], at: int) -> bool:
    """Run `action` with a KeyboardInterrupt at the `at`-th line of the lock manager; return whether it came so far."""
    steps = iter(range(at + 1))

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        if event == "line" and next(steps) == at:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@_DROPPED_OPEN
@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
@pytest.mark.parametrize("others", ["none", "a reader", "a dead writer", "a living writer"])
def test_an_acquire_interrupted_at_any_line_leaves_nothing(disk: Disk, repo: Path, mode: LockMode, others: str) -> None:
    disk.processes.dead = {66}
    manager = disk.manager(5)
    hopeless = others == "a living writer" or (others == "a reader" and mode is EXCLUSIVE)
    rounds, come_so_far = 0, True
    while come_so_far:
        if others == "a reader":
            put_roster(repo, {"shared": [["there@2", 9, 0]]})
        elif others == "a dead writer":
            put_lock(repo, "here@1.66-0")
        elif others == "a living writer":
            put_lock(repo, "here@1.9-0")
        lock = manager.lock_for(str(repo))
        try:
            come_so_far = interrupted(lambda lock=lock: lock.acquire(mode, 0.0005), rounds)  # type: ignore[misc]
        except LockTimeout:
            assert hopeless
            come_so_far = False
        assert lock.mode is (NONE if come_so_far or hopeless else mode)
        lock.release()
        for name in lock_files(repo):
            assert name in ("lock.roster", "lock.exclusive")
        if others == "a reader":
            assert roster(repo) == {"shared": [["there@2", 9, 0]]}
            assert lock_files(repo) == ["lock.roster"]
            (repo / "lock.roster").unlink()
        elif (repo / "lock.exclusive").exists():
            assert set(os.listdir(repo / "lock.exclusive")) <= {"here@1.66-0", "here@1.9-0"}
            lock.break_lock()
        assert lock_files(repo) == []
        rounds += 1
    assert rounds > 20


@_DROPPED_OPEN
@pytest.mark.parametrize("held", ["shared", "exclusive", "shared beside others"])
def test_a_release_interrupted_at_any_line_is_finished_all_the_same(disk: Disk, repo: Path, held: str) -> None:
    manager = disk.manager(5)
    rounds, come_so_far = 0, True
    while come_so_far:
        if held == "shared beside others":
            put_roster(repo, {"shared": [["there@2", 9, 0]]})
        lock = manager.lock_for(str(repo))
        lock.acquire(EXCLUSIVE if held == "exclusive" else SHARED, 0)
        come_so_far = interrupted(lock.release, rounds)
        lock.release()
        if held == "shared beside others":
            assert roster(repo) == {"shared": [["there@2", 9, 0]]}
            (repo / "lock.roster").unlink()
        assert lock_files(repo) == []
        assert lock.mode is NONE
        rounds += 1
    assert rounds > 20


@_DROPPED_OPEN
@pytest.mark.parametrize("others", [False, True])
def test_an_upgrade_interrupted_at_any_line_leaves_the_reader_a_reader(disk: Disk, repo: Path, others: bool) -> None:
    manager = disk.manager(5)
    rounds, come_so_far = 0, True
    while come_so_far:
        if others:
            put_roster(repo, {"shared": [["there@2", 9, 0]]})
        lock = manager.lock_for(str(repo))
        lock.acquire(SHARED, 0)
        try:
            come_so_far = interrupted(lambda lock=lock: lock.upgrade(0.0005), rounds)  # type: ignore[misc]
        except LockTimeout:
            assert others
            come_so_far = False
        if come_so_far or others:
            assert lock.mode is SHARED
            assert borgs_files(repo) == ["lock.roster"]
            expected = [["here@1", 5, 0], ["there@2", 9, 0]] if others else [["here@1", 5, 0]]
            assert roster(repo) == {"shared": expected}
        lock.release()
        if others:
            (repo / "lock.roster").unlink()
        assert lock_files(repo) == []
        rounds += 1
    assert rounds > 20


# --- what others have put there -------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the repository, with the lock of a dead process and something else in it."""
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "here@1.66-0").touch()
    (directory / "precious").touch()
    return directory


@pytest.mark.parametrize("name", ["lock.exclusive", "lock.exclusive.here@1.66-0.abcdefgh.tmp"])
def test_no_symbolic_link_leads_out_of_the_repository(disk: Disk, repo: Path, outside: Path, name: str) -> None:
    disk.processes.dead = {66}
    (repo / name).symlink_to(outside)
    lock = lock_of(disk, repo, 5)
    with suppress(LockFailed):
        lock.acquire(EXCLUSIVE, 0)
        lock.release()
    with suppress(LockFailed):
        lock.break_lock()
    assert sorted(os.listdir(outside)) == ["here@1.66-0", "precious"]
    (repo / name).unlink()
    assert_free(disk, repo)


@pytest.mark.parametrize("name", ["lock.roster", "lock.waiting.here@1.5-0", "lock.lease.here@1.5-0"])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_written_through_a_symbolic_link(
    disk: Disk, repo: Path, outside: Path, name: str, there: bool
) -> None:
    target = outside / ("precious" if there else "new")
    (repo / name).symlink_to(target)
    reader = lock_of(disk, repo, 6)
    with suppress(LockFailed):
        reader.acquire(SHARED, 0)
    with suppress(LockError):
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 1)
    assert sorted(os.listdir(outside)) == ["here@1.66-0", "precious"]
    assert (outside / "precious").read_bytes() == b""
    reader.release()
    (repo / name).unlink(missing_ok=True)
    assert_free(disk, repo)


@pytest.mark.parametrize("name", ["lock.roster", "lock.waiting.here@1.5-0", "lock.lease.here@1.5-0"])
def test_nobody_waits_for_a_pipe(disk: Disk, repo: Path, name: str) -> None:
    os.mkfifo(repo / name)
    reader = lock_of(disk, repo, 6)
    with suppress(LockFailed):
        reader.acquire(SHARED, 0)
    with suppress(LockError):
        lock_of(disk, repo, 5).acquire(EXCLUSIVE, 1)
    reader.release()
    (repo / name).unlink(missing_ok=True)
    assert_free(disk, repo)


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_a_roster_too_large_to_be_one_frees_no_lock(disk: Disk, repo: Path, mode: LockMode) -> None:
    with (repo / "lock.roster").open("wb") as roster:
        roster.truncate(1 << 40)
    with pytest.raises(LockFailed, match="more than 1048576 bytes"):
        lock_of(disk, repo, 5).acquire(mode, None)
    assert lock_files(repo) == ["lock.roster"]
    lock_of(disk, repo, 5).break_lock()
    assert lock_files(repo) == []
