"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest

import borg_serve_lib
from borg_serve_lib.locking.lease import _KEPT

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
CLOCK_STEP = 0.1
"""Seconds by which the times of files may lag behind the clock."""
MEMORY = Path("/dev/shm")
LOCK_FILE = re.compile(r"lock\.(exclusive|roster|lease|waiting)\b")


def pytest_configure() -> None:
    """Refuse to test the source tree where the installed package is meant."""
    place = Path(borg_serve_lib.__file__).parent
    if os.environ.get("BORG_SERVE_LIB_INSTALLED") and "site-packages" not in place.parts:
        raise pytest.UsageError(f"the installed package is to be tested, but {place} is imported")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has all ignore it that are started from here


def pytest_report_header() -> str:
    """Say which package is tested, to whoever wants more lines than `-q` prints."""
    return f"borg_serve_lib: {Path(borg_serve_lib.__file__).parent}"


def load_script(name: str) -> ModuleType:
    """Import one of the project's scripts, which are no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def clients() -> dict[str, Path]:
    """The path of each real client, by version; what is not there is built, and what cannot be had is a failure."""
    return load_script("borg_clients").ensure_clients()


_BEGUN: set[int] = set()
"""The processes that were begun by this one, so that it has to wait for them."""


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail if a process that fixtures of several tests have begun outlives them."""
    load_script("left_processes").adopt_orphans()
    with pytest.MonkeyPatch.context() as monkeypatch, no_process_left():
        note_what_is_begun(monkeypatch)
        yield


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail if the test leaves a process, a lock, a lease or the mark of a waiting writer."""
    directory: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    begun = time.time() - CLOCK_STEP
    with no_process_left():
        yield
        kept = give_up_leases()
    assert kept == []
    if directory is not None:
        assert locks_below(directory, begun) == []


def note_what_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill `_BEGUN` from now on."""
    fork, begin = os.fork, subprocess.Popen.__init__

    def noted_fork() -> int:
        child = fork()
        _BEGUN.add(child)
        return child

    def noted_begin(process: subprocess.Popen[bytes], *arguments: Any, **named: Any) -> None:
        begin(process, *arguments, **named)
        _BEGUN.add(process.pid)

    monkeypatch.setattr(os, "fork", noted_fork)
    monkeypatch.setattr(subprocess.Popen, "__init__", noted_begin)


@contextmanager
def no_process_left() -> Iterator[None]:
    """A context after which no process that began in it goes on, and none is left that nobody has waited for.

    Raises AssertionError otherwise; what is left is ended even so. One that has lost its parent may have ended: it is
    nobody's to wait for.
    """
    processes = load_script("left_processes")
    before = processes.children()
    _BEGUN.intersection_update(before)
    yield
    told = [processes.command_line(child) for child in processes.running(but=before)]
    left = processes.children() - before
    unwaited = [child for child in left & _BEGUN if processes.has_ended(child)]
    told += [f"{child} has ended, and nobody has waited for it" for child in unwaited]
    for child in left:
        with suppress(ProcessLookupError, ChildProcessError):  # a thread may have waited for it by now
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert told == []


def give_up_leases() -> list[str]:
    """Let go of all leases that this process keeps; return those of which repositories they were."""
    kept = [lease for lease in _KEPT if lease._file]
    for lease in kept:
        lease._forget()
    _KEPT.clear()
    return [lease.files.repository for lease in kept]


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder for many small files that no disk need keep; on a disk where the system has no such place.

    Nothing of a lock may be left in it.
    """
    with TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)
        assert locks_below(Path(folder)) == []


def locks_below(directory: Path, since: float = 0) -> list[str]:
    """Return all that concerns locks below `directory` and was changed `since`, as relative paths.

    What is older came with a repository that was made long ago. Not those of a real client's cache, which it leaves
    when it is killed.
    """
    paths = [path for path in directory.rglob("lock*") if LOCK_FILE.match(path.name) and path.lstat().st_mtime >= since]
    found = (path.relative_to(directory) for path in paths)
    return sorted(str(path) for path in found if ".cache" not in path.parts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried by the tests that count what they try (docs/reliability.md)."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, count in report.user_properties:
            counts[name] += count
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"{name}: {count}")
