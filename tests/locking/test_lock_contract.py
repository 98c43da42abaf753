"""What every lock manager promises: in memory, on disk within one process, on disk among processes."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from borg_serve_lib.errors import InvalidArgument, LockTimeout, NotLocked, NotMyLock
from borg_serve_lib.locking.base import LockManager, LockMode
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.locking.owner import Verdict
from borg_serve_lib.reporting import Peer

from .support import Disk, OneProcessEach, World, lock_files

SHARED, EXCLUSIVE, NONE = LockMode.SHARED, LockMode.EXCLUSIVE, LockMode.NONE


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "repo").mkdir()
    return str(tmp_path / "repo")


@pytest.fixture(params=["memory", "files of one process", "files of many processes"])
def locks(request: pytest.FixtureRequest, world: World) -> LockManager:
    if request.param == "memory":
        return MemoryLockManager(clock=world.clock, sleep=world.sleep)
    disk = Disk(world)
    return disk.manager(100) if request.param == "files of one process" else OneProcessEach(disk)


def assert_free(locks: LockManager, path: str) -> None:
    with locks.exclusive(path, wait=0) as lock:
        assert lock.holds_exclusive()
    assert lock_files(Path(path)) == []


def test_a_new_lock_is_not_held_and_touches_nothing(locks: LockManager, path: str) -> None:
    lock = locks.lock_for(path)
    assert lock.mode is NONE
    assert not lock.holds_exclusive()
    lock.release()
    assert lock_files(Path(path)) == []


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_a_lock_is_held_from_acquire_to_release(locks: LockManager, path: str, mode: LockMode) -> None:
    lock = locks.lock_for(path)
    lock.acquire(mode, 0)
    assert lock.mode is mode
    assert lock.holds_exclusive() is (mode is EXCLUSIVE)
    lock.release()
    assert lock.mode is NONE
    assert not lock.holds_exclusive()
    lock.release()
    assert_free(locks, path)


def test_readers_share(locks: LockManager, path: str) -> None:
    readers = [locks.lock_for(path) for _ in range(3)]
    for reader in readers:
        reader.acquire(SHARED, 0)
    for reader in readers:
        with pytest.raises(LockTimeout) as caught:
            locks.lock_for(path).acquire(EXCLUSIVE, 0)
        assert caught.value.path == f"{path}/lock"
        reader.release()
    assert_free(locks, path)


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_a_writer_keeps_all_others_out(locks: LockManager, path: str, mode: LockMode) -> None:
    writer, other = locks.lock_for(path), locks.lock_for(path)
    writer.acquire(EXCLUSIVE, 0)
    with pytest.raises(LockTimeout) as caught:
        other.acquire(mode, 0)
    assert caught.value.path == f"{path}/lock.exclusive"
    assert other.mode is NONE
    assert writer.holds_exclusive()
    other.release()
    assert writer.holds_exclusive()
    writer.release()
    other.acquire(mode, 0)
    other.release()
    assert_free(locks, path)


@pytest.mark.parametrize("wait", [0.3, 1, 20])
@pytest.mark.parametrize(("held", "wanted"), [(EXCLUSIVE, SHARED), (EXCLUSIVE, EXCLUSIVE), (SHARED, EXCLUSIVE)])
def test_waiting_ends_after_the_given_time(
    locks: LockManager, path: str, world: World, held: LockMode, wanted: LockMode, wait: float
) -> None:
    holder = locks.lock_for(path)
    holder.acquire(held, 0)
    with pytest.raises(LockTimeout):
        locks.lock_for(path).acquire(wanted, wait)
    assert world.now - 1000 == pytest.approx(wait, abs=0.01)
    assert max(world.slept) <= 0.2
    assert holder.mode is held
    holder.release()
    assert_free(locks, path)


@pytest.mark.parametrize("wait", [100, None])
@pytest.mark.parametrize(("held", "wanted"), [(EXCLUSIVE, SHARED), (EXCLUSIVE, EXCLUSIVE), (SHARED, EXCLUSIVE)])
def test_waiting_notices_within_a_fifth_of_a_second_that_the_way_is_free(
    locks: LockManager, path: str, world: World, held: LockMode, wanted: LockMode, wait: float | None
) -> None:
    first, second = locks.lock_for(path), locks.lock_for(path)
    first.acquire(held, 0)
    world.after(6.03, first.release)
    second.acquire(wanted, wait)
    assert 6.03 <= world.now - 1000 <= 6.03 + 0.2 + 0.001
    assert second.mode is wanted
    second.release()
    assert_free(locks, path)


def test_acquiring_what_is_held_changes_nothing(locks: LockManager, path: str) -> None:
    lock = locks.lock_for(path)
    lock.acquire(SHARED, 0)
    lock.acquire(SHARED, 0)
    assert lock.mode is SHARED
    lock.acquire(EXCLUSIVE, 0)
    lock.acquire(EXCLUSIVE, 0)
    lock.acquire(SHARED, 0)
    assert lock.holds_exclusive()
    lock.release()
    assert_free(locks, path)


def test_a_lone_reader_is_upgraded(locks: LockManager, path: str) -> None:
    lock, other = locks.lock_for(path), locks.lock_for(path)
    lock.acquire(SHARED, 0)
    lock.upgrade(0)
    assert lock.mode is EXCLUSIVE
    assert lock.holds_exclusive()
    lock.upgrade(0)
    with pytest.raises(LockTimeout):
        other.acquire(SHARED, 0)
    lock.release()
    assert_free(locks, path)


def test_a_reader_among_readers_stays_one_when_its_upgrade_fails(locks: LockManager, path: str, world: World) -> None:
    lock, other = locks.lock_for(path), locks.lock_for(path)
    lock.acquire(SHARED, 0)
    other.acquire(SHARED, 0)
    for upgrader in (lock, other):
        with pytest.raises(LockTimeout) as caught:
            upgrader.upgrade(0.5)
        assert caught.value.path == f"{path}/lock"
        assert upgrader.mode is SHARED
        assert not upgrader.holds_exclusive()
    other.release()
    with pytest.raises(LockTimeout):
        other.acquire(EXCLUSIVE, 0)
    lock.upgrade(0)
    assert lock.holds_exclusive()
    lock.release()
    assert_free(locks, path)


def test_an_upgrade_waits_for_the_other_readers(locks: LockManager, path: str, world: World) -> None:
    lock, other = locks.lock_for(path), locks.lock_for(path)
    lock.acquire(SHARED, 0)
    other.acquire(SHARED, 0)
    world.after(3, other.release)
    lock.upgrade(None)
    assert lock.holds_exclusive()
    assert world.now - 1000 == pytest.approx(3, abs=0.21)
    lock.release()
    assert_free(locks, path)


def test_the_second_of_two_upgraders_is_told_at_once_that_each_would_wait_for_the_other(
    locks: LockManager, path: str, world: World
) -> None:
    first, second = locks.lock_for(path), locks.lock_for(path)
    first.acquire(SHARED, 0)
    second.acquire(SHARED, 0)
    failed: list[float] = []

    def upgrade_too() -> None:
        begun = world.now
        with pytest.raises(LockTimeout, match="one reader waits to write already") as caught:
            second.upgrade(None)
        assert caught.value.path == f"{path}/lock"
        assert second.mode is SHARED
        failed.append(world.now - begun)
        second.release()

    world.after(1, upgrade_too)
    first.upgrade(None)
    assert failed == [0]
    assert first.holds_exclusive()
    first.release()
    assert_free(locks, path)


def test_a_writer_becomes_a_reader_with_nobody_in_between(locks: LockManager, path: str) -> None:
    writer, other = locks.lock_for(path), locks.lock_for(path)
    writer.acquire(EXCLUSIVE, 0)
    writer.downgrade()
    assert writer.mode is SHARED
    assert not writer.holds_exclusive()
    other.acquire(SHARED, 0)
    with pytest.raises(LockTimeout):
        locks.lock_for(path).acquire(EXCLUSIVE, 0)
    writer.downgrade()  # changes nothing
    assert writer.mode is SHARED
    other.release()
    writer.upgrade(0)
    assert writer.holds_exclusive()
    writer.release()


def test_a_lock_that_is_not_held_cannot_be_downgraded(locks: LockManager, path: str) -> None:
    with pytest.raises(NotLocked):
        locks.lock_for(path).downgrade()


def test_a_broken_lock_cannot_be_downgraded(locks: LockManager, path: str) -> None:
    writer, thief = locks.lock_for(path), locks.lock_for(path)
    writer.acquire(EXCLUSIVE, 0)
    locks.lock_for(path).break_lock()
    with pytest.raises(NotLocked):
        writer.downgrade()
    assert writer.mode is NONE
    writer.acquire(EXCLUSIVE, 0)
    writer.break_lock()
    thief.acquire(EXCLUSIVE, 0)
    with pytest.raises(NotMyLock):
        writer.downgrade()
    assert writer.mode is NONE
    assert thief.holds_exclusive()
    thief.release()


def test_a_lock_tells_who_holds_it_and_what_takes_long(locks: LockManager, path: str) -> None:
    first, second = locks.lock_for(path), locks.lock_for(path)
    assert first.owners() == ()
    first.note("nothing, for it is not held")
    first.acquire(EXCLUSIVE, 0)
    first.note("compaction")
    (owner,) = second.owners()
    assert (owner.mode, owner.verdict) == (EXCLUSIVE, Verdict.ALIVE)
    assert owner.record is not None
    assert owner.record.activity == "compaction"
    first.note("")
    assert second.owners()[0].record.activity == ""  # type: ignore[union-attr]
    first.downgrade()
    second.acquire(SHARED, 0)
    assert {owner.mode for owner in locks.lock_for(path).owners()} == {SHARED}
    first.release()
    second.release()
    assert first.owners() == ()


ALICE, BOB = Peer("1", "backup", "192.0.2.1", "alice"), Peer("2", "bob", "192.0.2.2")
CAROL = Peer("3", "backup", "192.0.2.3", "carol")


@pytest.mark.parametrize("mode", [SHARED, EXCLUSIVE])
def test_who_waits_in_vain_is_told_for_whom_the_lock_is_held(locks: LockManager, path: str, mode: LockMode) -> None:
    """What the host calls its client says more than the account of all."""
    holder, waiting = locks.lock_for(path, peer=ALICE), locks.lock_for(path, peer=BOB)
    holder.acquire(mode, 0)
    holder.note("compaction")
    with pytest.raises(LockTimeout) as caught:
        waiting.acquire(EXCLUSIVE, 0)
    assert "for alice, from 192.0.2.1" in caught.value.owners
    assert "busy with compaction; alive" in caught.value.owners
    holder.release()
    assert_free(locks, path)


def test_an_upgrader_is_told_of_the_other_readers_and_not_of_itself(locks: LockManager, path: str) -> None:
    readers = [locks.lock_for(path, peer=peer) for peer in (ALICE, BOB, CAROL)]
    for reader in readers:
        reader.acquire(SHARED, 0)
    readers[2].release()
    told = {}
    for reader in readers[:2]:
        with pytest.raises(LockTimeout) as caught:
            reader.upgrade(0)
        told[reader] = caught.value.owners
    assert [("for alice" in text, "for bob" in text) for text in told.values()] == [(False, True), (True, False)]
    assert not any("carol" in text or "more" in text for text in told.values())
    for reader in readers:
        reader.release()
    assert_free(locks, path)


def test_owners_of_one_lock_are_told_apart(locks: LockManager, path: str) -> None:
    held = {peer.client or peer.user: locks.lock_for(path, peer=peer) for peer in (ALICE, BOB)}
    for name, lock in held.items():
        lock.acquire(SHARED, 0)
        lock.note(f"work for {name}")
    records = [owner.record for owner in locks.lock_for(path).owners()]
    assert sorted((record.user, record.activity) for record in records if record) == [
        ("alice", "work for alice"),
        ("bob", "work for bob"),
    ]
    for lock in held.values():
        lock.release()
    assert_free(locks, path)


def test_a_lock_that_is_not_held_cannot_be_upgraded(locks: LockManager, path: str) -> None:
    with pytest.raises(NotLocked):
        locks.lock_for(path).upgrade(0)
    assert_free(locks, path)


def test_a_broken_lock_is_no_longer_held(locks: LockManager, path: str) -> None:
    lock = locks.lock_for(path)
    lock.acquire(EXCLUSIVE, 0)
    locks.lock_for(path).break_lock()
    assert not lock.holds_exclusive()
    with pytest.raises(NotLocked) as caught:
        lock.release()
    assert caught.value.path == f"{path}/lock.exclusive"
    assert lock.mode is NONE
    lock.release()
    assert_free(locks, path)


def test_a_lock_that_was_broken_and_taken_by_another_stays_the_others(locks: LockManager, path: str) -> None:
    lock, other = locks.lock_for(path), locks.lock_for(path)
    lock.acquire(EXCLUSIVE, 0)
    other.break_lock()
    other.acquire(EXCLUSIVE, 0)
    assert not lock.holds_exclusive()
    with pytest.raises(NotMyLock) as caught:
        lock.release()
    assert caught.value.path == f"{path}/lock.exclusive"
    assert lock.mode is NONE
    assert other.holds_exclusive()
    other.release()
    assert_free(locks, path)


def test_readers_whose_lock_was_broken_are_overlooked_and_sign_off_in_peace(locks: LockManager, path: str) -> None:
    reader, second, writer = (locks.lock_for(path) for _ in range(3))
    reader.acquire(SHARED, 0)
    second.acquire(SHARED, 0)
    writer.break_lock()
    reader.release()
    writer.acquire(EXCLUSIVE, 0)
    second.release()
    assert writer.holds_exclusive()
    writer.release()
    assert_free(locks, path)


def test_breaking_what_is_not_held_does_nothing(locks: LockManager, path: str) -> None:
    locks.lock_for(path).break_lock()
    assert_free(locks, path)


@pytest.mark.parametrize("wait", [-1, -0.5])
def test_a_negative_wait_is_refused(locks: LockManager, path: str, wait: float) -> None:
    lock = locks.lock_for(path)
    with pytest.raises(InvalidArgument):
        lock.acquire(SHARED, wait)
    lock.acquire(SHARED, 0)
    with pytest.raises(InvalidArgument):
        lock.upgrade(wait)
    assert lock.mode is SHARED
    lock.release()
    assert_free(locks, path)


@pytest.mark.parametrize("held", [SHARED, EXCLUSIVE])
def test_waiting_ends_with_what_its_interrupt_raises(
    locks: LockManager, path: str, world: World, held: LockMode
) -> None:
    over: list[KeyError] = []

    def interrupt() -> None:
        if over:
            raise over[0]

    holder, lock = locks.lock_for(path), locks.lock_for(path, interrupt=interrupt)
    holder.acquire(held, 0)
    world.after(3, lambda: over.append(KeyError("the session is over")))
    with pytest.raises(KeyError):
        lock.acquire(EXCLUSIVE, None)
    assert world.now - 1000 == pytest.approx(3, abs=0.25)
    assert lock.mode is NONE
    holder.release()
    lock.acquire(SHARED, 0)  # nothing to wait for
    lock.release()
    assert_free(locks, path)


def test_a_lock_cannot_be_acquired_as_none(locks: LockManager, path: str) -> None:
    with pytest.raises(InvalidArgument):
        locks.lock_for(path).acquire(NONE, 0)


def test_locks_of_different_repositories_do_not_meet(locks: LockManager, path: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with locks.exclusive(path, wait=0), locks.exclusive(str(tmp_path / "other"), wait=0):
        pass


def test_a_context_holds_the_lock_and_gives_it_back(locks: LockManager, path: str) -> None:
    with locks.shared(path, wait=0) as lock, locks.shared(path, wait=0):
        assert lock.mode is SHARED
    with locks.exclusive(path, wait=0) as lock:
        assert lock.mode is EXCLUSIVE
        with pytest.raises(LockTimeout), locks.shared(path, wait=0):
            pytest.fail("entered")
    assert_free(locks, path)


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_in_a_context_frees_the_lock_and_passes(
    locks: LockManager, path: str, error: BaseException
) -> None:
    for context in (locks.shared(path, wait=0), locks.exclusive(path, wait=0)):
        with pytest.raises(type(error)) as caught, context:
            raise error
        assert caught.value is error
        assert_free(locks, path)


def test_a_context_tells_of_a_lost_lock_but_never_instead_of_an_exception(locks: LockManager, path: str) -> None:
    def lose_the_lock(error: Exception | None) -> None:
        with locks.exclusive(path, wait=0) as lock:
            lock.break_lock()
            if error:
                raise error

    with pytest.raises(NotLocked):
        lose_the_lock(None)
    with pytest.raises(KeyError):
        lose_the_lock(KeyError("the work failed"))
    assert_free(locks, path)


@pytest.mark.parametrize("kind", ["memory", "files of one process", "files of many processes"])
def test_threads_exclude_each_other(kind: str, path: str) -> None:
    disk = Disk(World())
    disk.world.clock = time.monotonic  # type: ignore[method-assign]
    disk.world.sleep = lambda seconds: time.sleep(min(seconds, 0.001))  # type: ignore[method-assign]
    locks: LockManager = {
        "memory": MemoryLockManager(),
        "files of one process": disk.manager(100),
        "files of many processes": OneProcessEach(disk),
    }[kind]
    inside: list[int] = []
    readers: list[int] = []
    wrong: list[str] = []
    done: list[int] = []

    def work(number: int) -> None:
        for _ in range(15):
            with locks.exclusive(path, wait=30):
                inside.append(number)
                time.sleep(0)
                if inside != [number] or readers:
                    wrong.append(f"writer {number} among {inside} {readers}")
                inside.remove(number)
            with locks.shared(path, wait=30):
                readers.append(number)
                time.sleep(0)
                if inside:
                    wrong.append(f"reader {number} beside writer {inside}")
                readers.remove(number)
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert sorted(done) == [0, 1, 2, 3]
    assert_free(locks, path)
