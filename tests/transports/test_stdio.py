"""A session on descriptors: whole replies in few writes, ends in good order however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import threading
from collections.abc import Iterator

import msgpack
import pytest

from borg_serve_lib.rpc.connection import Connection, State
from borg_serve_lib.transports.stdio import serve_stdio, write_stderr

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

    def __init__(self, pipes: Descriptors, requests: bytes, host: Host | None = None) -> None:
        self.host = host or Host()
        self.replies = b""
        self.connection = Connection(self.host.services)
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


class Full(Host):
    """Each repository has some objects of a size."""

    size = 10

    def _open(self, path: str, request: object) -> FakeRepository:
        repository = super()._open(path, request)  # type: ignore[arg-type]
        repository.objects = {oid(number): bytes([number]) * self.size for number in range(10)}
        return repository


def gets(count: int) -> bytes:
    return b"".join(named(number, "get", id=oid(number % 10)) for number in range(count))


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


# --- lines on standard error


def test_a_line_is_written_in_full_to_a_reader_that_is_slow(pipes: Descriptors) -> None:
    os.set_blocking(pipes.stdout, False)
    heard = bytearray()

    def read() -> None:
        while data := os.read(pipes.from_server, 1 << 16):
            heard.extend(data)

    reading = threading.Thread(target=read)
    reading.start()
    write_stderr(pipes.stdout, LARGE)
    pipes.close(pipes.stdout)
    reading.join()
    assert heard == LARGE


def test_a_reader_that_is_gone_is_nobody_to_tell(pipes: Descriptors) -> None:
    pipes.close(pipes.from_server)
    write_stderr(pipes.stdout, b"line\n")
    number = pipes.stdout
    pipes.close(number)
    write_stderr(number, b"line\n")
