"""What all tests share."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import borg_serve_lib

PR_SET_CHILD_SUBREAPER = 36
SECONDS_TO_END = 5.0
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def pytest_configure() -> None:
    """Refuse to test the source tree where the installed package is meant."""
    place = Path(borg_serve_lib.__file__).parent
    if os.environ.get("BORG_SERVE_LIB_INSTALLED") and "site-packages" not in place.parts:
        raise pytest.UsageError(f"the installed package is to be tested, but {place} is imported")


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


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Fail if any process started by a test, or by one of its processes, outlives the tests."""
    # Whoever loses its parent becomes a child of ours.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    deadline = time.monotonic() + SECONDS_TO_END
    while (left := processes_left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def processes_left() -> list[str]:
    """Return the command lines of our child processes that have not ended."""
    left = []
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words:  # that of a process that has ended is empty
            left.append(words)
    return left


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried by the tests that count what they try (docs/reliability.md)."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, count in report.user_properties:
            counts[name] += count
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"{name}: {count}")
