"""A session on descriptors: whole replies in few writes, ends in good order however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import msgpack
import pytest

from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.errors import ProtocolError, UsageError
from borg_serve_lib.reporting import Level
from borg_serve_lib.rpc.connection import Connection, State
from borg_serve_lib.transports.gathering import Gathering
from borg_serve_lib.transports.linewriter import LineWriter
from borg_serve_lib.transports.stdio import serve_stdio
from borg_serve_lib.transports.watch import TimeLimits
from borg_serve_lib.wire.calls import Reply
from borg_serve_lib.wire.frames import FrameReader

from ..rpc.support import OPEN, REPOSITORY_ID, FakeRepository, Host, named, oid

LARGE = bytes(range(256)) * (1 << 12)
"""Larger than a pipe usually is."""

PEER_GONE = 2
BAD_STREAM = 2


class Descriptors:
    """Two pipes between a client and a server."""

    def __init__(self) -> None:
        self.stdin, self.to_server = os.pipe()
        self.from_server, self.stdout = os.pipe()
        self._open = {self.stdin, self.to_server, self.from_server, self.stdout}

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors or tuple(self._open):
            if descriptor in self._open:
                self._open.remove(descriptor)
                os.close(descriptor)


@pytest.fixture
def pipes() -> Iterator[Descriptors]:
    descriptors = Descriptors()
    yield descriptors
    descriptors.close()


class Served:
    """One session: `requests` are sent while all that comes back is read."""

    def __init__(
        self,
        pipes: Descriptors,
        requests: bytes,
        host: Host | None = None,
        connection: Callable[[Host], Connection] = lambda host: Connection(host.services),
    ) -> None:
        self.host = host or Host()
        self.replies = b""
        self.connection = connection(self.host)
        sending = threading.Thread(target=self._send, args=(pipes, requests))
        reading = threading.Thread(target=self._read, args=(pipes,))
        sending.start()
        reading.start()
        self.status = serve_stdio(self.connection, stdin=pipes.stdin, stdout=pipes.stdout)
        pipes.close(pipes.stdin, pipes.stdout)
        sending.join()
        reading.join()

    def _send(self, pipes: Descriptors, requests: bytes) -> None:
        try:
            rest = memoryview(requests)
            while rest:
                rest = rest[os.write(pipes.to_server, rest) :]
        except BrokenPipeError:
            pass
        finally:
            pipes.close(pipes.to_server)

    def _read(self, pipes: Descriptors) -> None:
        while data := os.read(pipes.from_server, 1 << 16):
            self.replies += data

    def results(self) -> list[object]:
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        unpacker.feed(self.replies)
        return [reply.get(b"r", reply.get(b"exception_class")) for reply in unpacker]


def test_of_large_replies_each_is_sent_and_given_up_before_the_next_is_made(pipes: Descriptors) -> None:
    served = Served(pipes, OPEN + gets(20), connection=LongReplies)
    assert isinstance(served.connection, LongReplies)
    assert served.connection.held == [0] * 21
    assert len(served.replies) == 21 * (8 + len(LARGE))


class Full(Host):
    """Each repository has some objects of a size."""

    size = 10

    def _open(self, path: str, request: object) -> FakeRepository:
        repository = super()._open(path, request)  # type: ignore[arg-type]
        repository.objects = {oid(number): bytes([number]) * self.size for number in range(10)}
        return repository


def gets(count: int) -> bytes:
    return b"".join(named(number, "get", id=oid(number % 10)) for number in range(count))


class Part(bytearray):
    """A buffer of which one can tell whether anybody holds it."""


class LongReplies(Connection):
    """Answers each call with a large part and a small one. `held`: how many large ones there were at each call."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.services)
        self._parts: list[weakref.ref[Part]] = []
        self.held: list[int] = []

    def __iter__(self) -> Iterator[Reply]:
        for _ in super().__iter__():
            self.held.append(sum(part() is not None for part in self._parts))
            yield self._reply()

    def _reply(self) -> Reply:
        part = Part(LARGE)
        self._parts.append(weakref.ref(part))
        return b"\x92\x01\xc6" + len(part).to_bytes(4, "big"), part, b"\x01"


def test_a_session_ends_with_the_stream_and_closes_the_repository(pipes: Descriptors) -> None:
    served = Served(pipes, OPEN + named(2, "__len__"))
    assert served.status == 0
    assert served.results() == [REPOSITORY_ID, 0]
    assert served.host.repository.closed == 1
    assert served.connection.state is State.CLOSED


