"""A session on asyncio streams, those of asyncssh among them, for hosts that serve many clients in one process."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from ..limits import MAX_GATHERED_REPLIES, MAX_UNREAD_LOG
from ..rpc.connection import Connection, State
from .watch import NO_LIMITS, ClientVanished, TimeIsUp, TimeLimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any, Final, TypeVar

    from ..buffers import Buffer

    _Result = TypeVar("_Result")

_READ_SIZE: Final = 1 << 17
_LONG: Final = 0.7
"""Seconds after which it is time to see whether a client that is worked for is still there."""

_FAULT: Final = 2


class ByteReader(Protocol):
    """What is needed of an `asyncio.StreamReader`."""

    def read(self, n: int) -> Awaitable[bytes]:
        """Return at most `n` bytes, b'' at the end."""


class ByteWriter(Protocol):
    """What is needed of an `asyncio.StreamWriter`."""

    def write(self, data: bytes) -> None:
        """Take bytes to be sent."""

    def drain(self) -> Awaitable[None]:
        """Return when few enough bytes wait."""


async def serve_streams(
    connection: Connection, reader: ByteReader, writer: ByteWriter, *, limits: TimeLimits = NO_LIMITS
) -> int:
    """Serve `connection` until its client has said all, or is gone; return the status that its process would end with.

    The repository is closed and its lock given back in all cases, also when this is cancelled. What blocks (disks,
    locks) is done in a thread of the connection's own; what has begun there is finished first, but for the wait for a
    lock: that ends with the session, and within two seconds after the client has gone. No more is read than is
    answered, and one piece to see whether the client is there, and no more answered than the client takes: memory stays
    at what one connection may need. The streams stay open; whoever made them closes them.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="borg-serve")
    session = _Session(connection, reader, writer, pool, limits.idle)
    try:
        await _within(session.serve(), limits.session, "the session took longer than it may")
    except TimeIsUp as end:
        connection.timed_out(str(end))
        connection.cancel(end)
        return connection.exit_code or _FAULT
    except asyncio.CancelledError:
        connection.outcome = "ended by the host"
        raise
    except (Exception, ClientVanished):  # noqa: BLE001 - each library has errors of its own for a client that is gone
        connection.outcome = "client vanished"
        return connection.exit_code or _FAULT
    finally:
        session.stop_reading()
        connection.cancel(ClientVanished())  # nobody waits for an answer any more, whatever the reason
        await asyncio.shield(session.work(connection.close))
        connection.tell_client()
        pool.shutdown(wait=False)
    return connection.exit_code


class _Session:
    def __init__(
        self,
        connection: Connection,
        reader: ByteReader,
        writer: ByteWriter,
        pool: ThreadPoolExecutor,
        idle: float | None,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._pool = pool
        self._idle = idle
        self._ahead: asyncio.Future[bytes] | None = None  # what the client says while it is worked for

    async def serve(self) -> None:
        connection = self._connection
        while not connection.ended:
            data = memoryview(await self._waited_for(self._next()))
            if not data:
                connection.eof_received()
                return
            while data and not connection.ended:
                room = connection.get_buffer()
                if connection.state is State.FAILED:
                    return
                count = min(len(room), len(data))
                room[:count] = data[:count]
                room.release()
                data = data[count:]
                connection.buffer_updated(count)
                replies = iter(connection)
                while batch := await self._attended(self.work(_gathered, replies)):
                    self._writer.write(batch)
                    connection.sent(len(batch))
                    del batch  # before the next is made: both may be large
                    await self._waited_for(self._writer.drain())

    async def _next(self) -> bytes:
        ahead, self._ahead = self._ahead, None
        return await (ahead or self._reader.read(_READ_SIZE))

    async def _attended(self, work: asyncio.Future[_Result]) -> _Result:
        """Wait for `work`; when it takes long, see whether the client is still there, and let it end if not.

        For that the next thing is read that the client says; when it has said that, no more is read.
        """
        try:
            done, _ = await asyncio.wait([work], timeout=_LONG)
            if not done:
                self._ahead = self._ahead or asyncio.ensure_future(self._reader.read(_READ_SIZE))
                either: list[asyncio.Future[Any]] = [work, self._ahead]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not work.done() and (self._ahead.exception() or not self._ahead.result()):
                    # It may have said all, and still read: what does not take long is answered.
                    await asyncio.wait([work], timeout=_LONG)
                    if not work.done():
                        self._connection.cancel(ClientVanished())
            return await work
        finally:
            work.cancel()  # whoever is ended while he waits for it does not want to know how it ends

    def stop_reading(self) -> None:
        """Read no more of what the client says while it is worked for."""
        if self._ahead is not None:
            self._ahead.cancel()

    def work(self, function: Callable[..., _Result], *arguments: object) -> asyncio.Future[_Result]:
        """Do something that may block, in this connection's thread."""
        return asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _waited_for(self, client: Awaitable[_Result]) -> Awaitable[_Result]:
        return _within(client, self._idle, "the client was idle for too long")


async def _within(what: Awaitable[_Result], seconds: float | None, otherwise: str) -> _Result:
    """Wait for `what`. Raises TimeIsUp after `seconds`."""
    try:
        return await asyncio.wait_for(what, seconds)
    except asyncio.TimeoutError:
        raise TimeIsUp(f"{otherwise} ({seconds:g} seconds)") from None


def _gathered(replies: Iterator[tuple[Buffer, ...]]) -> bytes:
    """Return the next replies in one piece, b'' when there are no more."""
    batch: list[Buffer] = []
    size = 0
    for reply in replies:
        batch += reply
        size += sum(map(len, reply))
        if size >= MAX_GATHERED_REPLIES:
            break
    return b"".join(batch)


def log_to(writer: ByteWriter, *, waiting: Callable[[], int] = lambda: 0) -> Callable[[bytes], None]:
    """Return what a ClientLog needs to write to `writer`, from any thread. To be called in the event loop.

    `waiting`: bytes that the client has yet to read of it; while there are too many, lines are dropped.
    """
    loop = asyncio.get_running_loop()

    def write(line: bytes) -> None:
        if waiting() < MAX_UNREAD_LOG:
            writer.write(line)

    def pass_on(line: bytes) -> None:
        try:
            loop.call_soon_threadsafe(write, line)
        except RuntimeError:  # the loop is closed: nobody is there to read it
            return

    return pass_on
