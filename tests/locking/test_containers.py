"""Processes in containers: name spaces for process ids of their own, in which all servers may have the same id."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from borg_serve_lib.errors import LockTimeout

from .support import ended, holding, kill_for_good, lock_files, ours_holding, real_manager, start_python

HOST = "proof@1"
MODES = ["SHARED", "EXCLUSIVE"]

_TRY = """
from borg_serve_lib.errors import LockTimeout
try:
    with manager().exclusive(path, wait=0.5):
        print(os.getpid(), "got it", flush=True)
except LockTimeout as timeout:
    print(os.getpid(), "alive" in str(timeout), flush=True)
"""


def tried_in_a_container(repository: Path, prefix: str = "") -> bytes:
    """Return what comes of it when the first process of a new container tries to get the exclusive lock."""
    with ended(start_python(prefix + _TRY, repository, HOST, container=True)) as process:
        return process.communicate(timeout=30)[0]


def container_of(holder: subprocess.Popen[bytes], repository: Path) -> None:
    """Check that `holder` is process 1 where it is."""
    (lease,) = repository.glob("lock.lease.*")
    assert lease.name == f"lock.lease.{HOST}.1-0"
    assert holder.poll() is None


@pytest.mark.parametrize("mode", MODES)
def test_a_process_of_another_container_with_the_same_name_keeps_its_lock(tmp_path: Path, mode: str) -> None:
    with holding(ours_holding(tmp_path, mode, HOST, container=True)) as holder:
        container_of(holder, tmp_path)
        assert tried_in_a_container(tmp_path) == b"1 True\n"
    assert tried_in_a_container(tmp_path) == b"1 got it\n"
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_process_of_a_container_is_not_taken_for_dead_from_outside(tmp_path: Path, mode: str) -> None:
    """Process 1 lives here, too, and says nothing about the one in the container."""
    with holding(ours_holding(tmp_path, mode, HOST, container=True)) as holder:
        container_of(holder, tmp_path)
        with pytest.raises(LockTimeout, match="; alive"), real_manager(HOST).exclusive(str(tmp_path), wait=0.5):
            pytest.fail("entered")
        kill_for_good(holder)
        with real_manager(HOST).exclusive(str(tmp_path), wait=0.5):
            pass
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_process_outside_is_not_taken_for_dead_in_a_container(tmp_path: Path, mode: str) -> None:
    """Its id is nobody's in the container: by borg's rules it would be dead."""
    with holding(ours_holding(tmp_path, mode, HOST)):
        assert tried_in_a_container(tmp_path) == b"1 True\n"
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_container_that_is_started_again_takes_over_what_its_predecessor_had(tmp_path: Path, mode: str) -> None:
    """The process id is reused: it is the same in each container."""
    with holding(ours_holding(tmp_path, mode, HOST, container=True)) as holder:
        container_of(holder, tmp_path)
        kill_for_good(holder)
        assert tried_in_a_container(tmp_path) == b"1 got it\n"
    assert lock_files(tmp_path) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_dead_owner_whose_id_is_somebody_elses_by_now_is_proved_dead(tmp_path: Path, mode: str) -> None:
    """In the new container process 1 lives, and has nothing to do with the lock; by borg's rules it would for ever."""
    bystander = "if os.fork():\n    os.wait()\n    os._exit(0)\n"
    with holding(ours_holding(tmp_path, mode, HOST, container=True)) as holder:
        container_of(holder, tmp_path)
        kill_for_good(holder)
        assert tried_in_a_container(tmp_path, bystander) == b"2 got it\n"
    assert lock_files(tmp_path) == []
