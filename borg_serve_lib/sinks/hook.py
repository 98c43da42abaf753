"""A command that is run for each event."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from contextlib import suppress

from .base import Sink
from .hostlog import tell_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from .record import Record

_MOST_WAITING: Final = 100
TIME_LIMIT: Final = 30.0
"""Seconds that a command may take; what it has started is killed with it then."""


class Hook(Sink):
    """Runs a shell command for each record, which it gets as one line of JSON on its standard input.

    One after the other, in a thread of its own, at most TIME_LIMIT seconds each: nobody waits for a command, and that
    it fails is told to nobody but syslog. When a hundred records wait, further ones are dropped.
    """

    def __init__(
        self,
        command: str,
        *,
        time_limit: float = TIME_LIMIT,
        complain: Callable[[str], None] = tell_host,
        **clock: Callable[[], float],
    ) -> None:
        """`command`: for /bin/sh. `time_limit`: seconds. `complain`: is told of commands that fail or take too long."""
        super().__init__(**clock)
        self._command = command
        self._time_limit = time_limit
        self._complain = complain
        self._waiting: queue.Queue[Record | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # for the two around it
        self._left_out = 0
        self._end = float("inf")  # seconds of the monotonic clock: nothing runs any more from then on

    def write(self, record: Record) -> None:
        with self._lock:
            try:
                self._waiting.put_nowait(record)
            except queue.Full:
                self._left_out += 1
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="borg-serve hook", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait until all commands have run, for the time that one may take at most; then none runs any more."""
        if self._thread is None:
            return
        self._end = time.monotonic() + self._time_limit
        with suppress(queue.Full):
            self._waiting.put(None, timeout=self._time_limit)
        self._thread.join(self._time_limit + 1)
        with suppress(queue.Empty):
            while True:
                self._left_out += self._waiting.get_nowait() is not None
        self._tell_what_was_left_out()

    def _run(self) -> None:
        while (record := self._waiting.get()) is not None:
            if time.monotonic() >= self._end:
                with self._lock:
                    self._left_out += 1
                return
            try:
                self._run_once(json.dumps(record).encode() + b"\n")
            except Exception as error:  # noqa: BLE001 - nothing of this is the backup's business
                self._complain(f"the command {self._command!r} could not be run: {error}")
            if self._waiting.empty():
                self._tell_what_was_left_out()

    def _tell_what_was_left_out(self) -> None:
        with self._lock:
            count, self._left_out = self._left_out, 0
        if count:
            self._complain(f"the command {self._command!r} was not run for {count} event(s): it takes too long")

    def _run_once(self, line: bytes) -> None:
        process = subprocess.Popen(  # noqa: S602 - the host's own words, for the shell
            self._command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        limit = min(self._time_limit, self._end - time.monotonic())
        try:
            process.communicate(line, limit)
        except subprocess.TimeoutExpired:
            self._complain(f"the command {self._command!r} took longer than {round(limit, 1):g} seconds: killed")
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(OSError):  # what it did not read any more
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            process.wait()
        if process.returncode > 0:
            self._complain(f"the command {self._command!r} failed with status {process.returncode}")
