"""One client's connection, without input or output: bytes in, replies out.

Source: spec, rpc.md sections 1 and 5.
"""

from __future__ import annotations

from ..errors import LockError, ProtocolError
from ..wire.frames import FrameReader
from .dispatcher import Dispatcher
from .services import Services
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..wire.calls import Reply

_ANNOUNCED_GETS = 64
"""Waiting gets that are announced to the storage at once."""


class Connection:
    """Takes bytes through `get_buffer` and `buffer_updated`, hands out replies when iterated over.

    A call is carried out when its reply is asked for, so that the replies to many waiting calls never lie in memory
    together. `exit_code` tells how the process that serves it should end; `failed` whether it ended by an error.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._session = Session(services)
        self._dispatcher = Dispatcher(self._session)
        self._frames = FrameReader()
        self._announced = 0
        self.ended = False
        self.exit_code = 0

    def get_buffer(self) -> memoryview:
        """Return room to put received bytes into; valid until the next reply is asked for."""
        return self._frames.get_buffer()

    def buffer_updated(self, count: int) -> None:
        """`count` bytes were received into the room last returned."""
        self._frames.received(count)

    def eof_received(self) -> None:
        """The client sends no more. A message it did not finish is dropped."""
        self.ended = True

    def __iter__(self) -> Iterator[Reply]:
        """Yield the replies to all calls received in full. A reply is valid until the next one is asked for."""
        while not self.exit_code:
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
        repository = self._session.repository
        if repository is not None:
            waiting = self._frames.waiting_gets(_ANNOUNCED_GETS)
            self._announced = len(waiting)
            if waiting:
                repository.announce(waiting)

    def _reject(self, error: ProtocolError) -> None:
        from ..events.session import ConnectionRejected

        self._services.reporter.report(ConnectionRejected(str(error)))
        self.ended = True
        self.exit_code = error.exit_code

    def close(self) -> None:
        """Close the repository and give its lock back. A lock that somebody took away makes `exit_code` 2."""
        self.ended = True
        try:
            self._session.close_repository()
        except LockError as error:
            from ..events.locks import LockLost

            self._services.reporter.report(LockLost(str(error)))
            self.exit_code = self.exit_code or 2
