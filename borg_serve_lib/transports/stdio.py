"""A connection over a pair of blocking descriptors, as sshd and borg clients provide them.

Source: spec, rpc.md sections 1, 1.4, 5.5 and 5.7.

Signals. TERM and HUP raise SessionEnded wherever the session is, in a call too: a check may take hours, a lock may
never come free. That does no more harm than a crash, which the engine is built to survive at every point, and less: on
its way out the exception lets the lock be given back. It is raised once; from then on, and once the session has ended
by itself, signals are held back until the lock is free.

A client that goes away without a word is noticed in the same way: an alarm looks twice a second whether anybody is left
to read the replies, and ends a check, a compaction or the waiting for a lock that nobody wants any more. The same alarm
keeps the host's time limits.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from ..limits import MAX_GATHERED_REPLIES, MAX_NIL_REPLY
from ..rpc.connection import Connection, State
from .gathering import Gathering
from .linewriter import takes_a_line
from .watch import NO_LIMITS, ClientVanished, SessionEnded, TimeIsUp, TimeLimits, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..buffers import Buffer

_MOST_BUFFERS = 512
"""Buffers of one write; the system takes 1024."""

_HEAD_AND_DATA = 2
"""Parts of the most frequent replies."""

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032
"""fcntl's F_SETPIPE_SZ and F_GETPIPE_SZ, which Python 3.10's module does not have everywhere."""

_UNKNOWN_SIZE = 1 << 16
"""Bytes that wait in a socket, or a pipe of another system, at least."""

_PEER_GONE = 2
_TIMED_OUT = 2
SIGNALLED = 128
"""Exit statuses from here on stand for signals."""


class _PeerGone(Exception):
    """Nobody is at the other end any more; whatever is to be told, nobody reads it."""


def serve_stdio(
    connection: Connection,
    *,
    stdin: int,
    stdout: int,
    stderr: int = 2,
    limits: TimeLimits = NO_LIMITS,
    ending: Callable[[], None] = lambda: None,
    exits: bool = False,
) -> int:
    """Serve `connection` until the client goes away or a signal comes; return the exit code for the process.

    TERM and HUP end the session, with 128 + signal; the first INT is ignored, since a terminal sends it to a client's
    local server too. ALRM and the interval timer serve to notice a client that vanished. The repository is closed and
    its lock given back in all cases; timer and signal handlers found are put back. `stderr`: where the connection's log
    goes; only looked at, so that a log nobody reads cannot hold up the end. `limits`: end the session with status 2;
    they need the main thread, UsageError elsewhere. `ending`: called when nothing more is read, before the repository
    is closed. `exits`: the process ends after this: TERM, HUP and INT stay ignored.
    """
    _enlarge_pipe(stdout)
    try:
        _serve_and_close(connection, Watch(stdin, stdout, limits, exits=exits), stdin, stdout, ending)
    except TimeIsUp:
        if takes_a_line(stderr):
            connection.tell_client()
        return connection.exit_code or _TIMED_OUT
    except SessionEnded as end:
        if takes_a_line(stderr):
            connection.tell_client()
        return SIGNALLED + end.signum
    except (_PeerGone, ClientVanished):
        return connection.exit_code or _PEER_GONE
    return connection.exit_code


def _serve_and_close(connection: Connection, watch: Watch, stdin: int, stdout: int, ending: Callable[[], None]) -> None:
    try:
        try:
            watch.install()
            _serve(connection, stdin, stdout, watch)
        except SessionEnded as end:
            connection.interrupted(signal.Signals(end.signum).name)
            raise
        except TimeIsUp as end:
            connection.timed_out(str(end))
            raise
        except (_PeerGone, ClientVanished):
            connection.outcome = "client vanished"
            raise
        finally:
            # The very signal that this is to hold back may still get in between.
            watch.hold_back()
            ending()
    finally:
        connection.close()
        watch.put_back()


def _serve(connection: Connection, stdin: int, stdout: int, watch: Watch) -> None:
    gathering = Gathering(_enlarge_pipe(stdin))
    while not connection.ended:
        room = connection.get_buffer()
        if connection.state is State.FAILED:
            return
        watch.read_begins()
        count = _read(stdin, room)
        if not count:
            connection.eof_received()
            return
        watch.wait_ends()
        connection.buffer_updated(count)
        short_replies = 0
        for batch in _batches(connection, watch):
            short_replies = len(batch) if max(map(len, batch)) <= MAX_NIL_REPLY else 0
            connection.sent(_write_all(stdout, batch, watch))
        gathering.served(short_replies, count)


def _batches(connection: Connection, watch: Watch) -> Iterator[list[Buffer]]:
    """Yield the replies to all calls that have arrived, small ones together. The next batch empties the last one."""
    batch: list[Buffer] = []
    size = 0
    for reply in connection:
        watch.demand_none()
        watch.progress()
        batch += reply
        # Of two parts the first is small; a list of ids has many, the last of which may be.
        size += len(reply[-1]) if len(reply) <= _HEAD_AND_DATA else sum(map(len, reply))
        if size >= MAX_GATHERED_REPLIES or len(batch) >= _MOST_BUFFERS:
            yield batch
            # What was sent is given up before the next reply is made: both may be large.
            batch.clear()
            reply = ()  # noqa: PLW2901
            size = 0
    if batch:
        yield batch


def _read(descriptor: int, room: memoryview) -> int:
    """Read what is there into `room`, waiting for it; return how many bytes, 0 at the end. Raises _PeerGone."""
    while True:
        try:
            return os.readv(descriptor, [room])
        except BlockingIOError:
            _wait_for(descriptor, reading=True)
        except OSError as error:
            raise _PeerGone from error


def _write_all(descriptor: int, buffers: list[Buffer], watch: Watch) -> int:
    """Write `buffers` one after the other, in full; return how many bytes these are. Raises _PeerGone."""
    total = 0
    while buffers:
        # An alarm makes a write return with what was taken so far: slow is not idle.
        watch.wait_begins()
        try:
            written = os.writev(descriptor, buffers if len(buffers) <= _MOST_BUFFERS else buffers[:_MOST_BUFFERS])
        except BlockingIOError:
            _wait_for(descriptor, reading=False)
            continue
        except OSError as error:
            raise _PeerGone from error
        total += written
        buffers = _behind(buffers, written)
        watch.progress()
    watch.wait_ends()
    return total


def _behind(buffers: list[Buffer], written: int) -> list[Buffer]:
    """Return what is left of `buffers` when the first `written` bytes are gone."""
    if written == sum(map(len, buffers)):
        return []
    done = 0
    while written >= len(buffers[done]):
        written -= len(buffers[done])
        done += 1
    return [memoryview(buffers[done])[written:], *buffers[done + 1 :]]


def _wait_for(descriptor: int, *, reading: bool) -> None:
    """Wait until a descriptor that somebody made non-blocking can be used."""
    from select import POLLIN, POLLOUT, poll

    waiting = poll()
    waiting.register(descriptor, POLLIN if reading else POLLOUT)
    waiting.poll()


def _enlarge_pipe(descriptor: int) -> int:
    """Return how many bytes may wait in a pipe from now on; an account can have only so many that are large."""
    try:
        import fcntl

        with suppress(OSError):
            return fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_SIZE)
        return fcntl.fcntl(descriptor, _F_GETPIPE_SZ)
    except (ImportError, OSError):
        return _UNKNOWN_SIZE
