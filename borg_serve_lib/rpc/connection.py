"""One client's connection, without input or output: bytes in, replies out.

Source: spec, rpc.md sections 1 and 5.
"""

from __future__ import annotations

from enum import Enum

from ..errors import ProtocolError
from ..limits import MAX_ANNOUNCED_GETS
from ..wire.frames import FrameReader
from .dispatcher import Dispatcher
from .services import Services
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..reporting import Event
    from ..wire.calls import Reply

_FAULT = 2


class State(Enum):
    """Where a connection stands."""

    OPEN = "open"
    CLOSED = "closed"  # the client has said all, or we have: what it sent in full is still answered until `close`
    FAILED = "failed"  # the client sent something that is no request; nothing more is answered


class Connection:
    """Takes bytes through `get_buffer` and `buffer_updated`, hands out replies when iterated over.

    It suits `asyncio.BufferedProtocol` and a loop around `os.readv` alike. A call is carried out when its reply is
    asked for, so that the replies to many waiting calls never lie in memory together. Not for several threads at once.

    `state`: see there. `outcome`: how the session ended, see SessionClosed. `exit_code`: how a process that serves this
    connection alone should end, from BORG_EXIT_CODES modern (spec: serve-command.md section 10); final after `close`.
    """

    def __init__(self, services: Services) -> None:
        self._reporter = services.reporter
        self._host_reporter = services.host_reporter
        self._client_log = services.client_log
        self._clock = services.clock
        self._cancellation = services.cancellation
        self._begun = services.clock()
        self._session = Session(services)
        self._dispatcher = Dispatcher(self._session)
        self._received = self._sent = 0
        self._frames = FrameReader()
        self._announced = 0
        self._released = False
        self.state = State.OPEN
        self.exit_code = 0
        self.outcome = "completed"
        self._cut_short: Event | None = None
        from ..events.session import SessionOpened

        self._reporter.report(SessionOpened())

    @property
    def ended(self) -> bool:
        """Whether no more bytes are wanted."""
        return self.state is not State.OPEN

    def get_buffer(self, sizehint: int = -1) -> memoryview:  # noqa: ARG002 - we know better how much is to come
        """Return room, at least a byte, to put received bytes into; valid until the next reply is asked for.

        If there is no memory for more, `state` is FAILED then, and what is put there is not looked at.
        """
        try:
            return self._frames.get_buffer()
        except ProtocolError as error:
            self._reject(error)
            return memoryview(bytearray(1))

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` bytes were received into the room last returned. All replies must be asked for before the next."""
        self._received += nbytes
        self._frames.received(nbytes)

    def sent(self, nbytes: int) -> None:
        """`nbytes` bytes of replies were sent: nothing depends on that but what the host is told at the end."""
        self._sent += nbytes

    def eof_received(self) -> None:
        """The client sends no more. A message it did not finish is dropped."""
        if self.state is State.OPEN:
            self.state = State.CLOSED

    def __iter__(self) -> Iterator[Reply]:
        """Yield the replies to all calls received in full. Their buffers may be kept; they are never changed.

        Never raises: errors are replies too, and what is no call at all makes `state` FAILED; but for what ends the
        session, as `cancel` does.
        """
        while self.state is not State.FAILED and not self._released:
            try:
                call = self._frames.next_call()
            except ProtocolError as error:
                self._reject(error)
                return
            if call is None:
                return
            if call.method == "get":
                self._announce_gets()
            yield self._dispatcher.reply_to(call)

    def _announce_gets(self) -> None:
        if self._announced:
            self._announced -= 1
            return
        if not self._dispatcher.wants_announcements:
            return
        waiting = self._frames.waiting_gets(MAX_ANNOUNCED_GETS)
        self._announced = len(waiting)
        self._dispatcher.announce(waiting)

    def _reject(self, error: ProtocolError) -> None:
        from ..events.session import ConnectionRejected

        self.state = State.FAILED
        self.exit_code = error.exit_code
        self.outcome = "rejected"
        self._cut_short = ConnectionRejected(str(error))
        self.close()  # first: a log that nobody reads must not keep the lock
        self.tell_client()

    def cancel(self, reason: BaseException) -> None:
        """Let calls that wait for a lock end with `reason`, now and from now on. To be called from any thread."""
        if self._cancellation is not None:
            self._cancellation.cancel(reason)

    def timed_out(self, reason: str) -> None:
        """A time limit of the host ends the session: `close` will tell the host, `tell_client` the client."""
        from ..events.session import SessionTimedOut

        self.outcome = "timed out"
        self._cut_short = SessionTimedOut(reason)

    def interrupted(self, signal: str) -> None:
        """A signal of this name ends the session (spec: rpc.md section 5.7); told as in `timed_out`."""
        from ..events.session import SessionInterrupted

        self.outcome = f"signal {signal}"
        self._cut_short = SessionInterrupted(signal)

    def tell_client(self) -> None:
        """Tell the client what cut its session short, if something did; after `close`, as it may not be reading."""
        cut_short, self._cut_short = self._cut_short, None
        if cut_short is not None:
            self._client_log.report(cut_short)

    def close(self) -> None:
        """Close the repository and give its lock back. If that went wrong, `exit_code` is 2. Twice is fine."""
        self.eof_received()
        if not self._dispatcher.close():
            self.exit_code = self.exit_code or _FAULT
        if not self._released:
            self._released = True
            if self._cut_short is not None:
                self._host_reporter.report(self._cut_short)
            self._report_end()

    def _report_end(self) -> None:
        from ..events.session import SessionClosed

        self._reporter.report(
            SessionClosed(
                self._session.path,
                self._session.client_version,
                self.outcome,
                seconds=round(self._clock() - self._begun, 3),
                bytes_in=self._received,
                bytes_out=self._sent,
                calls={method: count for method, count in self._dispatcher.calls.items() if count},
            )
        )
