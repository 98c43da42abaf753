"""Which processes are left of those that were started, for the demo and for tests. Linux; standard library only."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SECONDS_TO_END = 5.0
_PAUSE = 0.02


def adopt_orphans() -> None:
    """Become the parent of every process below this one that loses its own from now on."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Return the child processes of this one, whichever thread has begun them, with those that nobody waited for."""
    listed = (_read(task / "children") for task in Path(f"/proc/{os.getpid()}/task").iterdir())
    return {int(child) for line in listed for child in line.split()}


def running(but: set[int]) -> set[int]:
    """Return the child processes not in `but` that have not ended even after SECONDS_TO_END."""
    deadline = time.monotonic() + SECONDS_TO_END
    while (left := {child for child in children() - but if not has_ended(child)}) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return left


def has_ended(child: int) -> bool:
    """Return whether a child process has ended, waited for or not."""
    state = _read(Path(f"/proc/{child}/stat")).rpartition(")")[2].split()
    return not state or state[0] in ("X", "Z")


def command_line(child: int) -> str:
    """Return the command line of a child process, "" if it has ended."""
    return _read(Path(f"/proc/{child}/cmdline")).replace("\0", " ").strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # of a thread or process that is gone by now
        return ""
