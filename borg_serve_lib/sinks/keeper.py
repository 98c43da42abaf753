"""The keeper of records: a process of its own beside the server, which keeps the sinks.

A server gives up the rest of the file system, and the right to start programs, before it reads a byte of its client;
what it has to tell goes through a socket to a process that has neither given up anything nor ever sees a client. That
never waits: what the keeper is too slow for is dropped and counted. The keeper ends when the server has, however that
was, and notes a session that was not closed as killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time

from ..errors import UsageError
from .base import Sink
from .hostlog import tell_host
from .record import dropped_record, time_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    from .record import Record

_READY: Final = b"ready"
_LONGEST_RECORD: Final = 1 << 18
_PATIENCE: Final = 20.0
"""Seconds in which a keeper has to be ready."""


class Relay(Sink):
    """Sends records to a keeper, and waits for nobody."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        connection.setblocking(False)
        self._connection = connection
        self._dropped = 0

    def write(self, record: Record) -> None:
        if self._dropped and self._send(dropped_record(record, self._dropped)):
            self._dropped = 0
        if not self._send(record):
            self._dropped += 1

    def _send(self, record: Record) -> bool:
        try:
            self._connection.send(json.dumps(record).encode(), socket.MSG_NOSIGNAL)
        except OSError:  # full, too long, or there is no keeper any more
            return False
        return True

    def close(self) -> None:
        self._connection.close()


def start_keeper(make_sinks: Callable[[], Sequence[Sink]]) -> Relay:
    """Start a keeper with the sinks that `make_sinks` returns, in a process forked off; return what sends to it.

    To be called while the process has one thread. Raises UsageError, also that of `make_sinks`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _be_keeper(theirs, make_sinks)
    theirs.close()
    ours.settimeout(_PATIENCE)
    try:
        answer = ours.recv(_LONGEST_RECORD)
    except OSError:
        answer = b""
    if answer != _READY:
        ours.close()
        raise UsageError(answer.decode("utf-8", "replace") or "the process that keeps the records could not be started")
    return Relay(ours)


def _be_keeper(connection: socket.socket, make_sinks: Callable[[], Sequence[Sink]]) -> None:
    """Keep records until nobody sends any more; never return."""
    try:
        _leave_the_session()
        try:
            sinks = make_sinks()
        except UsageError as error:
            connection.send(str(error).encode("utf-8", "replace"))
            return
        connection.send(_READY)
        keep(connection, sinks)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must not come up in the server
        tell_host(f"the records of a session ended early: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _leave_the_session() -> None:
    """Let go of what is the server's: the client's connection, which would not end before us, and its signals."""
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        # Ignored in a way that the commands of a hook do not inherit.
        signal.signal(number, lambda *_: None)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def keep(connection: socket.socket, sinks: Sequence[Sink], *, now: Callable[[], float] = time.time) -> None:
    """Give each record that arrives to all `sinks`; at the end close them. `now`: seconds since 1970."""
    opened: Record = {}
    begun = now()
    path = ""
    while data := connection.recv(_LONGEST_RECORD):
        record = json.loads(data)
        if record["event"] == "session-opened":
            opened = record
        elif record["event"] == "repository-opened":
            path = record["path"]
        elif record["event"] == "session-closed":
            opened = {}
        for sink in sinks:
            _write(sink, record)
    if opened:
        killed = opened | {"time": time_text(now()), "event": "session-closed", "level": "error", "repository": path}
        killed |= {"client_version": "", "outcome": "killed", "seconds": round(now() - begun, 3)}
        for sink in sinks:
            _write(sink, killed | {"bytes_in": 0, "bytes_out": 0, "calls": {}})
    for sink in sinks:
        sink.close()


def _write(sink: Sink, record: Record) -> None:
    try:
        sink.write(record)
    except Exception as error:  # noqa: BLE001 - the other sinks go on
        tell_host(f"{type(sink).__name__} could not take a record: {type(error).__name__}: {error}")
