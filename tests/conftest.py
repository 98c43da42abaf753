"""What all tests share."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import borg_serve_lib

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def pytest_report_header() -> str:
    """Say which package is tested, and refuse to test the source tree where the installed one is meant."""
    place = Path(borg_serve_lib.__file__).parent
    if os.environ.get("BORG_SERVE_LIB_INSTALLED") and "site-packages" not in place.parts:
        raise RuntimeError(f"the installed package is to be tested, but {place} is imported")
    return f"borg_serve_lib: {place}"


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was tried by the tests that count what they try (docs/reliability.md)."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, count in report.user_properties:
            counts[name] += count
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"{name}: {count}")
