"""What all tests share is tested itself, where a mistake in it would go unnoticed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import borg_serve_lib
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.identity import Identity
from borg_serve_lib.locking.manager import FileLockManager

from . import conftest


@pytest.mark.parametrize("place", ["/work/tree", "/v/lib/python3.11/site-packages"])
@pytest.mark.parametrize("wanted", ["", "yes"])
def test_the_source_tree_is_not_tested_where_the_installed_package_is_meant(
    place: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(borg_serve_lib, "__file__", f"{place}/borg_serve_lib/__init__.py")
    monkeypatch.setenv("BORG_SERVE_LIB_INSTALLED", wanted)
    if wanted and "site-packages" not in place:
        with pytest.raises(pytest.UsageError, match="but /work/tree/borg_serve_lib is imported"):
            conftest.pytest_configure()
    else:
        conftest.pytest_configure()
    assert conftest.pytest_report_header() == f"borg_serve_lib: {place}/borg_serve_lib"


@pytest.fixture
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest.load_script("left_processes"), "SECONDS_TO_END", 0.2)


@pytest.mark.usefixtures("_in_no_time")
def test_a_process_that_goes_on_is_told_and_ended() -> None:
    with pytest.raises(AssertionError, match="sleep 600"), conftest.no_process_left():
        process = subprocess.Popen(["sleep", "600"])
    assert not Path(f"/proc/{process.pid}").exists()
    process.wait()


@pytest.mark.usefixtures("_in_no_time")
def test_a_process_that_goes_on_is_told_also_where_its_parent_has_ended() -> None:
    with pytest.raises(AssertionError, match="sleep 601"), conftest.no_process_left():
        subprocess.run(["sh", "-c", "sleep 601 &"], check=True)


def test_a_process_that_goes_on_was_there_before_the_test_or_is_the_tests() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE), conftest.no_process_left():
        pass


def test_a_process_that_is_about_to_end_is_waited_for() -> None:
    with conftest.no_process_left():
        subprocess.run(["sh", "-c", "sleep 0.3 &"], check=True)


def fork() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child


def start() -> int:
    process = subprocess.Popen(["true"])
    process.returncode = 0  # or it would tell of itself that nobody has waited for it
    return process.pid


@pytest.mark.parametrize("begin", [fork, start])
def test_a_process_that_has_ended_has_to_be_waited_for(begin: Callable[[], int]) -> None:
    begun: list[int] = []

    def begin_and_forget() -> None:
        with conftest.no_process_left():
            begun.append(begin())
            os.waitid(os.P_PID, begun[0], os.WEXITED | os.WNOWAIT)

    with pytest.raises(AssertionError, match="nobody has waited for it"):
        begin_and_forget()
    assert not Path(f"/proc/{begun[0]}").exists()


def test_nobody_has_to_wait_for_a_process_of_somebody_else_who_has_ended() -> None:
    processes = conftest.load_script("left_processes")
    before = processes.children()
    with conftest.no_process_left():
        subprocess.run(["sh", "-c", "true &"], check=True)
        deadline = time.monotonic() + 20
        while not processes.children() - before:
            assert time.monotonic() < deadline
    assert processes.children() == before


def test_a_lock_that_is_left_is_told_and_its_lease_given_up(tmp_path: Path) -> None:
    lock = FileLockManager.of_this_machine(Identity("here@1", pid=lambda: 7)).lock_for(str(tmp_path))
    lock.acquire(LockMode.EXCLUSIVE, 0)
    for name in ("lock.waiting.here@1.7-0", "locked"):
        (tmp_path / name).touch()
    (tmp_path / ".cache" / "borg").mkdir(parents=True)
    (tmp_path / ".cache" / "borg" / "lock.roster").touch()
    left = ["lock.exclusive", "lock.lease.here@1.7-0", "lock.roster", "lock.waiting.here@1.7-0"]
    assert conftest.locks_below(tmp_path) == left
    assert conftest.give_up_leases() == [str(tmp_path)]
    assert conftest.give_up_leases() == []
    lock.break_lock()
    assert conftest.locks_below(tmp_path) == []


CARELESS = """
import os
import re

from borg_serve_lib.locking.manager import FileLockManager

locks = FileLockManager.of_this_machine()


def test_that_does_not_wait_for_its_process():
    if os.fork() == 0:
        os._exit(0)


def test_that_holds_a_lock(tmp_path):
    locks.exclusive(str(tmp_path), wait=0).__enter__()


def test_that_leaves_a_file_of_a_lock(tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "lock.roster").touch()


def test_that_leaves_nothing(tmp_path):
    with locks.exclusive(str(tmp_path), wait=0):
        pass
"""


def test_a_test_that_leaves_something_fails(tmp_path: Path) -> None:
    (tmp_path / "test_careless.py").write_text(CARELESS)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    words = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-q", "-c", tmp_path / "pytest.ini", tmp_path]
    root = Path(conftest.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=root, capture_output=True, text=True, check=False, timeout=120
    )
    assert "4 passed, 3 errors" in done.stdout
    careless = {"does_not_wait_for_its_process", "holds_a_lock", "leaves_a_file_of_a_lock"}
    assert set(re.findall(r"^ERROR .*::test_that_(\w+)", done.stdout, re.MULTILINE)) == careless
