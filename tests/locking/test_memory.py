from __future__ import annotations

import threading

import pytest

from borg_serve_lib.errors import InvalidArgument, WrongState
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.memory import MemoryLockManager


@pytest.mark.parametrize("path", ["repo", "", "/a/../repo", "/a//repo", "/repo/", "./repo", "/a/./repo"])
def test_a_path_with_another_spelling_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument):
        MemoryLockManager().lock_for(path)


def test_what_is_held_is_told() -> None:
    locks = MemoryLockManager()
    with locks.shared("/a", wait=0), locks.exclusive("/b", wait=0):
        locks.lock_for("/c")
        assert locks.held() == {"/a": LockMode.SHARED, "/b": LockMode.EXCLUSIVE}
    assert locks.held() == {}


def test_two_threads_cannot_use_one_lock() -> None:
    sleeping, over = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        sleeping.set()
        over.wait(20)

    locks = MemoryLockManager(sleep=sleep)
    blocker, lock = locks.lock_for("/a"), locks.lock_for("/a")
    blocker.acquire(LockMode.EXCLUSIVE, 0)
    thread = threading.Thread(target=lock.acquire, args=(LockMode.SHARED, None))
    thread.start()
    assert sleeping.wait(20)
    with pytest.raises(WrongState):
        lock.acquire(LockMode.SHARED, 0)
    with pytest.raises(WrongState):
        lock.release()
    blocker.release()
    over.set()
    thread.join(20)
    assert lock.mode is LockMode.SHARED
    lock.release()
    assert locks.held() == {}
