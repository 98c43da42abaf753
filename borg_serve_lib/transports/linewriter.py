"""Log lines to a descriptor that nobody may be reading."""

from __future__ import annotations

import os

_PATIENCE = 10.0
"""Seconds to wait for somebody who reads the log; after that lines are dropped until somebody does."""

_ALWAYS_FITS = 4096
"""Bytes that a pipe which can be written to takes at once (PIPE_BUF of Linux)."""


def takes_a_line(descriptor: int, patience: float = 0.0) -> bool:
    """Return whether a line can be written, after at most `patience` seconds of waiting for somebody to read."""
    from select import POLLOUT, poll

    looking = poll()
    looking.register(descriptor, POLLOUT)
    return looking.poll(int(patience * 1000)) == [(descriptor, POLLOUT)]


class LineWriter:
    """Writes log lines. A reader that is gone is nobody to tell; one that reads nothing cannot hold the server up."""

    def __init__(self, descriptor: int, *, patience: float = _PATIENCE) -> None:
        """`patience`: seconds to wait for the reader; once they were in vain, lines are dropped until it reads."""
        self._descriptor = descriptor
        self._patience = patience
        self._dropping = False
        self._torn = False

    def hurry(self) -> None:
        """From now on wait for nobody: lines that cannot be written at once are dropped."""
        self._patience = 0.0

    def __call__(self, line: bytes) -> None:
        """Write a whole line, or drop what of it nobody reads."""
        rest = memoryview(b"\n" + line if self._torn else line)
        while rest:
            if not takes_a_line(self._descriptor, 0 if self._dropping else self._patience):
                self._dropping = True
                return
            try:
                rest = rest[os.write(self._descriptor, rest[:_ALWAYS_FITS]) :]
            except BlockingIOError:
                continue
            except OSError:
                return
            self._dropping, self._torn = False, bool(rest)
