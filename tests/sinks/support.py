"""Events to record, and processes that record them."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

from borg_serve_lib.events.session import CallRefused, RepositoryOpened, SessionClosed, SessionOpened
from borg_serve_lib.events.transactions import TransactionCommitted
from borg_serve_lib.reporting import Event, Peer

ALICE = Peer("0a1b", "backup", "192.0.2.7", "alice")
NOON = 1_795_600_800.25

OPENED = RepositoryOpened("/srv/alice", "exclusive")
COMMITTED = TransactionCommitted("/srv/alice", 7, 3, 1, 2, 900, 300, 12, 5000, 10_000_000)
CLOSED = SessionClosed("/srv/alice", "1.4.5", "completed", 1.5, 1000, 200, {"open": 1, "put": 4})
SESSION: tuple[Event, ...] = (SessionOpened(), OPENED, CallRefused("delete", "no"), COMMITTED, CLOSED)


def together(count: int, program: str) -> None:
    """Run a program in `count` processes at the same time."""
    running = [subprocess.Popen([sys.executable, "-c", dedent(program)]) for _ in range(count)]
    assert [process.wait(60) for process in running] == [0] * count
