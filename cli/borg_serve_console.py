"""What `borg-serve repo` shows a person: progress and findings on stderr, results on stdout."""

from __future__ import annotations

import sys
from typing import Any

from borg_serve_lib import Event, Reporter
from borg_serve_lib.events.maintenance import CheckFailed, CompactionFinished, Progress, ProgressFinished
from borg_serve_lib.reporting import Level


class Console(Reporter):
    """Shows progress and findings on stderr, and remembers the findings."""

    def __init__(self, *, quiet: bool) -> None:
        self.findings: list[str] = []
        self.freed = 0
        self._quiet = quiet
        self._bar: Any = None

    def report(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, ProgressFinished):
            self._close_bar()
        elif isinstance(event, CompactionFinished):
            self.freed = event.freed
        elif event.level >= Level.WARNING and not event.host_only:
            if isinstance(event, CheckFailed):
                self.findings.append(event.message())
            self._say(event.message())

    def _advance(self, step: Progress) -> None:
        if self._quiet or not sys.stderr.isatty():
            return
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:
                self._say(step.message())
                return
            self._bar = tqdm(total=step.total, unit="seg", leave=False, file=sys.stderr)
        self._bar.update(step.current - self._bar.n)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        print(printable(line), file=sys.stderr)


def print_lines(told: dict[str, object]) -> None:
    """Print names and values in two columns; of several values each in a line of its own."""
    width = max(map(len, told)) + 1
    for name, value in told.items():
        head = f"{name}:"
        for line in value if isinstance(value, (list, tuple)) else [value]:
            print(f"{head:<{width}} {printable(str(line))}")
            head = ""


def printable(text: str) -> str:
    """Return `text` without what could move a cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
