"""A session on asyncio streams: the promises of stdio, many at a time."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

import pytest

from borg_serve_lib.errors import LockTimeout, ProtocolError
from borg_serve_lib.events.session import SessionClosed
from borg_serve_lib.reporting import Level
from borg_serve_lib.rpc.connection import Connection
from borg_serve_lib.rpc.services import Cancellation
from borg_serve_lib.transports.streams import log_to, serve_streams
from borg_serve_lib.transports.watch import NO_LIMITS, TimeLimits
from borg_serve_lib.wire.frames import FrameReader

from ..rpc.support import OPEN, REPOSITORY_ID, FakeRepository, Host, named, oid, unpacked

LARGE = bytes(range(256)) * (1 << 12)


class Talk:
    """A connection on two ends of a socket; `ended` is what serving it returned."""

    def __init__(self, host: Host, limits: TimeLimits) -> None:
        self.host = host
        self._limits = limits

    async def begin(self) -> None:
        client, server = socket.socketpair()
        self.reader, self.writer = await asyncio.open_connection(sock=client)
        self.server_reader, self.server_writer = await asyncio.open_connection(sock=server)
        self.connection = Connection(self.host.services)
        serving = serve_streams(self.connection, self.server_reader, self.server_writer, limits=self._limits)
        self.task = asyncio.create_task(self._serve(serving))

    async def _serve(self, serving: Awaitable[int]) -> int:
        try:
            return await serving
        finally:
            self.server_writer.close()

    async def says(self, stream: bytes) -> bytes:
        """Send all there is, and return all that comes back."""
        self.writer.write(stream)
        self.writer.write_eof()
        return await self.reader.read()

    @property
    def outcome(self) -> str:
        closed = self.host.reporter.of(SessionClosed)
        assert len(closed) == 1
        return str(closed[0].outcome)


def run(test: Callable[[Talk], Awaitable[None]], *, host: Host | None = None, limits: TimeLimits = NO_LIMITS) -> Host:
    async def main() -> None:
        talk = Talk(host or Host(), limits)
        await talk.begin()
        try:
            await asyncio.wait_for(test(talk), 30)
        finally:
            talk.writer.close()
            talk.task.cancel()
            await asyncio.gather(talk.task, return_exceptions=True)

    host = host or Host()
    asyncio.run(main())
    return host


def full() -> Host:
    """A host whose repository holds ten large objects."""
    host = Host()
    opening = host.services.open_repository

    def open_full(path: str, request: object) -> FakeRepository:
        repository: FakeRepository = opening(path, request)  # type: ignore[assignment, arg-type]
        repository.objects = {oid(number): LARGE for number in range(10)}
        return repository

    host.services = host.services.evolve(open_repository=open_full)
    return host


def gets(count: int) -> bytes:
    return b"".join(named(number, "get", id=oid(number % 10)) for number in range(count))


def test_calls_are_answered_and_the_repository_is_closed_at_the_end() -> None:
    async def talk(talk: Talk) -> None:
        replies = unpacked(await talk.says(OPEN + named(2, "put", id=oid(1), data=LARGE) + named(3, "get", id=oid(1))))
        assert [reply["r"] for reply in replies] == [REPOSITORY_ID, None, LARGE]
        assert await talk.task == 0
        assert (talk.outcome, talk.host.repository.closed) == ("completed", 1)
        closed = talk.host.reporter.of(SessionClosed)[0]
        assert closed.bytes_in > len(LARGE) < closed.bytes_out

    run(talk)


def test_large_replies_wait_until_the_client_reads() -> None:
    async def talk(talk: Talk) -> None:
        talk.writer.write(OPEN + gets(100))
        await talk.writer.drain()
        await asyncio.sleep(0.5)
        assert len([call for call in talk.host.repository.journal if call[0] == "get"]) < 30
        talk.writer.write_eof()
        assert len(await talk.reader.read()) > 100 * len(LARGE)

    run(talk, host=full())


def test_what_was_sent_is_given_up_before_the_next_reply_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Streams:
        """Both ends at once: says what it was given, takes everything. `last`: what was written last."""

        last = b""

        def __init__(self, said: bytes) -> None:
            self._said = [b"", said]

        async def read(self, n: int) -> bytes:
            return self._said.pop()

        def write(self, data: bytes) -> None:
            self.last = data

        async def drain(self) -> None:
            """Nothing waits."""

    def get(self: FakeRepository, object_id: bytes) -> bytes:
        holders.append(sys.getrefcount(streams.last) - sys.getrefcount(alone[0]))
        return LARGE

    monkeypatch.setattr(FakeRepository, "get", get)
    holders: list[int] = []
    alone = [bytes(100)]  # held by one list, as `last` is by one object
    streams = Streams(OPEN + gets(10))
    asyncio.run(serve_streams(Connection(full().services), streams, streams))
    assert holders[1:] == [0] * 9  # the first reply is gathered with that to the open


@pytest.mark.parametrize("cut", ["between calls", "in a message", "in a reply"])
def test_a_client_that_is_gone_leaves_no_repository_open(cut: str) -> None:
    async def talk(talk: Talk) -> None:
        talk.writer.write(OPEN + (gets(100) if cut == "in a reply" else b""))
        await talk.reader.read(8)
        if cut == "in a message":
            talk.writer.write(named(2, "put", id=oid(1), data=LARGE)[:1000])
        talk.writer.transport.abort()
        await talk.task
        assert talk.host.repository.closed == 1
        assert talk.outcome in ("client vanished", "completed")

    run(talk, host=full())


@pytest.mark.parametrize("idle", ["silent", "does not read"])
def test_an_idle_client_is_ended(idle: str) -> None:
    async def talk(talk: Talk) -> None:
        talk.writer.write(OPEN + (gets(100) if idle == "does not read" else b""))
        assert await talk.task == 2
        assert (talk.outcome, talk.host.repository.closed) == ("timed out", 1)

    assert b"the client was idle for too long (0.3 seconds)" in b"".join(
        run(talk, host=full(), limits=TimeLimits(idle=0.3)).lines
    )


def test_a_session_may_be_limited_as_a_whole() -> None:
    async def talk(talk: Talk) -> None:
        while not talk.task.done():
            talk.writer.write(named(1, "negotiate", client_data=2))
            await asyncio.sleep(0.02)
        assert await talk.task == 2
        assert talk.outcome == "timed out"

    run(talk, limits=TimeLimits(session=0.4))


def test_garbage_ends_the_session_with_its_status() -> None:
    async def talk(talk: Talk) -> None:
        await talk.says(OPEN + b"\xc1" * 10)
        assert await talk.task == talk.connection.exit_code != 0
        assert (talk.outcome, talk.host.repository.closed) == ("rejected", 1)

    run(talk)


def test_a_session_without_memory_for_a_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: FrameReader) -> memoryview:
        raise ProtocolError("no memory")

    monkeypatch.setattr(FrameReader, "get_buffer", no_memory)

    async def talk(talk: Talk) -> None:
        talk.writer.write(OPEN)
        assert await talk.task == 2
        assert talk.outcome == "rejected"

    run(talk)


def test_a_cancelled_session_finishes_what_has_begun_and_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, finished = threading.Event(), list[int]()

    def slow(self: FakeRepository, **_: object) -> bool:
        begun.set()
        time.sleep(0.3)
        finished.append(self.closed)
        return True

    monkeypatch.setattr(FakeRepository, "check", slow)

    async def talk(talk: Talk) -> None:
        talk.writer.write(OPEN + named(2, "check", repair=False))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait)
        talk.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talk.task
        assert finished == [0]
        assert (talk.outcome, talk.host.repository.closed) == ("ended by the host", 1)

    run(talk)


def waiting_for_a_lock(begun: threading.Event) -> Host:
    """A host whose repository is locked by somebody for longer than a test may take."""
    host, cancellation = Host(), Cancellation()

    def wait(path: str, request: object) -> NoReturn:
        begun.set()
        for _ in range(1000):
            cancellation.demand_none()
            time.sleep(0.02)
        raise LockTimeout(path)

    host.services = host.services.evolve(open_repository=wait, cancellation=cancellation)
    return host


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("the client vanishes", "client vanished"),
        ("it says no more", "client vanished"),
        ("its time is up", "timed out"),
        ("the host ends", "ended by the host"),
    ],
)
def test_a_session_that_waits_for_a_lock_ends_when_nobody_waits_for_it(end: str, outcome: str) -> None:
    begun = threading.Event()
    complaints: list[object] = []

    async def talk(talk: Talk) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        talk.writer.write(OPEN)
        await asyncio.get_running_loop().run_in_executor(None, begun.wait)
        if end == "the client vanishes":
            talk.writer.transport.abort()
        elif end == "it says no more":
            talk.writer.write_eof()
        elif end == "the host ends":
            talk.task.cancel()
        await asyncio.wait_for(asyncio.gather(talk.task, return_exceptions=True), 10)
        assert talk.outcome == outcome

    limits = TimeLimits(session=0.5) if end == "its time is up" else NO_LIMITS
    run(talk, host=waiting_for_a_lock(begun), limits=limits)
    gc.collect()
    assert complaints == []


def test_what_a_client_says_while_it_is_worked_for_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr("borg_serve_lib.transports.streams._LONG", 0.05)
    monkeypatch.setattr(FakeRepository, "check", lambda _, **__: go_on.wait(20))

    async def talk(talk: Talk) -> None:
        talk.writer.write(OPEN + named(2, "check", repair=False))
        await asyncio.sleep(0.2)
        talk.writer.write(named(3, "__len__"))
        await asyncio.sleep(0.2)
        talk.writer.write(named(4, "__len__"))
        go_on.set()
        talk.writer.write_eof()
        assert [reply["r"] for reply in unpacked(await talk.reader.read())] == [REPOSITORY_ID, True, 0, 0]
        assert await talk.task == 0

    run(talk)


def test_what_blocks_one_session_does_not_keep_others_from_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(FakeRepository, "check", lambda _, **__: go_on.wait(20))

    async def main() -> None:
        blocked, free = Talk(Host(), NO_LIMITS), Talk(Host(), NO_LIMITS)
        await blocked.begin()
        blocked.writer.write(OPEN + named(2, "check", repair=False))
        await free.begin()
        assert len(unpacked(await free.says(OPEN + named(2, "__len__")))) == 2
        assert not blocked.task.done()
        go_on.set()
        blocked.writer.write_eof()
        assert len(unpacked(await blocked.reader.read())) == 2
        await asyncio.gather(blocked.task, free.task)
        blocked.writer.close()
        free.writer.close()

    asyncio.run(main())


def test_log_lines_come_from_any_thread_and_are_dropped_where_nobody_reads() -> None:
    class Written:
        def __init__(self) -> None:
            self.lines: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.lines.append(data)

        async def drain(self) -> None:
            """Nothing waits."""

    async def main() -> None:
        written = Written()
        write = log_to(written, waiting=lambda: sum(map(len, written.lines)))
        thread = threading.Thread(target=lambda: [write(b"x" * 1000 + b"\n") for _ in range(200)])
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        await asyncio.sleep(0)
        assert 60 < len(written.lines) < 70
        kept.append(write)

    kept: list[Callable[[bytes], None]] = []
    asyncio.run(main())
    kept[0](b"nobody is there any more\n")


def test_the_level_of_the_log_is_not_changed_by_streams() -> None:
    async def talk(talk: Talk) -> None:
        await talk.says(OPEN + named(2, "get", id=oid(99)))

    assert run(talk, host=Host(level=Level.ERROR)).lines == []
