"""The demo ends well where all is as it should be, and not where the server leaves something behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

DEMO = Path(__file__).parent.parent / "demo" / "demo.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the demo adds its own
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.borg
def test_the_demo_shows_that_all_is_as_it_should_be() -> None:
    done = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "ok: no process is left behind\n    ok: no lock and no lease file is left behind\n" in done.stdout
    assert done.stdout.endswith("\nAll as it should be.\n")


@pytest.mark.parametrize("name", ["lock.exclusive", "lock.roster", "lock.lease.here@1.7-0", "lock.waiting.here@1.7-0"])
def test_a_lock_that_is_left_behind_is_not_as_it_should_be(demo: ModuleType, tmp_path: Path, name: str) -> None:
    shown = demo.Demo(tmp_path)
    shown.expect_nothing_left()
    shown.repository.mkdir()
    left = shown.repository / name
    left.touch()
    with pytest.raises(demo.Unexpected, match=f"no lock and no lease file is left behind, but {name}"):
        shown.expect_nothing_left()
    left.unlink()


def test_a_process_that_is_left_behind_is_not_as_it_should_be_also_where_its_parent_has_ended(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["left_processes"], "SECONDS_TO_END", 0.2)
    shown = demo.Demo(tmp_path)
    orphan = subprocess.run(["sh", "-c", "sleep 602 >&2 & echo $!"], stdout=subprocess.PIPE, check=True).stdout
    with pytest.raises(demo.Unexpected, match="no process is left behind, but sleep 602"):
        shown.expect_nothing_left()
    os.kill(int(orphan), signal.SIGKILL)
    shown.expect_nothing_left()
