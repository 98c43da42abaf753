from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_serve_lib.errors import LockTimeout
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.identity import Holder, Identity
from borg_serve_lib.locking.manager import FileLock, FileLockManager
from borg_serve_lib.locking.precedence import has_turn, holder_of_mark
from tests.locking.support import Disk, World

WRITER, READER, LATER = 5, 6, 7


@pytest.fixture
def disk() -> Disk:
    return Disk(World())


def lock(disk: Disk, path: Path, pid: int, host: str = "here@1") -> FileLock:
    return disk.manager(pid, host).lock_for(str(path))


def waiting(path: Path) -> list[str]:
    return [name for name in os.listdir(path) if name.startswith("lock.waiting")]


def test_a_reader_lets_a_waiting_writer_pass(disk: Disk, tmp_path: Path) -> None:
    reader, writer, later = (lock(disk, tmp_path, pid) for pid in (READER, WRITER, LATER))
    reader.acquire(LockMode.SHARED, 0)
    came: list[object] = []

    def come_later() -> None:
        with pytest.raises(LockTimeout):  # nested in the writer's waiting, which therefore cannot end
            later.acquire(LockMode.SHARED, 1)
        came.extend([disk.world.now, waiting(tmp_path)])

    disk.world.after(0.5, come_later)
    disk.world.after(0.8, reader.release)
    begun = disk.world.now
    writer.acquire(LockMode.EXCLUSIVE, 60)
    assert came == [pytest.approx(begun + 1.5, abs=0.3), [f"lock.waiting.here@1.{WRITER}-0"]]
    assert waiting(tmp_path) == []
    writer.release()


def die(holder: FileLock) -> None:
    """Let the lease of `holder` be what it is after a kill -9."""
    assert holder._lease._file
    holder._lease._file.close()
    holder._lease._file = None


@contextmanager
def waiting_writer(disk: Disk, path: Path) -> Iterator[None]:
    """A context in which a writer waits and is alive, as far as others see; at the end nothing is left of anybody."""
    mark = path / f"lock.waiting.here@1.{WRITER}-0"
    mark.touch()
    lease = lock(disk, path, WRITER)._lease
    lease.join("its lock", disk.reporter)
    yield
    mark.unlink()
    lease.leave("its lock")
    assert os.listdir(path) == []


@pytest.mark.parametrize("wait", [0, 1, 30])
def test_in_its_first_minute_no_reader_gets_in_before_a_waiting_writer(disk: Disk, tmp_path: Path, wait: float) -> None:
    with waiting_writer(disk, tmp_path):
        begun = disk.world.now
        with pytest.raises(LockTimeout):
            lock(disk, tmp_path, READER).acquire(LockMode.SHARED, wait)
        assert disk.world.now - begun == pytest.approx(wait, abs=0.06)
        assert not [name for name in os.listdir(tmp_path) if str(READER) in name]
        reader = lock(disk, tmp_path, READER)
        reader.acquire(LockMode.SHARED, 100)
        assert disk.world.now - begun == pytest.approx(60, abs=0.1)
        reader.release()


def test_a_reader_with_the_name_of_a_dead_one_is_not_taken_for_it_while_it_lets_a_writer_pass(
    disk: Disk, tmp_path: Path
) -> None:
    """Or each of them would wait for the other."""
    dead, writer, reader = lock(disk, tmp_path, READER), lock(disk, tmp_path, WRITER), lock(disk, tmp_path, READER)
    dead.acquire(LockMode.SHARED, 0)
    begun = disk.world.now
    came: list[object] = []

    def die_and_come_again() -> None:
        die(dead)
        disk.world.after(0.5, lambda: came.extend([waiting(tmp_path), (tmp_path / "lock.roster").exists()]))
        with pytest.raises(LockTimeout):  # nested in the writer's waiting, which therefore cannot end
            reader.acquire(LockMode.SHARED, 1)

    disk.world.after(0.5, die_and_come_again)
    writer.acquire(LockMode.EXCLUSIVE, 60)
    assert came == [[f"lock.waiting.here@1.{WRITER}-0"], False]
    assert disk.world.now - begun == pytest.approx(1.5, abs=0.3)
    writer.release()
    assert os.listdir(tmp_path) == []


def test_who_cannot_bury_its_predecessor_leaves_the_proof_of_its_death(disk: Disk, tmp_path: Path) -> None:
    dead, busy, reader = lock(disk, tmp_path, READER), lock(disk, tmp_path, WRITER), lock(disk, tmp_path, READER)
    dead.acquire(LockMode.SHARED, 0)
    busy._lease.join("its lock", disk.reporter)
    (tmp_path / "lock.exclusive").mkdir()
    (tmp_path / "lock.exclusive" / f"here@1.{WRITER}-0").touch()
    die(dead)
    with pytest.raises(LockTimeout):
        reader.acquire(LockMode.SHARED, 1)
    assert f"lock.lease.here@1.{READER}-0" in os.listdir(tmp_path)
    (tmp_path / "lock.exclusive" / f"here@1.{WRITER}-0").unlink()
    busy._lease.leave("its lock")
    with disk.manager(LATER).exclusive(str(tmp_path), wait=0):
        pass
    assert os.listdir(tmp_path) == []


