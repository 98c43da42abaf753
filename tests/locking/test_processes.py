"""Locks among real processes: they exclude each other, and the lock of one that was killed is found to be stale."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from borg_serve_lib.errors import LockTimeout
from borg_serve_lib.events.locks import StaleLockRemoved, StaleRosterEntryRemoved

from .support import (
    Recorder,
    borgs_files,
    dead_pid,
    ended,
    holding,
    kill_for_good,
    lock_files,
    ours_holding,
    real_manager,
    start_python,
)

HOST = "torture@1"


def test_another_process_keeps_us_out_until_it_lets_go(tmp_path: Path) -> None:
    locks = real_manager(HOST)
    with holding(ours_holding(tmp_path, "EXCLUSIVE", HOST)):
        with pytest.raises(LockTimeout), locks.shared(str(tmp_path), wait=0.3):
            pytest.fail("entered")
        with pytest.raises(LockTimeout), locks.exclusive(str(tmp_path), wait=0):
            pytest.fail("entered")
    with holding(ours_holding(tmp_path, "SHARED", HOST)):
        with locks.shared(str(tmp_path), wait=0):
            pass
        with pytest.raises(LockTimeout), locks.exclusive(str(tmp_path), wait=0.3):
            pytest.fail("entered")
    with locks.exclusive(str(tmp_path), wait=0):
        pass
    assert lock_files(tmp_path) == []


def test_the_lock_of_a_killed_writer_is_taken_over_at_once(tmp_path: Path) -> None:
    reporter = Recorder()
    with holding(ours_holding(tmp_path, "EXCLUSIVE", HOST)) as writer:
        kill_for_good(writer)
        assert borgs_files(tmp_path) == ["lock.exclusive", "lock.roster"]
        with real_manager(HOST, reporter).exclusive(str(tmp_path), wait=0):
            pass
    assert reporter.events == [
        StaleLockRemoved(f"{HOST}.{writer.pid}-0"),
        StaleRosterEntryRemoved("exclusive", HOST, writer.pid, 0),
    ]
    assert lock_files(tmp_path) == []


def test_a_killed_reader_stops_no_writer(tmp_path: Path) -> None:
    reporter = Recorder()
    with holding(ours_holding(tmp_path, "SHARED", HOST)) as reader:
        kill_for_good(reader)
        assert borgs_files(tmp_path) == ["lock.roster"]
        with real_manager(HOST, reporter).exclusive(str(tmp_path), wait=0):
            pass
    assert reporter.events == [StaleRosterEntryRemoved("shared", HOST, reader.pid, 0)]
    assert lock_files(tmp_path) == []


def test_the_dead_of_another_host_who_left_no_lease_are_not_judged(tmp_path: Path) -> None:
    with holding(ours_holding(tmp_path, "EXCLUSIVE", "elsewhere@2")) as writer:
        kill_for_good(writer)
        (tmp_path / f"lock.lease.elsewhere@2.{writer.pid}-0").unlink()
        with pytest.raises(LockTimeout), real_manager(HOST).exclusive(str(tmp_path), wait=0.3):
            pytest.fail("entered")
        assert os.listdir(tmp_path / "lock.exclusive") == [f"elsewhere@2.{writer.pid}-0"]


_TERMINATED = """
import signal
def stop(number, frame):
    raise SystemExit(3)
signal.signal(signal.SIGTERM, stop)
def sleep(seconds):
    print("locked", flush=True)  # by the others
    time.sleep(60)
with manager(sleep).exclusive(path, wait=None):
    pass
"""


def test_a_process_terminated_while_it_waits_leaves_nothing(tmp_path: Path) -> None:
    with real_manager(HOST).exclusive(str(tmp_path), wait=0):
        before = os.listdir(tmp_path / "lock.exclusive")
        with holding(start_python(_TERMINATED, tmp_path, HOST)) as waiting:
            waiting.send_signal(signal.SIGTERM)
            assert waiting.wait(timeout=20) == 3
        assert os.listdir(tmp_path / "lock.exclusive") == before
    assert lock_files(tmp_path) == []


_FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
from borg_serve_lib.errors import LockFailed
try:
    manager().lock_for(path).acquire(LockMode[sys.argv[3]], 0)
except LockFailed as error:
    print(error.path.rpartition("/")[2], error.reason, flush=True)
"""


@pytest.mark.parametrize("mode", ["SHARED", "EXCLUSIVE"])
def test_a_roster_the_kernel_does_not_let_grow_stays_as_it_was(tmp_path: Path, mode: str) -> None:
    content = b'{"exclusive": [["there@2", 5, 0], ["there@2", 6, 0]]}'
    (tmp_path / "lock.roster").write_bytes(content)
    with ended(start_python(_FULL_DISK, tmp_path, HOST, mode)) as process:
        output = process.communicate(timeout=20)[0]
    assert output.startswith(b"lock [Errno 27] File too large")
    assert (tmp_path / "lock.roster").read_bytes() == content
    assert lock_files(tmp_path) == ["lock.roster"]


_READ_ONLY = """
from borg_serve_lib.errors import LockFailed
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for mode in (LockMode.SHARED, LockMode.EXCLUSIVE):
    try:
        manager().lock_for(path).acquire(mode, 1)
    except LockFailed as error:
        print(error.path.rpartition("/")[2], error.reason, flush=True)
"""


def test_a_repository_we_may_not_write_to_cannot_be_locked(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with ended(start_python(_READ_ONLY, tmp_path, HOST)) as process:
            output = process.communicate(timeout=20)[0]
    finally:
        tmp_path.chmod(0o755)
    lines = output.splitlines()
    assert [line.startswith(b"lock.exclusive [Errno 13] Permission denied") for line in lines] == [True, True]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_owner_is_a_process_id_of_nobody_is_stale(tmp_path: Path) -> None:
    pid = dead_pid()
    (tmp_path / "lock.exclusive").mkdir()
    (tmp_path / "lock.exclusive" / f"{HOST}.{pid}-0").touch()
    reporter = Recorder()
    with real_manager(HOST, reporter).exclusive(str(tmp_path), wait=0):
        pass
    assert reporter.events == [StaleLockRemoved(f"{HOST}.{pid}-0")]
