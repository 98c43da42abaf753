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
import time

from ..errors import UsageError
from ..rpc.connection import Connection
from ..values import Value
from .linewriter import takes_a_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ..buffers import Buffer

_COALESCED = 1 << 17
"""Bytes of replies that are gathered while more calls wait; they go out before the next read in any case."""

_MOST_BUFFERS = 512
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
"""fcntl's F_SETPIPE_SZ, which Python 3.10's module does not have everywhere."""

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_PEER_GONE = 2
_TIMED_OUT = 2
SIGNALLED = 128
"""Exit statuses from here on stand for signals."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at whether the client is still there."""

_MOST_STUCK = 3
"""Looks at which nothing has moved: a client that is gone is noticed within 1 to 1.5 seconds."""

_ONE_KEYSTROKE = 0.02
"""Seconds within which interrupts count as one: a terminal's and the one a client passes on (spec: section 5.7)."""


class TimeLimits(Value):
    """How long a session may be, in seconds; None for as long as it likes.

    `idle`: without a byte from or to a client that is waited for; while the server works there is no limit. `session`:
    in all.
    """

    idle: float | None = None
    session: float | None = None


NO_LIMITS = TimeLimits()


class SessionEnded(BaseException):
    """A signal ends the session, wherever it is: all that is not committed counts as never written."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class ClientVanished(BaseException):
    """Nobody is there to read the replies any more, noticed in the midst of a call."""


class TimeIsUp(BaseException):
    """A time limit of the host ends the session."""


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
    _enlarge_pipe(stdin)
    _enlarge_pipe(stdout)
    try:
        _serve_and_close(connection, _Signals(stdin, stdout, limits, exits=exits), stdin, stdout, ending)
    except TimeIsUp as end:
        if takes_a_line(stderr):
            connection.timed_out(str(end))
        return connection.exit_code or _TIMED_OUT
    except SessionEnded as end:
        if takes_a_line(stderr):
            connection.interrupted(signal.Signals(end.signum).name)
        return SIGNALLED + end.signum
    except (_PeerGone, ClientVanished):
        return connection.exit_code or _PEER_GONE
    return connection.exit_code


def _serve_and_close(
    connection: Connection, signals: _Signals, stdin: int, stdout: int, ending: Callable[[], None]
) -> None:
    try:
        try:
            signals.install()
            _serve(connection, stdin, stdout, signals)
        finally:
            # The very signal that this is to hold back may still get in between.
            signals.hold_back()
            ending()
    finally:
        connection.close()
        signals.put_back()


def _serve(connection: Connection, stdin: int, stdout: int, signals: _Signals) -> None:
    while not connection.ended:
        signals.wait_begins()
        count = _read(stdin, connection.get_buffer())
        signals.wait_ends()
        if not count:
            connection.eof_received()
            return
        connection.buffer_updated(count)
        for batch in _batches(connection, signals):
            _write_all(stdout, batch, signals)


def _batches(connection: Connection, signals: _Signals) -> Iterator[list[Buffer]]:
    """Yield the replies to all calls that have arrived, small ones together."""
    batch: list[Buffer] = []
    size = 0
    for reply in connection:
        signals.demand_none()
        signals.progress()
        batch += reply
        size += len(reply[-1])  # where a reply has several parts, the others are small
        if size >= _COALESCED or len(batch) >= _MOST_BUFFERS:
            yield batch
            batch = []
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


def _write_all(descriptor: int, buffers: list[Buffer], signals: _Signals) -> None:
    """Write `buffers` one after the other, in full. Raises _PeerGone."""
    while buffers:
        # An alarm makes a write return with what was taken so far: slow is not idle.
        signals.wait_begins()
        try:
            written = os.writev(descriptor, buffers)
        except BlockingIOError:
            _wait_for(descriptor, reading=False)
            continue
        except OSError as error:
            raise _PeerGone from error
        buffers = _behind(buffers, written)
        signals.progress()
    signals.wait_ends()


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


def _other_end_closed(descriptor: int) -> bool:
    """Return whether the other end of a pipe or socket is closed."""
    import select

    closed = getattr(select, "POLLRDHUP", 0)  # of a socket that says nothing more; Linux
    looking = select.poll()
    looking.register(descriptor, closed)
    return any(event & (closed | select.POLLERR | select.POLLHUP) for _, event in looking.poll(0))


def _enlarge_pipe(descriptor: int) -> None:
    try:
        import fcntl

        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_SIZE)
    except (ImportError, OSError):
        return


class _Signals:
    """The signal handlers of a session."""

    def __init__(
        self,
        stdin: int,
        stdout: int,
        limits: TimeLimits = NO_LIMITS,
        clock: Callable[[], float] = time.monotonic,
        *,
        exits: bool = False,
    ) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._parent = os.getppid()
        self._exits = exits
        self._stuck = 0  # looks since anything has moved, at which nothing more was to come
        self._limits = limits
        self._clock = clock
        self._began = clock()
        self._waiting_since: float | None = None
        self._interrupted_at: float | None = None
        self._raised: SessionEnded | ClientVanished | TimeIsUp | None = None
        self._timer = (0.0, 0.0)
        self._held_back = False
        self._found: dict[int, object] = {}

    def install(self) -> None:
        """Begin to listen. Not in the main thread: signals are the business of whoever runs that."""
        try:
            for signum in _ENDING:
                self._found[signum] = signal.signal(signum, self._handle)
            self._found[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            self._found[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._look)
            self._timer = signal.setitimer(signal.ITIMER_REAL, _LOOK_EVERY, _LOOK_EVERY)
        except ValueError:
            if self._limits != NO_LIMITS:
                raise UsageError("time limits of a session can only be kept in the main thread") from None

    def wait_begins(self) -> None:
        """From now on the client is waited for."""
        self._waiting_since = self._clock()

    def progress(self) -> None:
        """A call has ended, or bytes of its reply have gone."""
        self._stuck = 0

    def wait_ends(self) -> None:
        """The client has done what it was waited for."""
        self._waiting_since = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        if not self._held_back and (signum != signal.SIGINT or self._is_second_interrupt()):
            self._held_back = True
            self._raised = SessionEnded(signum)
            raise self._raised

    def _look(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        if self._held_back:
            return
        reason = self._time_is_up()
        if reason is not None:
            self._raised = TimeIsUp(reason)
        elif self._is_alone():
            self._raised = ClientVanished()
        else:
            return
        self._held_back = True
        raise self._raised

    def _is_alone(self) -> bool:
        """Return whether nobody reads the replies; or nobody can ask for more, and nothing has moved for some looks, or
        who started the server is gone.

        Of a client that was killed sshd tells no more than that: stdout stays open. What was asked for before, by
        somebody who pipes requests into the server, is still answered as long as each call takes less than a second.
        """
        if _other_end_closed(self._stdout):
            return True
        if not _other_end_closed(self._stdin):
            return False
        self._stuck += 1
        return self._stuck >= _MOST_STUCK or os.getppid() != self._parent

    def _time_is_up(self) -> str | None:
        """Return which limit is reached, None as long as none is."""
        idle, session, now = self._limits.idle, self._limits.session, self._clock()
        if idle is not None and self._waiting_since is not None and now - self._waiting_since >= idle:
            return f"the client was idle for {idle:g} seconds, which is the limit here"
        if session is not None and now - self._began >= session:
            return f"the session has lasted {session:g} seconds, which is the limit here"
        return None

    def _is_second_interrupt(self) -> bool:
        now, first = self._clock(), self._interrupted_at
        if first is None:
            self._interrupted_at = now
        return first is not None and now - first >= _ONE_KEYSTROKE

    def demand_none(self) -> None:
        """Raise SessionEnded, ClientVanished or TimeIsUp again if it came where exceptions get lost: in a callback of
        the interpreter, or where another one took its place on the way out.
        """
        if self._raised is not None:
            raise self._raised

    def hold_back(self) -> None:
        """From now on signals are ignored: the session is being closed."""
        self._held_back = True

    def put_back(self) -> None:
        """Put timer and handlers back that were there before."""
        if signal.SIGALRM in self._found:
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
        for signum, handler in self._found.items():
            if self._exits and signum in _ENDING:
                signal.signal(signum, signal.SIG_IGN)
            elif handler is not None:  # one that was not set from Python cannot be
                signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal() returned
