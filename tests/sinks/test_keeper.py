"""The process that keeps the records of a confined server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from borg_serve_lib.sinks.base import Sink
from borg_serve_lib.sinks.keeper import Relay, keep
from borg_serve_lib.sinks.record import Record

from .support import ALICE, COMMITTED, OPENED, SESSION

SERVER = """
import os, sys, time
from borg_serve_lib import UsageError
from borg_serve_lib.reporting import Peer
from borg_serve_lib.sinks.auditlog import AuditLog
from borg_serve_lib.sinks.hook import Hook
from borg_serve_lib.events.session import RepositoryOpened, SessionClosed, SessionOpened
from borg_serve_lib.sinks.keeper import start_keeper

path, what = sys.argv[1:]
def sinks():
    if what == "hangs with a hook":
        signals = f"grep SigIgn /proc/self/status > '{path}.signals'"
        return [AuditLog(path), Hook(f"sleep 0.5; {signals}; cat >> '{path}.hook'")]
    return [AuditLog(path)]
try:
    relay = start_keeper(sinks).for_peer(Peer("0a1b"))
except UsageError as error:
    sys.exit(str(error))
relay.report(SessionOpened())
relay.report(RepositoryOpened("/srv/alice", "none"))
print("serving", flush=True)
if what.startswith("hangs"):
    time.sleep(60)
relay.report(SessionClosed("/srv/alice", "", "completed", 1.0, 1, 2, {}))
"""


def start(path: Path, what: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", dedent(SERVER), str(path), what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def lines(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the lines of an audit log, once there are as many as that."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and len(text := path.read_text().splitlines()) >= count:
            return [json.loads(line) for line in text]
        time.sleep(0.02)
    raise AssertionError(f"no {count} lines: {path.read_text()}")


def test_the_records_of_a_server_are_kept_and_its_end_is_seen_at_once(tmp_path: Path) -> None:
    server = start(tmp_path / "audit.log", "ends")
    told, complaints = server.communicate(timeout=20)  # which end when nobody has them open any more
    assert (told, complaints, server.returncode) == (b"serving\n", b"", 0)
    assert [line["event"] for line in lines(tmp_path / "audit.log", 3)] == [
        "session-opened",
        "repository-opened",
        "session-closed",
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_killed_session_is_recorded_as_such(number: signal.Signals, tmp_path: Path) -> None:
    server = start(tmp_path / "audit.log", "hangs with a hook")
    assert server.stdout is not None
    assert server.stdout.readline() == b"serving\n"
    os.killpg(server.pid, number)  # as sshd and a terminal do, to all that are of the session
    server.communicate(timeout=20)
    closed = lines(tmp_path / "audit.log", 3)[-1]
    assert (closed["event"], closed["outcome"], closed["repository"]) == ("session-closed", "killed", "/srv/alice")
    assert len(lines(tmp_path / "audit.log.hook", 3)) == 3
    ignored = int((tmp_path / "audit.log.signals").read_text().split()[1], 16)  # by what the hook starts
    assert not any(ignored >> each - 1 & 1 for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE))


def test_what_cannot_be_kept_is_told_before_anybody_is_served(tmp_path: Path) -> None:
    server = start(tmp_path / "missing" / "audit.log", "ends")
    told, complaints = server.communicate(timeout=20)
    assert (told, server.returncode) == (b"", 1)
    assert b"missing/audit.log' cannot be written: No such file or directory" in complaints


class Kept(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.closed = False

    def write(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class Broken(Sink):
    def write(self, record: Record) -> None:
        raise RuntimeError("no")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield pair
    for end in pair:
        end.close()


def test_a_sink_that_breaks_does_not_keep_records_from_the_others(ends: tuple[socket.socket, socket.socket]) -> None:
    kept = Kept()
    relay = Relay(ends[0])
    for event in SESSION:
        relay.for_peer(ALICE).report(event)
    relay.close()
    keep(ends[1], [Broken(), kept])
    assert [record["event"] for record in kept.records][-1] == "session-closed"
    assert len(kept.records) == len(SESSION)
    assert kept.closed


def test_a_keeper_that_is_too_slow_costs_records_and_no_time(ends: tuple[socket.socket, socket.socket]) -> None:
    relay = Relay(ends[0])
    for _ in range(20_000):
        relay.report(COMMITTED)
    taken = 0
    ends[1].setblocking(False)
    try:
        while json.loads(ends[1].recv(1 << 18))["event"] == "transaction-committed":
            taken += 1
    except BlockingIOError:
        pass
    assert 0 < taken < 20_000
    relay.report(OPENED)
    told = [json.loads(ends[1].recv(1 << 18)) for _ in range(2)]
    assert (told[0]["event"], told[0]["count"]) == ("records-dropped", 20_000 - taken)
    assert told[1]["event"] == "repository-opened"


def test_a_keeper_that_is_gone_hurts_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].close()
    Relay(ends[0]).report(COMMITTED)
