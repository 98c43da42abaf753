"""A process is killed before each of its steps on the disk, one after the other: nothing it leaves is in the way."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .support import dead_pid, ended, lock_files, real_manager, start_python

HOST = "killed@1"
ELSEWHERE = "other@2"

_LIVE_UNTIL = """
steps, last = 0, int(sys.argv[4])
locks = manager()
STEPS = {"open", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "fcntl.flock"}

def count(event, arguments):
    global steps
    if event in STEPS:
        steps += 1
        if steps == last:
            os.kill(os.getpid(), 9)

sys.addaudithook(count)
lock = locks.lock_for(path)
for step in sys.argv[3].split():
    if step in LockMode.__members__:
        lock.acquire(LockMode[step], 0)
    else:
        getattr(lock, step)()
"""

LIVES = ["EXCLUSIVE release", "SHARED release", "SHARED EXCLUSIVE downgrade release", "SHARED EXCLUSIVE release"]
MOST_STEPS = 200


def leave_a_dead_predecessor(repository: Path) -> None:
    """What native borg leaves when it is killed with the lock, and a process of ours that never came that far."""
    name = f"{HOST}.{dead_pid()}-0"
    (repository / "lock.exclusive").mkdir()
    (repository / "lock.exclusive" / name).touch()
    (repository / f"lock.exclusive.{name}.abcdefgh.tmp").mkdir()
    (repository / f"lock.waiting.{name}").touch()


@pytest.mark.parametrize("predecessor", [False, True])
@pytest.mark.parametrize("life", LIVES)
def test_wherever_a_process_is_killed_the_lock_is_free_and_nothing_stays(
    tmp_path: Path, life: str, predecessor: bool, record_property: Callable[[str, object], None]
) -> None:
    for last in range(1, MOST_STEPS):
        if predecessor:
            leave_a_dead_predecessor(tmp_path)
        with ended(start_python(_LIVE_UNTIL, tmp_path, HOST, life, last)) as process:
            status = process.wait(timeout=20)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        before = lock_files(tmp_path)
        with real_manager(HOST if predecessor else ELSEWHERE).exclusive(str(tmp_path), wait=0):
            pass
        assert lock_files(tmp_path) == [], f"killed before step {last}, it left {before}"
    assert status == 0
    assert lock_files(tmp_path) == []
    assert last > 10
    record_property("steps at which a process with locks was killed", last - 1)
