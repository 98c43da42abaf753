"""A connection over a pair of blocking descriptors, as sshd and borg clients provide them.

Source: spec, rpc.md sections 1, 1.4, 5.5 and 5.7.
"""

from __future__ import annotations

import os
import signal

from ..rpc.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ..buffers import Buffer

_COALESCED = 1 << 17
"""Bytes of replies that are gathered while more calls wait; they go out before the next read in any case."""

_MOST_BUFFERS = 512
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
"""fcntl's F_SETPIPE_SZ, which Python 3.10's module does not have everywhere."""

_SECOND_INTERRUPT = 2


class SessionEnded(BaseException):
    """A signal ends the session, wherever it is: all that is not committed counts as never written."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def serve_stdio(connection: Connection, *, stdin: int, stdout: int) -> int:
    """Serve `connection` until the client goes away or a signal comes; return the exit code for the process.

    TERM and HUP end the session, with 128 + signal; the first INT is ignored, since a terminal sends it to a client's
    local server too. The repository is closed and its lock given back in all cases. The signal handlers found are
    put back.
    """
    _enlarge_pipe(stdin)
    _enlarge_pipe(stdout)
    signals = _Signals()
    try:
        with signals:
            try:
                _serve(connection, stdin, stdout)
            finally:
                signals.hold_back()
                connection.close()
    except SessionEnded as end:
        return 128 + end.signum
    except OSError:
        # The peer is gone; nobody reads a word about it any more.
        return connection.exit_code or 2
    return connection.exit_code


def _serve(connection: Connection, stdin: int, stdout: int) -> None:
    while not connection.ended:
        count = os.readv(stdin, [connection.get_buffer()])
        if not count:
            connection.eof_received()
            return
        connection.buffer_updated(count)
        for batch in _batches(connection):
            _write_all(stdout, batch)


def _batches(connection: Connection) -> Iterator[list[Buffer]]:
    """Yield the replies to all calls that have arrived, small ones together."""
    batch: list[Buffer] = []
    size = 0
    for reply in connection:
        batch.extend(reply)
        size += sum(map(len, reply))
        if size >= _COALESCED or len(batch) >= _MOST_BUFFERS:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


def _write_all(descriptor: int, buffers: list[Buffer]) -> None:
    while buffers:
        written = os.writev(descriptor, buffers)
        while buffers and written >= len(buffers[0]):
            written -= len(buffers.pop(0))
        if written:
            buffers[0] = memoryview(buffers[0])[written:]


def _enlarge_pipe(descriptor: int) -> None:
    try:
        import fcntl

        fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE_SIZE)
    except (ImportError, OSError):
        return


class _Signals:
    """The signal handlers of a session."""

    def __init__(self) -> None:
        self._interrupts = 0
        self._held_back = False
        self._found: dict[int, object] = {}

    def __enter__(self) -> None:
        try:
            for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                self._found[signum] = signal.signal(signum, self._end)
        except ValueError:
            # Not the main thread: signals are the business of whoever runs it.
            return

    def _end(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of handlers
        if signum == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts < _SECOND_INTERRUPT:
                return
        if not self._held_back:
            self._held_back = True
            raise SessionEnded(signum)

    def hold_back(self) -> None:
        """From now on signals are ignored: the session is being closed."""
        self._held_back = True

    def __exit__(self, *exc_info: object) -> None:
        for signum, handler in self._found.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]  # what signal() returned


def write_stderr(descriptor: int, line: bytes) -> None:
    """Write a line; a reader that is gone is nobody to tell."""
    view = memoryview(line)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        return
