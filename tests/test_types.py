"""What a type checker makes of the library, for those who build on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RIGHT = """
from borg_serve_lib import Event, MemoryLockManager, MemoryProvider, OpenRequest, Reporter, Repository, open_repository


class Counter(Reporter):
    def __init__(self) -> None:
        self.count = 0

    def report(self, event: Event) -> None:
        self.count += 1


def opened(counter: Counter) -> Repository:
    request = OpenRequest(create=True, exclusive=True)
    return open_repository(
        "/laptop", request, storages=MemoryProvider(), locks=MemoryLockManager(), reporter=counter
    )


reveal_type(opened)
"""
WRONG = """
import borg_serve_lib
from borg_serve_lib import Reposittory

borg_serve_lib.open_repositry("/laptop")
"""


def test_a_correct_program_passes_and_a_misspelt_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    words = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    told = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.partition(":")[0] for line in told] == ["wrong.py", "wrong.py"], done.stdout
    assert '"Reposittory"' in told[0]
    assert '"open_repositry"' in told[1]
    assert "def (counter: right.Counter) -> borg_serve_lib.engine.repository.Repository" in done.stdout
