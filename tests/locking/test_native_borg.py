"""Native borg and we, side by side on one repository: each respects the other's locks and knows its dead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from borg_serve_lib.errors import LockTimeout, NotLocked
from borg_serve_lib.events.locks import StaleLockRemoved, StaleRosterEntryRemoved
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.identity import Identity

from .support import Recorder, ended, holding, kill_for_good, lock_files, ours_holding, real_manager

pytestmark = pytest.mark.borg

HOLD = [sys.executable, "-c", "import sys; print('locked', flush=True); sys.stdin.read()"]


class NativeBorg:
    """The `borg` program with a home and a repository of its own."""

    def __init__(self, program: str, base: Path, host_id: str) -> None:
        self.program = program
        self.host_id = host_id
        self.repository = base / "repo"
        self._environment = {
            "PATH": os.environ["PATH"],
            "BORG_BASE_DIR": str(base),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        if host_id:
            self._environment["BORG_HOST_ID"] = host_id

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.program, *arguments],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run borg to its end; return exit status and standard error."""
        with ended(self.start(*arguments)) as process:
            errors = process.communicate(timeout=60)[1]
            return process.returncode, errors.decode()

    @contextmanager
    def writing(self) -> Iterator[subprocess.Popen[bytes]]:
        """A context in which borg holds the exclusive lock."""
        with holding(self.start("with-lock", str(self.repository), *HOLD)) as process:
            yield process

    @contextmanager
    def reading(self) -> Iterator[subprocess.Popen[bytes]]:
        """A context in which borg holds a shared lock: it extracts more than a pipe takes to one nobody reads."""
        with ended(self.start("extract", "--stdout", f"{self.repository}::archive")) as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x"
            yield process
            process.communicate(timeout=20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a repository in it, `repo`, that has an archive, `archive`."""
    program = shutil.which("borg")
    assert program, "these tests need the borg program, 1.2.4 or later"
    borg = NativeBorg(program, tmp_path_factory.mktemp("native"), "")
    assert borg.run("init", "-e", "none", str(borg.repository))[0] == 0
    with ended(borg.start("create", "--compression", "none", f"{borg.repository}::archive", "-")) as process:
        process.communicate(b"x" * 3_000_000, timeout=60)
    assert process.returncode == 0
    return borg.repository.parent


@pytest.fixture(params=["", "backup-host"], ids=["computed host id", "BORG_HOST_ID"])
def either(request: pytest.FixtureRequest, base: Path) -> Iterator[NativeBorg]:
    """Native borg, with the host id it computes and with one that is set."""
    borg = NativeBorg("borg", base, request.param)
    assert lock_files(borg.repository) == []
    yield borg
    assert lock_files(borg.repository) == []


@pytest.fixture
def borg(base: Path) -> Iterator[NativeBorg]:
    """Native borg, where the host id does not matter."""
    borg = NativeBorg("borg", base, "")
    assert lock_files(borg.repository) == []
    yield borg
    assert lock_files(borg.repository) == []


def test_we_name_ourselves_as_native_borg_does(either: NativeBorg) -> None:
    with either.writing() as writer:
        identity = Identity(either.host_id, pid=lambda: writer.pid)
        assert os.listdir(either.repository / "lock.exclusive") == [identity.holder().lock_name]


def test_we_write_what_native_borg_writes(borg: NativeBorg) -> None:
    with borg.writing() as writer:
        theirs = (borg.repository / "lock.roster").read_bytes()
    with real_manager(borg.host_id).exclusive(str(borg.repository), wait=0):
        ours = (borg.repository / "lock.roster").read_bytes()
    assert ours == theirs.replace(b" %d, 0]" % writer.pid, b" %d, 0]" % os.getpid())
    with borg.reading() as reader:
        theirs = (borg.repository / "lock.roster").read_bytes()
    with real_manager(borg.host_id).shared(str(borg.repository), wait=0):
        ours = (borg.repository / "lock.roster").read_bytes()
    assert ours == theirs.replace(b" %d, 0]" % reader.pid, b" %d, 0]" % os.getpid())


def test_a_native_writer_keeps_us_out(borg: NativeBorg) -> None:
    path = str(borg.repository)
    with borg.writing():
        for mode in (LockMode.SHARED, LockMode.EXCLUSIVE):
            with pytest.raises(LockTimeout) as caught:
                real_manager(borg.host_id).lock_for(path).acquire(mode, 0.3)
            assert caught.value.path == f"{path}/lock.exclusive"


def test_a_native_reader_lets_us_read_but_not_write(borg: NativeBorg) -> None:
    path = str(borg.repository)
    with borg.reading():
        with real_manager(borg.host_id).shared(path, wait=0) as lock, pytest.raises(LockTimeout) as caught:
            lock.upgrade(0.3)
        assert caught.value.path == f"{path}/lock"
    with real_manager(borg.host_id).exclusive(path, wait=0):
        pass


def test_we_take_over_when_a_native_writer_is_done(borg: NativeBorg) -> None:
    with borg.writing() as writer, ended(ours_holding(borg.repository, "EXCLUSIVE", borg.host_id)) as ours:
        assert writer.stdin is not None
        writer.stdin.close()
        assert ours.stdout is not None
        assert ours.stdout.readline() == b"locked\n"


def test_our_writer_keeps_native_borg_out(borg: NativeBorg) -> None:
    path = str(borg.repository)
    with real_manager(borg.host_id).exclusive(path, wait=0) as lock:
        for command in (("list", "--lock-wait", "1", path), ("with-lock", "--lock-wait", "0", path, "true")):
            status, errors = borg.run(*command)
            assert (status, errors) == (2, f"Failed to create/acquire the lock {path}/lock.exclusive (timeout).\n")
        assert lock.holds_exclusive()


def test_our_reader_lets_native_borg_read_but_not_write(borg: NativeBorg) -> None:
    path = str(borg.repository)
    with real_manager(borg.host_id).shared(path, wait=0):
        assert borg.run("list", "--lock-wait", "0", path) == (0, "")
        status, errors = borg.run("with-lock", "--lock-wait", "0", path, "true")
        assert (status, errors) == (2, f"Failed to create/acquire the lock {path}/lock (timeout).\n")
    assert borg.run("with-lock", "--lock-wait", "0", path, "true") == (0, "")


def test_the_lock_of_a_killed_native_writer_is_removed_by_us(either: NativeBorg) -> None:
    reporter = Recorder()
    locks = real_manager(either.host_id, reporter)
    with either.writing() as writer:
        kill_for_good(writer)
        assert lock_files(either.repository) == ["lock.exclusive", "lock.roster"]
        with locks.exclusive(str(either.repository), wait=0):
            pass
    holder = Identity(either.host_id, pid=lambda: writer.pid).holder()
    assert reporter.events == [
        StaleLockRemoved(holder.lock_name),
        StaleRosterEntryRemoved("exclusive", holder.host, holder.pid, 0),
    ]


def test_the_entry_of_a_killed_native_reader_is_removed_by_us(either: NativeBorg) -> None:
    reporter = Recorder()
    locks = real_manager(either.host_id, reporter)
    with either.reading() as reader:
        kill_for_good(reader)
        assert lock_files(either.repository) == ["lock.roster"]
        with locks.exclusive(str(either.repository), wait=0):
            pass
    holder = Identity(either.host_id, pid=lambda: reader.pid).holder()
    assert reporter.events == [StaleRosterEntryRemoved("shared", holder.host, holder.pid, 0)]


@pytest.mark.parametrize("mode", ["SHARED", "EXCLUSIVE"])
def test_the_lock_of_a_killed_process_of_ours_is_removed_by_native_borg(either: NativeBorg, mode: str) -> None:
    with holding(ours_holding(either.repository, mode, either.host_id)) as ours:
        kill_for_good(ours)
        assert lock_files(either.repository) != []
        status, errors = either.run("with-lock", "--lock-wait", "1", str(either.repository), "true")
    holder = Identity(either.host_id, pid=lambda: ours.pid).holder()
    told = f"Removed stale {mode.lower()} roster lock for host {holder.host} pid {ours.pid} thread 0."
    assert status == 0
    assert told in errors.splitlines()
    assert (f"Killed stale lock {holder.lock_name}." in errors.splitlines()) is (mode == "EXCLUSIVE")
    assert lock_files(either.repository) == [f"lock.lease.{holder.lock_name}"]
    with real_manager(either.host_id).shared(str(either.repository), wait=0):
        pass  # and the lease by the next process of ours


def test_native_break_lock_takes_our_lock_away_and_we_notice(borg: NativeBorg) -> None:
    path = str(borg.repository)
    lock = real_manager(borg.host_id).lock_for(path)
    lock.acquire(LockMode.EXCLUSIVE, 0)
    assert borg.run("break-lock", path) == (0, "")
    assert not lock.holds_exclusive()
    with pytest.raises(NotLocked):
        lock.release()
    with real_manager(borg.host_id).shared(path, wait=0):
        assert borg.run("break-lock", path) == (0, "")


def test_we_break_the_lock_of_a_native_writer(borg: NativeBorg) -> None:
    locks = real_manager(borg.host_id)
    with borg.writing() as writer:
        locks.lock_for(str(borg.repository)).break_lock()
        with locks.exclusive(str(borg.repository), wait=0) as lock:
            assert writer.stdin is not None
            writer.stdin.close()
            assert writer.wait(timeout=20) == 2
            assert lock.holds_exclusive()
