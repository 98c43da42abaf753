"""What may end a session from outside while it reads, writes or computes: signals, a client that vanished, time limits.

Source: spec, rpc.md section 5.7.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from ..errors import UsageError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
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


class Watch:
    """Signal handlers, and an alarm that looks twice a second; what they notice is raised wherever the session is."""

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
        self._reading = False
        self._interrupted_at: float | None = None
        self._raised: SessionEnded | ClientVanished | TimeIsUp | None = None
        self._lost = False  # what was raised: the interpreter has dropped it
        self._timer = (0.0, 0.0)
        self._held_back = False
        self._found: dict[int, object] = {}
        self._hook: Callable[[Any], object] | None = None

    def install(self) -> None:
        """Begin to listen. Not in the main thread: signals are the business of whoever runs that."""
        try:
            for signum in _ENDING:
                self._found[signum] = signal.signal(signum, self._handle)
            self._found[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            self._found[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._look)
            self._timer = signal.setitimer(signal.ITIMER_REAL, _LOOK_EVERY, _LOOK_EVERY)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._take_back
        except ValueError:
            if self._limits != NO_LIMITS:
                raise UsageError("time limits of a session can only be kept in the main thread") from None

    def read_begins(self) -> None:
        """From now on the client is waited for, and free to end the session."""
        self._reading = True
        self.wait_begins()

    def wait_begins(self) -> None:
        """From now on the client is waited for."""
        self._waiting_since = self._clock()

    def progress(self) -> None:
        """A call has ended, or bytes of its reply have gone."""
        self._stuck = 0

    def wait_ends(self) -> None:
        """The client has done what it was waited for."""
        self._waiting_since = None
        self._reading = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        if not self._held_back and (signum != signal.SIGINT or self._is_second_interrupt()):
            self._held_back = True
            self._raised = SessionEnded(signum)
            raise self._raised

    def _look(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        if self._lost and self._raised is not None:
            self._lost = False
            raise self._raised
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

    def _take_back(self, lost: Any) -> None:
        """Keep what was raised in a callback of the interpreter, which prints it and goes on, to raise it again."""
        if self._raised is not None and lost.exc_value is self._raised:
            self._lost = True
        elif self._hook is not None:
            self._hook(lost)

    def _is_alone(self) -> bool:
        """Return whether nobody reads the replies; or nobody can ask for more, and nothing has moved for some looks, or
        who started the server is gone.

        Of a client that was killed sshd tells no more than that: stdout stays open. What was asked for before, by
        somebody who pipes requests into the server, is still answered as long as each call takes less than a second.
        A client that closes both while nothing is owed to it ends its session in good order: reading tells of that.
        """
        silent = _is_at_end(self._stdin)
        if _is_hung_up(self._stdout):
            return not (silent and self._reading)
        if not silent:
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
        self._lost = False

    def put_back(self) -> None:
        """Put timer, handlers and hook back that were there before."""
        if self._hook is not None:
            sys.unraisablehook, self._hook = self._hook, None
        if signal.SIGALRM in self._found:
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
        for signum, handler in self._found.items():
            if self._exits and signum in _ENDING:
                signal.signal(signum, signal.SIG_IGN)
            elif handler is not None:  # one that was not set from Python cannot be
                signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal() returned


def _is_hung_up(descriptor: int) -> bool:
    """Return whether nobody reads what is written to a pipe or socket."""
    return _shows(descriptor, 0)


def _is_at_end(descriptor: int) -> bool:
    """Return whether nobody writes to a pipe or socket any more; what was written may still be there to read."""
    import select

    # Of a socket with one end shut down; Linux. One that serves as stdin and stdout still carries replies.
    return _shows(descriptor, getattr(select, "POLLRDHUP", 0))


def _shows(descriptor: int, events: int) -> bool:
    """Return whether one of `events` has come, or what poll tells unasked: an error, or that the other end is gone."""
    import select

    looking = select.poll()
    looking.register(descriptor, events)
    return any(event & (events | select.POLLERR | select.POLLHUP) for _, event in looking.poll(0))