def test_a_message_that_was_never_finished_is_dropped(pipes: Descriptors) -> None:
    put = named(2, "put", id=oid(1), data=b"content")
    served = Served(pipes, OPEN + put[:-1])
    assert served.status == 0
    assert served.results() == [REPOSITORY_ID]
    assert not served.host.repository.objects
    assert served.host.repository.closed == 1


def test_what_is_no_request_ends_the_session_after_the_replies_to_what_came_before(pipes: Descriptors) -> None:
    served = Served(pipes, OPEN + b"\xc1" + named(2, "__len__"))
    assert served.status == served.connection.exit_code
    assert served.status > 0
    assert served.results() == [REPOSITORY_ID]
    assert served.host.repository.closed == 1


def test_objects_larger_than_a_pipe_go_both_ways(pipes: Descriptors) -> None:
    served = Served(pipes, OPEN + named(2, "put", id=oid(1), data=LARGE) + named(3, "get", id=oid(1)) * 3)
    assert served.results() == [REPOSITORY_ID, None, LARGE, LARGE, LARGE]


def test_descriptors_that_somebody_made_non_blocking_serve_as_well(pipes: Descriptors) -> None:
    os.set_blocking(pipes.stdin, False)
    os.set_blocking(pipes.stdout, False)
    served = Served(pipes, OPEN + named(2, "put", id=oid(1), data=LARGE) + named(3, "get", id=oid(1)) * 3)
    assert served.status == 0
    assert served.results() == [REPOSITORY_ID, None, LARGE, LARGE, LARGE]


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_writes_that_the_system_cuts_short_go_on(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    def short(descriptor: int, buffers: list[bytes]) -> int:
        return os.write(descriptor, b"".join(buffers)[:step])

    requests = OPEN + gets(30)
    monkeypatch.setattr(os, "writev", short)
    assert Served(pipes, requests, Full()).results() == [REPOSITORY_ID] + [bytes([n % 10]) * 10 for n in range(30)]


def test_a_reply_of_more_parts_than_the_system_takes_at_once_arrives(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [number.to_bytes(32, "big") for number in range(5000)]
    monkeypatch.setattr(FakeRepository, "list_batches", lambda *_: ((each,) for each in ids))
    requests = OPEN + named(2, "list", limit=None, marker=None)
    assert Served(pipes, requests).results() == [REPOSITORY_ID, ids]


def counted_writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that will hold the buffers and bytes of each write."""
    writes: list[tuple[int, int]] = []
    writev = os.writev

    def counting(descriptor: int, buffers: list[bytes]) -> int:
        writes.append((len(buffers), sum(map(len, buffers))))
        return writev(descriptor, buffers)

    monkeypatch.setattr(os, "writev", counting)
    return writes


def test_replies_to_calls_that_came_together_leave_together(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = counted_writes(monkeypatch)
    requests = OPEN + gets(1000)
    os.write(pipes.to_server, requests)
    pipes.close(pipes.to_server)
    served = Served(pipes, b"", Full())
    assert len(served.results()) == 1001
    assert len(writes) < 10
    assert max(buffers for buffers, _ in writes) <= 1024  # what one system call takes


@pytest.mark.parametrize(
    ("requests", "calls"),
    [
        (gets(3), 0),
        (named(2, "put", id=oid(1), data=b"x") + gets(1), 0),
        (named(2, "put", id=oid(1), data=b"x") * 3, 3),
    ],
)
def test_calls_may_gather_after_those_without_a_result(
    requests: bytes, calls: int, pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int, int]] = []

    def served(_: Gathering, calls: int, nbytes: int) -> None:
        reads.append((calls, nbytes))
        if len(reads) == 1:
            os.write(pipes.to_server, requests)
        else:
            pipes.close(pipes.to_server)

    monkeypatch.setattr(Gathering, "served", served)
    os.write(pipes.to_server, OPEN)
    host = Full()
    host.size = 100
    serve_stdio(Connection(host.services), stdin=pipes.stdin, stdout=pipes.stdout)
    assert reads == [(0, len(OPEN)), (calls, len(requests))]


def test_large_replies_are_not_gathered_in_memory(pipes: Descriptors, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Full()
    host.size = 100_000
    writes = counted_writes(monkeypatch)
    os.write(pipes.to_server, OPEN + gets(10))
    pipes.close(pipes.to_server)
    Served(pipes, b"", host)
    assert max(size for _, size in writes) < 3 * host.size


def test_a_client_that_went_away_ends_the_session_at_the_next_reply(pipes: Descriptors) -> None:
    host = Host()
    os.write(pipes.to_server, OPEN + named(2, "put", id=oid(1), data=b"x", wait=True))
    pipes.close(pipes.from_server)
    assert serve_stdio(Connection(host.services), stdin=pipes.stdin, stdout=pipes.stdout) == PEER_GONE
    assert host.repository.closed == 1


@pytest.mark.parametrize("moment", ["before it is read", "after it is read"])
def test_a_client_that_closes_everything_ends_its_session_well_although_a_look_falls_in_between(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    host, readv = Host(), os.readv
    os.write(pipes.to_server, OPEN)

    def closing(descriptor: int, buffers: list[memoryview]) -> int:
        if not host.opened:
            return readv(descriptor, buffers)
        pipes.close(pipes.to_server, pipes.from_server)
        if moment == "before it is read":
            signal.raise_signal(signal.SIGALRM)
        count = readv(descriptor, buffers)
        signal.raise_signal(signal.SIGALRM)
        return count

    monkeypatch.setattr(os, "readv", closing)
    connection = Connection(host.services)
    assert serve_stdio(connection, stdin=pipes.stdin, stdout=pipes.stdout) == 0
    assert connection.outcome == "completed"


def test_a_socket_of_which_the_client_closed_one_end_still_carries_the_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    host, writev = Host(), os.writev
    ours, theirs = socket.socketpair()

    def looking(descriptor: int, buffers: list[bytes]) -> int:
        signal.raise_signal(signal.SIGALRM)
        return writev(descriptor, buffers)

    monkeypatch.setattr(os, "writev", looking)
    with ours, theirs:
        theirs.sendall(OPEN)
        theirs.shutdown(socket.SHUT_WR)
        assert serve_stdio(Connection(host.services), stdin=ours.fileno(), stdout=ours.fileno()) == 0
        assert msgpack.unpackb(theirs.recv(1 << 16), raw=True, strict_map_key=False) == {b"i": 1, b"r": REPOSITORY_ID}


def test_a_connection_that_breaks_while_it_is_read_ends_the_session(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, readv = Host(), os.readv
    os.write(pipes.to_server, OPEN)
    waiting = [readv]

    def breaking(descriptor: int, buffers: list[memoryview]) -> int:
        if waiting:
            return waiting.pop()(descriptor, buffers)
        raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    monkeypatch.setattr(os, "readv", breaking)
    assert serve_stdio(Connection(host.services), stdin=pipes.stdin, stdout=pipes.stdout) == PEER_GONE
    assert host.repository.closed == 1


def test_pipes_are_enlarged(pipes: Descriptors) -> None:
    pipes.close(pipes.to_server)
    serve_stdio(Connection(Host().services), stdin=pipes.stdin, stdout=pipes.stdout)
    assert fcntl.fcntl(pipes.stdin, fcntl.F_GETPIPE_SZ) == fcntl.fcntl(pipes.stdout, fcntl.F_GETPIPE_SZ) == 1 << 20


def test_the_handlers_of_signals_that_were_found_are_put_back(pipes: Descriptors) -> None:
    watched = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE)
    found = {signum: signal.getsignal(signum) for signum in watched}
    pipes.close(pipes.to_server)
    serve_stdio(Connection(Host().services), stdin=pipes.stdin, stdout=pipes.stdout)
    assert {signum: signal.getsignal(signum) for signum in watched} == found


def test_a_thread_that_is_not_the_main_one_leaves_signals_alone(pipes: Descriptors) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    class Looking(Host):
        def _open(self, path: str, request: object) -> FakeRepository:
            seen.append(signal.getsignal(signal.SIGTERM))
            return super()._open(path, request)  # type: ignore[arg-type]

    serving = threading.Thread(target=lambda: seen.append(Served(pipes, OPEN, Looking()).status))
    serving.start()
    serving.join()
    assert seen == [handler, 0]


# --- time limits


class Told(Host):
    """A host that hears what is told, with a repository that is there before it is opened."""

    def __init__(self) -> None:
        self.prepared = FakeRepository("/srv/r")
        super().__init__()

    def _open(self, path: str, request: OpenRequest) -> FakeRepository:
        self.repositories.append(self.prepared)
        return self.prepared

    @property
    def told(self) -> list[str]:
        return [event.message() for event in self.reporter.events if event.level >= Level.ERROR]


def timed(pipes: Descriptors, host: Host, limits: TimeLimits) -> int:
    with open(os.devnull, "wb") as stderr:
        return serve_stdio(
            Connection(host.services), stdin=pipes.stdin, stdout=pipes.stdout, stderr=stderr.fileno(), limits=limits
        )


@pytest.mark.parametrize("sent", [b"", b"\x83\xa1i\x01", OPEN])
def test_an_idle_client_is_waited_for_no_longer_than_the_limit(pipes: Descriptors, sent: bytes) -> None:
    host = Told()
    os.write(pipes.to_server, sent)
    assert timed(pipes, host, TimeLimits(idle=0.2)) == PEER_GONE
    assert host.told == ["the client was idle for 0.2 seconds, which is the limit here; the session ends"]
    assert bool(host.prepared.closed) is (sent == OPEN)


def test_a_client_that_takes_nothing_is_idle_as_well(pipes: Descriptors) -> None:
    host = Told()
    host.prepared.objects[oid(1)] = LARGE
    os.write(pipes.to_server, OPEN + named(2, "get", id=oid(1)) * 20)
    assert timed(pipes, host, TimeLimits(idle=0.2)) == PEER_GONE
    assert len(host.told) == 1


def test_slow_is_not_idle(pipes: Descriptors) -> None:
    host = Told()
    host.prepared.objects[oid(1)] = LARGE * 4
    os.write(pipes.to_server, OPEN + named(2, "get", id=oid(1)))

    def read_slowly() -> None:
        missing = len(LARGE) * 4
        while received := os.read(pipes.from_server, 1 << 20):
            missing -= len(received)
            if missing <= 0:
                pipes.close(pipes.to_server)
                return
            time.sleep(0.8)

    reading = threading.Thread(target=read_slowly)
    reading.start()
    status = timed(pipes, host, TimeLimits(idle=1.9))
    pipes.close(pipes.stdout)
    reading.join()
    assert (status, host.told) == (0, [])


def test_a_server_that_works_does_not_count_the_client_as_idle(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Told()
    monkeypatch.setattr(host.prepared, "check", lambda **how: time.sleep(2.2) or True)
    os.write(pipes.to_server, OPEN + named(2, "check", repair=False))
    end = threading.Timer(2.5, pipes.close, [pipes.to_server])
    end.start()
    assert timed(pipes, host, TimeLimits(idle=0.5)) == 0
    end.join()
    assert host.told == []


def test_a_session_lasts_no_longer_than_the_limit_whatever_it_does(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Told()
    monkeypatch.setattr(host.prepared, "check", lambda **how: time.sleep(60) or True)
    os.write(pipes.to_server, OPEN + named(2, "check", repair=False))
    assert timed(pipes, host, TimeLimits(session=0.2)) == PEER_GONE
    assert host.told == ["the session has lasted 0.2 seconds, which is the limit here; the session ends"]
    assert host.prepared.closed


def test_a_limit_that_cannot_be_kept_is_refused(pipes: Descriptors) -> None:
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            timed(pipes, Host(), TimeLimits(idle=1))
        except UsageError as error:
            raised.append(error)

    serving = threading.Thread(target=serve)
    serving.start()
    serving.join()
    assert len(raised) == 1


# --- lines on standard error


def test_a_line_is_written_in_full_to_a_reader_that_is_slow(pipes: Descriptors) -> None:
    os.set_blocking(pipes.stdout, False)
    heard = bytearray()

    def read() -> None:
        while data := os.read(pipes.from_server, 1 << 16):
            heard.extend(data)

    reading = threading.Thread(target=read)
    reading.start()
    LineWriter(pipes.stdout)(LARGE)
    pipes.close(pipes.stdout)
    reading.join()
    assert heard == LARGE


def test_a_reader_that_is_gone_is_nobody_to_tell(pipes: Descriptors) -> None:
    pipes.close(pipes.from_server)
    write = LineWriter(pipes.stdout)
    write(b"line\n")
    number = pipes.stdout
    pipes.close(number)
    write(b"line\n")


@pytest.mark.parametrize("blocking", [True, False])
def test_lines_that_nobody_reads_are_dropped_until_somebody_does(pipes: Descriptors, blocking: bool) -> None:
    os.set_blocking(pipes.stdout, blocking)
    write = LineWriter(pipes.stdout, patience=0.2)
    line = b"x" * 99 + b"\n"
    for _ in range(5000):  # more than a pipe holds, and then some
        write(line)
    held = len(os.read(pipes.from_server, 1 << 20))
    assert 0 < held < 5000 * 100
    write(b"heard again\n")
    heard = os.read(pipes.from_server, 1 << 20)
    assert heard.endswith(b"\nheard again\n") or heard == b"heard again\n"


def test_nothing_more_is_read_when_there_is_no_memory_for_it(
    pipes: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(_: FrameReader) -> memoryview:
        raise ProtocolError("no memory")

    monkeypatch.setattr(FrameReader, "get_buffer", no_memory)
    connection = Connection(Host().services)
    # Neither bytes nor their end are there: a read would wait for ever.
    assert serve_stdio(connection, stdin=pipes.stdin, stdout=pipes.stdout) == BAD_STREAM
    assert connection.outcome == "rejected"