def test_a_writer_whose_clock_is_ahead_has_no_first_right(disk: Disk, tmp_path: Path) -> None:
    disk.world.now += 1000
    with waiting_writer(disk, tmp_path):
        disk.world.now -= 1000
        reader = lock(disk, tmp_path, READER)
        reader.acquire(LockMode.SHARED, 0)
        reader.release()


def test_later_a_reader_holds_back_for_half_its_time_and_not_for_ever(disk: Disk, tmp_path: Path) -> None:
    with waiting_writer(disk, tmp_path):
        disk.world.now += 60
        for wait, courtesy in ((0, 0.0), (1, 0.5), (8, 4.0), (100, 10.0), (None, 10.0)):
            begun = disk.world.now
            reader = lock(disk, tmp_path, READER)
            reader.acquire(LockMode.SHARED, wait)
            assert disk.world.now - begun == pytest.approx(courtesy, abs=0.06)
            reader.release()


@pytest.mark.parametrize("name", ["there@2.5-0", "here@1.66-0", "nonsense", ""])
def test_nobody_holds_back_for_strangers_the_dead_and_nonsense(disk: Disk, tmp_path: Path, name: str) -> None:
    disk.processes.dead.add(66)
    (tmp_path / f"lock.waiting.{name}").touch()
    reader = lock(disk, tmp_path, READER)
    begun = disk.world.now
    reader.acquire(LockMode.SHARED, 60)
    assert disk.world.now == begun
    reader.release()
    assert (waiting(tmp_path) == []) is (name == "here@1.66-0")
    reader.break_lock()
    assert os.listdir(tmp_path) == []


def test_a_writer_that_gives_up_is_waiting_no_longer(disk: Disk, tmp_path: Path) -> None:
    reader, writer = lock(disk, tmp_path, READER), lock(disk, tmp_path, WRITER)
    reader.acquire(LockMode.SHARED, 0)
    with pytest.raises(LockTimeout):
        writer.acquire(LockMode.EXCLUSIVE, 1)
    assert waiting(tmp_path) == []
    reader.release()


def test_a_stream_of_readers_does_not_starve_a_writer(tmp_path: Path) -> None:
    """Four readers, of which there is always one: without courtesy the writer would never see the repository free."""
    ended = threading.Event()

    def manager(pid: int) -> FileLockManager:
        return FileLockManager.of_this_machine(Identity("here@1", pid=lambda: pid))

    def read(number: int) -> None:
        time.sleep(number * 0.1)
        while not ended.is_set():
            with manager(number).shared(str(tmp_path), wait=8):
                ended.wait(0.4)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(1, 5)]
    for reader in readers:
        reader.start()
    time.sleep(0.6)
    try:
        with manager(WRITER).exclusive(str(tmp_path), wait=20):
            pass
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert waiting(tmp_path) == []


# --- several writers of one process


def test_a_writer_has_its_first_turn_however_long_its_process_has_been_there(disk: Disk, tmp_path: Path) -> None:
    """Sessions of one process share a lease, which says since when the first of them has been there."""
    manager = disk.manager(WRITER)
    reader, writer = manager.lock_for(str(tmp_path)), manager.lock_for(str(tmp_path))
    reader.acquire(LockMode.SHARED, 0)
    disk.world.now += 1000
    refused: list[object] = []

    def come_later() -> None:
        for later in (lock(disk, tmp_path, LATER), manager.lock_for(str(tmp_path))):
            with pytest.raises(LockTimeout):
                later.acquire(LockMode.SHARED, 0)
            refused.append(later)

    disk.world.after(50, come_later)
    disk.world.after(55, reader.release)
    writer.acquire(LockMode.EXCLUSIVE, 100)
    assert len(refused) == 2
    writer.release()
    assert os.listdir(tmp_path) == []


def test_the_mark_of_a_writer_stays_when_another_one_of_its_process_gives_up(disk: Disk, tmp_path: Path) -> None:
    manager = disk.manager(WRITER)
    reader = lock(disk, tmp_path, READER)
    reader.acquire(LockMode.SHARED, 0)
    marks: list[list[str]] = []

    def wait_in_vain() -> None:
        disk.world.after(0.5, lambda: marks.append(sorted(waiting(tmp_path))))
        with pytest.raises(LockTimeout):
            manager.lock_for(str(tmp_path)).acquire(LockMode.EXCLUSIVE, 1)
        marks.append(waiting(tmp_path))
        with pytest.raises(LockTimeout):
            lock(disk, tmp_path, LATER).acquire(LockMode.SHARED, 0)

    disk.world.after(1, wait_in_vain)
    disk.world.after(3, reader.release)
    with manager.exclusive(str(tmp_path), wait=60):
        pass
    name = f"lock.waiting.here@1.{WRITER}-0"
    assert marks == [[name, f"{name}.1"], [name]]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x@1.7-0", "x@1.7-0.1", "x@1.7-a.31"])
