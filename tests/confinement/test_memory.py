"""In processes of their own: a limit that the kernel keeps cannot be taken back for the tests that follow."""

from __future__ import annotations

import subprocess
import sys

import pytest

INFINITE = -1

SET_UP = """
import resource
from borg_serve_lib.confinement.memory import limit_memory
resource.setrlimit(resource.RLIMIT_DATA, {before})
limit_memory({most})
"""


def outcome(most: int, script: str, before: tuple[int, int] = (INFINITE, INFINITE)) -> str:
    script = SET_UP.format(before=before, most=most) + script
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_what_takes_more_raises_memory_error_and_the_process_goes_on() -> None:
    script = """
try:
    bytearray(100_000_000)
except MemoryError:
    print("refused", len(bytearray(10_000_000)))
"""
    assert outcome(50_000_000, script) == "refused 10000000\n"
    assert outcome(150_000_000, script) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((INFINITE, INFINITE), (50_000_000, INFINITE)),
        ((60_000_000, 70_000_000), (50_000_000, 70_000_000)),
        ((40_000_000, 70_000_000), (40_000_000, 70_000_000)),
        ((40_000_000, INFINITE), (40_000_000, INFINITE)),
        ((40_000_000, 40_000_000), (40_000_000, 40_000_000)),
    ],
)
def test_a_lower_limit_stays_and_the_hard_one_is_left_alone(before: tuple[int, int], after: tuple[int, int]) -> None:
    assert outcome(50_000_000, "print(resource.getrlimit(resource.RLIMIT_DATA))", before) == f"{after}\n"
