"""What `borg-serve repo` shows a person: progress and findings on stderr, results on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from borg_serve_lib import Event, Reporter
from borg_serve_lib.events.maintenance import (
    CheckFinishedWithErrors,
    CompactedSegmentMissing,
    DamagedSegmentKept,
    Progress,
    ProgressFinished,
    ReferenceCountWrong,
    TransactionsLost,
)
from borg_serve_lib.reporting import Level

FOR_A_PERSON = (DamagedSegmentKept, CompactedSegmentMissing, ReferenceCountWrong, TransactionsLost)
"""Warnings that nothing mends by itself."""
_ANOTHERS_AFFAIR = "borg.locking"
"""The topic of what is told of the locks of others: a dead one that was removed says nothing of the repository."""


class Console(Reporter):
    """Shows progress, findings and notes on stderr, and remembers the latter two.

    `findings`: what is wrong and stays so until somebody does something. `notes`: what was out of order and is mended
    by whoever opens the repository, such as an index that was made anew; a person may want to know why it happened.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.findings: list[str] = []
        self.notes: list[str] = []
        self._quiet = quiet
        self._bar: Any = None

    def report(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, ProgressFinished):
            self._close_bar()
        elif event.level >= Level.WARNING and not event.host_only:
            self._remember(event)
            self._say(event.message())

    def note(self, notes: Iterable[str]) -> None:
        """Show and remember what else was found to be out of order."""
        for note in notes:
            self.notes.append(note)
            self._say(note)

    def _remember(self, event: Event) -> None:
        if event.level >= Level.ERROR or isinstance(event, FOR_A_PERSON):
            if not isinstance(event, CheckFinishedWithErrors):  # it says only that there were some
                self.findings.append(event.message())
        elif event.topic != _ANOTHERS_AFFAIR:
            self.notes.append(event.message())

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