def test_a_mark_names_its_holder_whatever_its_number(name: str) -> None:
    assert holder_of_mark(f"lock.waiting.{name}") == Holder("x@1", 7, 10 if "-a" in name else 0)


@pytest.mark.parametrize(
    "name", ["lock.waiting.", "lock.waiting.x@1.7-0.", "lock.waiting.x@1.7-0.b", "lock.lease.x.7-0"]
)
def test_what_is_no_mark_names_nobody(name: str) -> None:
    assert holder_of_mark(name) is None


def test_a_mark_without_room_for_its_time_counts_from_the_lease(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with waiting_writer(disk, tmp_path):
        with pytest.raises(LockTimeout):
            lock(disk, tmp_path, READER).acquire(LockMode.SHARED, 0)
        disk.world.now += 61
        with disk.manager(READER).shared(str(tmp_path), wait=0):
            pass


def test_the_mark_of_a_dead_predecessor_of_that_name_does_not_count_as_ours(disk: Disk, tmp_path: Path) -> None:
    dead, reader = lock(disk, tmp_path, READER), lock(disk, tmp_path, READER)
    dead.acquire(LockMode.SHARED, 0)
    dead._waiting.queue_up(dead._me, LockMode.NONE)
    die(dead)
    reader.acquire(LockMode.SHARED, 1)
    assert waiting(tmp_path) == []
    reader.release()


# --- turns


def test_the_turns_of_a_writer_grow_to_a_quarter_of_an_hour() -> None:
    turns = [second // 60 for second in range(0, 130 * 60, 60) if has_turn(second)]
    assert turns[:15] == [0, *range(2, 4), *range(6, 10), *range(14, 22)]
    assert turns[15:] == [*range(30, 46), *range(62, 78), *range(94, 110), *range(126, 130)]


@pytest.mark.parametrize("age", [-1.0, float("inf"), float("-inf"), 60.0, 119.9])
def test_there_is_no_turn_for_others_times_and_times_nobody_knows(age: float) -> None:
    assert not has_turn(age)


@pytest.mark.parametrize("seconds", [70, 200, 600])
def test_readers_that_overlap_do_not_keep_a_writer_out_however_long_each_of_them_reads(
    disk: Disk, tmp_path: Path, seconds: float
) -> None:
    readers = 0

    def come() -> None:
        nonlocal readers
        reader = lock(disk, tmp_path, 100 + readers)
        try:
            reader.acquire(LockMode.SHARED, 0)
        except LockTimeout:
            disk.world.after(1, come)
        else:
            readers += 1
            disk.world.after(seconds, reader.release)
            disk.world.after(seconds / 3, come)

    come()
    disk.world.after(1, lambda: None)
    begun = disk.world.now
    with disk.manager(WRITER).exclusive(str(tmp_path), wait=8 * seconds):
        assert disk.world.now - begun > seconds
        assert readers >= 4


# --- two readers that both want to write


@pytest.mark.parametrize("ahead", [0, -500, 500])
def test_of_two_upgraders_just_one_gives_up_whatever_their_clocks_say(disk: Disk, tmp_path: Path, ahead: float) -> None:
    first, second = lock(disk, tmp_path, 5), lock(disk, tmp_path, 6)
    second._waiting._now = lambda: disk.world.now + ahead
    for reader in (first, second):
        reader.acquire(LockMode.SHARED, 0)
    for reader in (first, second):
        reader._waiting.queue_up(reader._me, LockMode.SHARED)
    assert [reader._waiting.is_hopeless() for reader in (first, second)] == [ahead < 0, ahead >= 0]
    for reader in (first, second):
        reader.release()
    assert os.listdir(tmp_path) == []


def test_a_dead_upgrader_is_in_nobodys_way(disk: Disk, tmp_path: Path) -> None:
    dead, reader = lock(disk, tmp_path, 5), lock(disk, tmp_path, 6)
    for upgrader in (dead, reader):
        upgrader.acquire(LockMode.SHARED, 0)
    dead._waiting.queue_up(dead._me, LockMode.SHARED)
    die(dead)
    reader.upgrade(0)
    reader.release()


def test_a_writer_that_is_no_reader_does_not_stop_an_upgrade(disk: Disk, tmp_path: Path) -> None:
    reader, writer, other = (lock(disk, tmp_path, pid) for pid in (READER, WRITER, LATER))
    for upgrader in (reader, other):
        upgrader.acquire(LockMode.SHARED, 0)
    done: list[bool] = []

    def upgrade() -> None:
        disk.world.after(1, other.release)
        reader.upgrade(5)
        done.append(reader.holds_exclusive())
        reader.release()

    disk.world.after(1, upgrade)
    writer.acquire(LockMode.EXCLUSIVE, 60)
    assert done == [True]
    writer.release()
