"""A server process for the tests of signals: `python -m tests.transports.slow_server JOURNAL MODE`.

Serves standard input and output with a repository whose methods last as MODE says. What happened to the repository goes
to the file descriptor JOURNAL, a line each; the log of the client to standard error.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from typing import Any

from borg_serve_lib.events.session import SessionClosed, SessionInterrupted
from borg_serve_lib.reporting import Event, FanOut, Reporter
from borg_serve_lib.rpc.connection import Connection
from borg_serve_lib.transports.linewriter import LineWriter
from borg_serve_lib.transports.stdio import serve_stdio
from borg_serve_lib.wire.loglines import ClientLog

from ..rpc.support import FakeRepository, Host

FOREVER = 3600.0


def note(line: str) -> None:
    os.write(int(sys.argv[1]), f"{line}\n".encode())


def linger_in_a_callback() -> None:
    """Be where the interpreter prints what is raised, and goes on."""
    watched = set[int]()
    watching = weakref.ref(watched, lambda _: time.sleep(FOREVER))
    del watched
    assert watching() is None


class SlowRepository(FakeRepository):
    """Notes the beginning and the end of what a signal may interrupt."""

    mode = ""

    def check(self, repair: bool = False, max_duration: float = 0) -> bool:
        note("check begins")
        if self.mode == "swallow":
            try:
                time.sleep(FOREVER)
            except BaseException:  # noqa: BLE001 - as careless code does it
                return False
        if self.mode == "callback":
            linger_in_a_callback()
        time.sleep({"slow check": 2.5, "tenth": 0.1}.get(self.mode, FOREVER))
        return True

    def close(self) -> None:
        note("close begins")
        if self.mode == "slow close":
            begun = time.monotonic()
            while time.monotonic() - begun < 0.3:  # a signal would end a single sleep no earlier, an exception would
                time.sleep(0.01)
        super().close()
        note("closed")


class SlowHost(Host):
    def _open(self, path: str, request: Any) -> FakeRepository:
        self.repositories.append(SlowRepository(path))
        return self.repositories[-1]


class Told(Reporter):
    """Notes what the host is told of the end."""

    def report(self, event: Event) -> None:
        if isinstance(event, (SessionInterrupted, SessionClosed)):
            note(f"host told: {event.message().partition(' after')[0]}")


def main(mode: str) -> int:
    SlowRepository.mode = mode
    log = ClientLog(LineWriter(2), now=lambda: 0.0)
    host = Told() if mode == "told" else Reporter()
    services = SlowHost().services.evolve(reporter=FanOut([log, host]), client_log=log, host_reporter=host)
    status = serve_stdio(Connection(services), stdin=0, stdout=1)
    note(f"status {status}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
