"""What a server needs beyond its start does not grow with the repository (benchmarks/memory.py: at 2 GB, too)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from benchmarks.memory import measure

SIZE = 192 << 20
MOST = 64 << 20


def test_check_repair_replay_and_compaction_take_little_more_memory_than_nothing(tmp_path: Path) -> None:
    peaks = measure(f"{shlex.quote(sys.executable)} -m borg_serve_lib", SIZE, 1_500_000, tmp_path)
    assert set(peaks) == {"idle", "check", "replay", "repair", "compact half"}
    assert {name: peak for name, peak in peaks.items() if peak > peaks["idle"] + MOST} == {}
