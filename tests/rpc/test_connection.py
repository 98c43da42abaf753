"""Bytes in, replies out: order, laziness, and how a connection ends."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib import errors
from borg_serve_lib.events.locks import LockLost
from borg_serve_lib.events.session import (
    ClosingFailed,
    ConnectionRejected,
    InternalFailure,
    SessionClosed,
    SessionInterrupted,
    SessionTimedOut,
)
from borg_serve_lib.limits import MAX_MESSAGE_SIZE
from borg_serve_lib.reporting import Event, FanOut
from borg_serve_lib.rpc.connection import Connection, State
from borg_serve_lib.wire import frames
from borg_serve_lib.wire.loglines import ClientLog

from .support import ALLOWED_PATH, OPEN, REPOSITORY_ID, Client, Events, Host, named, oid, positional, unpacked

CONVERSATIONS = Path(__file__).parent.parent / "fixtures" / "conversations"


# --- order and formats


def test_calls_are_answered_in_order_and_errors_between_them_stop_nothing() -> None:
    client = Client(opened=True)
    client.host.repository.objects[oid(9)] = b"nine"
    failing = errors.IntegrityError("More than allowed put data [20971480 > 20971479]")
    queue = [
        (named(10, "put", id=oid(1), data=b"one"), None),
        (named(11, "put", id=b"short", data=b""), "AssertionError"),
        (named(12, "put", id=oid(2), data=b"two"), None),
        (named(13, "delete", id=oid(7)), "ObjectNotFound"),
        (named(14, "no_such_method"), "InvalidRPCMethod"),
        (named(15, "put", id=oid(3), data=b"three"), None),
        (named(16, "commit", compact=False), None),
    ]
    replies = client.says(b"".join(message for message, _ in queue))
    assert [reply["i"] for reply in replies] == [10, 11, 12, 13, 14, 15, 16]
    assert [reply.get("exception_class") for reply in replies] == [fault for _, fault in queue]
    assert set(client.host.repository.objects) == {oid(1), oid(2), oid(3), oid(9)}
    client.host.repository.failures["put"] = failing
    assert client.calls("put", id=oid(4), data=b"")[0] == "IntegrityError"


def test_both_formats_may_be_mixed_each_call_is_answered_in_its_own() -> None:
    client = Client()
    stream = (
        positional(1, "negotiate", {"client_version": (1, 4, 5, -1)})
        + named(2, "open", path=ALLOWED_PATH)
        + positional(3, "__len__")
        + named("four", "__len__")
        + positional(5, "get", oid(1))
        + named(6, "get", id=oid(1))
    )
    replies = client.says(stream)
    assert replies[0] == [1, 1, None, {b"server_version": [1, 4, 5, -1]}]
    assert replies[1] == {"i": 2, "r": REPOSITORY_ID}
    assert replies[2] == [1, 3, None, 0]
    assert replies[3] == {"i": b"four", "r": 0}
    assert replies[4][:3] == [1, 5, b"ObjectNotFound"]
    assert (replies[5]["i"], replies[5]["exception_class"]) == (6, "ObjectNotFound")


@pytest.mark.parametrize("path", sorted(CONVERSATIONS.glob("*/create.requests")), ids=lambda path: path.parent.name)
def test_a_recorded_conversation_byte_by_byte_gets_the_same_replies_as_at_once(path: Path) -> None:
    stream = path.read_bytes().replace(b"\xa7/./repo", b"\xa6/srv/r")
    at_once, slowly = Client(), Client()
    whole = at_once.hears(stream)
    assert whole
    assert b"".join(slowly.hears(bytes([byte])) for byte in stream) == whole
    assert at_once.host.repository.journal == slowly.host.repository.journal
    assert [entry[0] for entry in at_once.host.repository.journal if entry[0] in ("put", "commit")][-1] == "commit"


QUEUE = OPEN + b"".join(
    named(number, "put", id=oid(number), data=b"x" * number) + named(number, "get", id=oid(number))
    for number in range(20)
)


@settings(max_examples=50)
@given(st.sets(st.integers(1, len(QUEUE) - 1), max_size=20))
def test_however_a_stream_is_cut_the_replies_are_the_same(cuts: set[int]) -> None:
    client = Client()
    ends = [0, *sorted(cuts), len(QUEUE)]
    assert b"".join(client.hears(QUEUE[a:b]) for a, b in pairwise(ends)) == Client().hears(QUEUE)


# --- laziness


def test_a_call_is_not_carried_out_before_its_reply_is_asked_for() -> None:
    client = Client(opened=True)
    client.hand_over(named(1, "put", id=oid(1), data=b"one") + named(2, "put", id=oid(2), data=b"two"))
    journal = client.host.repository.journal
    assert journal == []
    replies = iter(client.connection)
    next(replies)
    assert len(journal) == 1
    next(replies)
    assert len(journal) == 2
    with pytest.raises(StopIteration):
        next(replies)


def test_the_data_of_a_get_are_handed_on_and_not_copied() -> None:
    client = Client(opened=True)
    stored = b"z" * 100_000
    client.host.repository.objects[oid(1)] = stored
    client.hand_over(named(1, "get", id=oid(1)))
    ((head, data),) = client.connection
    assert isinstance(data, memoryview)
    assert data.obj is stored
    assert unpacked(bytes(head) + bytes(data)) == [{"i": 1, "r": stored}]


def test_gets_that_wait_are_announced_before_the_first_is_carried_out() -> None:
    client = Client(opened=True)
    repository = client.host.repository
    repository.objects |= {oid(number): b"data" for number in range(5)}
    client.hand_over(b"".join(named(number, "get", id=oid(number)) for number in range(5)) + named(9, "__len__"))
    replies = iter(client.connection)
    next(replies)
    assert repository.announced == [[oid(1), oid(2), oid(3), oid(4)]]
    assert len(list(replies)) == 5
    assert repository.announced == [[oid(1), oid(2), oid(3), oid(4)]]


def test_a_long_queue_of_gets_is_announced_in_parts_each_once() -> None:
    client = Client(opened=True)
    repository = client.host.repository
    ids = [number.to_bytes(32, "big") for number in range(200)]
    repository.objects |= dict.fromkeys(ids, b"")
    client.hears(b"".join(named(1, "get", id=object_id) for object_id in ids))
    assert [object_id for part in repository.announced for object_id in part] == [
        object_id for number, object_id in enumerate(ids) if number % 65
    ]
    assert max(map(len, repository.announced)) == 64


def test_what_the_system_has_in_memory_is_not_announced() -> None:
    client = Client(opened=True)
    repository = client.host.repository
    repository.reads_slowly = False
    repository.objects |= {oid(number): b"data" for number in range(5)}
    client.hand_over(b"".join(named(number, "get", id=oid(number)) for number in range(5)))
    replies = iter(client.connection)
    next(replies)
    assert repository.announced == []
    repository.reads_slowly = True
    assert len(list(replies)) == 4
    assert repository.announced == [[oid(2), oid(3), oid(4)]]


def test_gets_before_an_open_announce_nothing_and_get_their_errors() -> None:
    replies = Client().says(named(1, "get", id=oid(1)) + named(2, "get", id=oid(2)))
    assert [reply["exception_class"] for reply in replies] == ["AttributeError", "AttributeError"]


def test_an_announcement_that_fails_does_not_hurt_the_calls() -> None:
    client = Client(opened=True)
    client.host.repository.failures["announce"] = RuntimeError("broken")
    client.host.repository.objects[oid(1)] = b"one"
    replies = client.says(named(1, "get", id=oid(1)) + named(2, "get", id=oid(1)))
    assert [reply["r"] for reply in replies] == [b"one", b"one"]
    assert len(client.host.reporter.of(InternalFailure)) == 1


# --- what is no call


@pytest.mark.parametrize(("garbage", "code"), [(b"ls -la\n", 85), (b"\xc1", 2), (b"\x82\xa1i\x01\xa1x\x02", 2)])
def test_garbage_ends_the_connection_after_the_calls_before_it(garbage: bytes, code: int) -> None:
    client = Client()
    replies = client.says(OPEN + named(2, "__len__") + garbage + named(3, "__len__"))
    assert [reply["i"] for reply in replies] == [1, 2]
    connection = client.connection
    assert (connection.state, connection.ended, connection.exit_code) == (State.FAILED, True, code)
    assert len(client.host.reporter.of(ConnectionRejected)) == 1
    assert [line.split()[1] for line in client.host.lines] == [b"ERROR"]
    assert list(connection) == []
    connection.close()
    assert client.host.repository.closed == 1
    assert (connection.state, connection.exit_code) == (State.FAILED, code)


def test_the_repository_is_given_back_before_anybody_is_told_of_garbage() -> None:
    host = Host()
    told: list[tuple[str, int]] = []
    log = ClientLog(lambda _: told.append(("client", host.repository.closed)), now=lambda: 0.0)

    class Slow(Events):
        def report(self, event: Event) -> None:
            if isinstance(event, ConnectionRejected):
                told.append(("host", host.repository.closed))

    host.services = host.services.evolve(client_log=log, host_reporter=Slow(), reporter=FanOut([log, Slow()]))
    client = Client(host, opened=True)
    client.hears(b"\xc1")
    assert told == [("host", 1), ("client", 1)]


def test_a_message_that_is_announced_too_long_is_refused_at_its_head() -> None:
    client = Client()
    client.hears(b"\x94\x01\x01\xa3put\x92\xda\x00\x20" + bytes(32) + b"\xdb" + MAX_MESSAGE_SIZE.to_bytes(4, "big"))
    assert (client.connection.state, client.connection.exit_code) == (State.FAILED, 2)


GARBAGE = st.binary(max_size=40) | st.sampled_from(
    [OPEN, named(2, "put", id=oid(1), data=b"d"), positional(3, "rollback")]
)


@settings(max_examples=300)
@given(st.lists(GARBAGE, max_size=6).map(b"".join), st.integers(1, 60))
def test_garbage_ends_in_replies_or_a_failed_connection_and_always_in_a_closed_repository(
    stream: bytes, size: int
) -> None:
    client = Client()
    replies = b"".join(client.hears(stream[start : start + size]) for start in range(0, len(stream), size))
    unpacked(replies)
    connection = client.connection
    assert (connection.state is State.FAILED) == (connection.exit_code in (2, 85))
    connection.eof_received()
    connection.close()
    assert connection.ended
    assert all(repository.closed for repository in client.host.repositories)


# --- the end


def test_a_connection_begins_open() -> None:
    connection = Client().connection
    assert (connection.state, connection.ended, connection.exit_code) == (State.OPEN, False, 0)


def test_at_the_end_of_the_stream_the_calls_that_are_whole_are_answered_and_the_rest_is_dropped() -> None:
    client = Client(opened=True)
    client.hand_over(named(2, "__len__") + named(3, "__len__")[:-1])
    client.connection.eof_received()
    assert (client.connection.state, client.connection.ended) == (State.CLOSED, True)
    replies = b"".join(bytes(buffer) for reply in client.connection for buffer in reply)
    assert unpacked(replies) == [{"i": 2, "r": 0}]
    client.connection.close()
    assert client.connection.exit_code == 0
    assert client.host.lines == []
    assert client.host.repository.closed == 1


def test_nothing_is_committed_or_rolled_back_at_the_end() -> None:
    client = Client(opened=True)
    client.calls("put", id=oid(1), data=b"uncommitted")
    client.connection.eof_received()
    client.connection.close()
    assert [entry[0] for entry in client.host.repository.journal] == ["put"]


def test_closing_twice_is_fine_and_after_it_nothing_is_carried_out() -> None:
    client = Client(opened=True)
    client.hand_over(named(2, "put", id=oid(1), data=b""))
    client.connection.close()
    client.connection.close()
    assert list(client.connection) == []
    assert client.host.repository.closed == 1
    assert client.host.repository.journal == []


@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (errors.NotLocked("/r/lock"), LockLost),
        (errors.NotMyLock("/r/lock"), LockLost),
        (errors.StorageError(5, "I/O error", "data/0/1"), ClosingFailed),
        (RuntimeError("unforeseen"), InternalFailure),
    ],
)
def test_a_repository_that_cannot_be_closed_properly_is_reported_and_makes_the_exit_code_2(
    failure: Exception, event: type
) -> None:
    client = Client(opened=True)
    client.host.repository.failures["close"] = failure
    client.connection.close()
    assert client.connection.exit_code == 2
    assert len(client.host.reporter.of(event)) == 1


def test_the_exit_code_of_a_rejected_connection_is_kept_whatever_closing_brings() -> None:
    client = Client(opened=True)
    client.hears(b"garbage")
    client.host.repository.failures["close"] = errors.NotLocked("/r/lock")
    client.connection.close()
    assert client.connection.exit_code == 85


CUT_SHORT = {
    "signal SIGTERM": (lambda client: client.connection.interrupted("SIGTERM"), SessionInterrupted),
    "timed out": (lambda client: client.connection.timed_out("it was idle for too long"), SessionTimedOut),
    "rejected": (lambda client: client.hears(b"\xc1"), ConnectionRejected),
}


@pytest.mark.parametrize("outcome", CUT_SHORT)
def test_the_host_learns_what_cut_a_session_short_before_the_session_is_closed(outcome: str) -> None:
    cut, kind = CUT_SHORT[outcome]
    client = Client(opened=True)
    cut(client)
    client.connection.close()  # and the client is never told
    first, last = client.host.reporter.events[-2:]
    assert isinstance(first, kind)
    assert isinstance(last, SessionClosed)
    assert last.outcome == outcome
    assert len(client.host.reporter.of(kind)) == 1


def test_a_signal_that_ended_the_session_is_one_line_of_level_error_for_the_client() -> None:
    client = Client()
    client.connection.interrupted("SIGTERM")
    client.connection.close()
    assert client.host.lines == []
    for _ in range(2):
        client.connection.tell_client()
    assert client.host.lines == [b"$LOG ERROR borg.remote Remote: received SIGTERM, the session ends\n"]


# --- as an asyncio protocol sees it


def test_the_size_an_event_loop_hints_at_is_taken_and_there_is_always_room() -> None:
    connection = Connection(Host().services)
    for hint in (-1, 0, 1, 1 << 20):
        assert len(connection.get_buffer(hint)) > 0


def no_memory(*_: object, **__: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("wanted_for", ["its bytes", "its objects"])
def test_without_memory_for_a_request_the_connection_ends_in_good_order(
    wanted_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(opened=True)
    if wanted_for == "its bytes":
        monkeypatch.setattr(frames, "bytearray", no_memory, raising=False)
    else:
        monkeypatch.setattr(msgpack, "unpackb", no_memory)
    assert client.says(named(2, "save_key", keydata=bytes(1 << 20))) == []
    assert (client.connection.state, client.connection.exit_code) == (State.FAILED, 2)
    assert client.host.repository.closed == 1
    (event,) = client.host.reporter.of(ConnectionRejected)
    assert event.reason == "the server has not enough memory for a request of this size"
