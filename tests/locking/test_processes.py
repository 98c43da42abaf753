"""Locks among real processes: they exclude each other, and the lock of one that was killed is found to be stale."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from borg_serve_lib.errors import LockTimeout
from borg_serve_lib.events.locks import StaleLockRemoved, StaleRosterEntryRemoved
from borg_serve_lib.locking.base import LockMode

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
        real_manager(HOST).lock_for(str(tmp_path)).break_lock()
        with real_manager(HOST).exclusive(str(tmp_path), wait=0):
            pass
    assert lock_files(tmp_path) == []


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
    real_manager(HOST).lock_for(str(tmp_path)).break_lock()
    assert lock_files(tmp_path) == []


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


# --- fork -----------------------------------------------------------------------------------------------------------


def in_a_child(action: Callable[[], object]) -> str:
    """Return what `action` does in a child made by fork: its result, or its exception; killed after 20 seconds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            os.write(writing, repr(action()).encode())
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(writing, repr(type(error)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as result:
        text = result.read()
    assert os.waitpid(child, 0)[1] == 0, "it hung"
    return text


@pytest.mark.parametrize("mode", [LockMode.SHARED, LockMode.EXCLUSIVE])
def test_a_child_gives_back_none_of_its_parents_locks_whatever_it_did_before(tmp_path: Path, mode: LockMode) -> None:
    locks = real_manager(HOST)
    lock = locks.lock_for(str(tmp_path))
    lock.acquire(mode, 0)

    def inherit() -> tuple[bool, str]:
        other = locks.lock_for(str(tmp_path))
        with contextlib.suppress(LockTimeout):
            other.acquire(LockMode.EXCLUSIVE, 0)
        held = lock.holds_exclusive()
        lock.release()
        return held, lock.mode.value

    assert in_a_child(inherit) == "(False, 'none')"
    assert lock.holds_exclusive() is (mode is LockMode.EXCLUSIVE)
    with pytest.raises(LockTimeout):
        real_manager("elsewhere@2").lock_for(str(tmp_path)).acquire(LockMode.EXCLUSIVE, 0)
    lock.release()
    assert lock_files(tmp_path) == []


def test_what_a_child_has_read_it_signs_off_again(tmp_path: Path) -> None:
    locks = real_manager(HOST)

    def read() -> list[str]:
        with locks.shared(str(tmp_path), wait=0):
            pass
        return [name for name in lock_files(tmp_path) if str(os.getpid()) in name]

    with locks.shared(str(tmp_path), wait=0):
        assert in_a_child(read) == "[]"
        (holder,) = locks.lock_for(str(tmp_path)).owners()
        assert holder.holder.pid == os.getpid()
    assert lock_files(tmp_path) == []


def test_a_child_can_write_once_its_parent_reads_no_more(tmp_path: Path) -> None:
    locks = real_manager(HOST)
    lock = locks.lock_for(str(tmp_path))
    lock.acquire(LockMode.SHARED, 0)
    reading, writing = os.pipe()

    def write() -> str:
        os.read(reading, 1)
        with locks.exclusive(str(tmp_path), wait=0):
            return "written"

    child = threading.Timer(0.5, lambda: (lock.release(), os.write(writing, b"x")))
    child.start()
    assert in_a_child(write) == "'written'"
    child.join()
    assert lock_files(tmp_path) == []


def test_a_child_does_not_wait_for_a_thread_that_it_has_not(tmp_path: Path) -> None:
    locks = real_manager(HOST)
    with locks.exclusive(str(tmp_path), wait=0):
        pass
    guard = locks._leases[str(tmp_path)]._guard
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with guard:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()

    def write() -> str:
        with locks.exclusive(str(tmp_path), wait=0):
            return "written"

    assert in_a_child(write) == "'written'"
    done.set()
    holder.join()
