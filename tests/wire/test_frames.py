"""The receive buffer: recorded conversations, cut everywhere, and frames recognised by shape as msgpack reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import ProtocolError, UnexpectedRPCDataFormat
from borg_serve_lib.limits import MAX_COLLECTION_LENGTH, MAX_MESSAGE_SIZE
from borg_serve_lib.wire import frames
from borg_serve_lib.wire.calls import Call, call_from
from borg_serve_lib.wire.frames import FrameReader

from .support import (
    REQUESTS,
    calls_in_pieces,
    expected_calls,
    feed,
    name_of,
    named,
    packed,
    positional,
    settled,
    unpacked,
)

ID, OTHER_ID = bytes(range(32)), b"\xda" * 32
Outcome = tuple[list[Call], type[Exception] | None]
SMALL = [path for path in REQUESTS if path.stem == "list-archive"]


def only_call(data: bytes) -> Call:
    (call,) = feed(FrameReader(), data)
    return call


# --- recorded conversations


def test_there_are_conversations_of_three_clients() -> None:
    assert {path.parent.name for path in REQUESTS} == {"1.1.18", "1.2.4", "1.4.5"}


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_a_recorded_conversation_is_read_as_msgpack_reads_it_however_it_comes(path: Path, size: int) -> None:
    stream = path.read_bytes()
    assert calls_in_pieces(stream, itertools.repeat(size)) == expected_calls(stream)


@pytest.mark.parametrize("path", SMALL, ids=name_of)
def test_a_recorded_conversation_can_be_cut_anywhere(path: Path) -> None:
    stream = path.read_bytes()
    expected = expected_calls(stream)
    for cut in range(1, len(stream)):
        assert calls_in_pieces(stream, iter([cut, len(stream) - cut])) == expected


@pytest.mark.parametrize("path", SMALL, ids=name_of)
def test_a_conversation_that_ends_early_gives_the_calls_that_are_whole(path: Path) -> None:
    stream = path.read_bytes()
    expected = expected_calls(stream)
    ends = [0]
    for request in unpacked(stream):
        ends.append(ends[-1] + len(packed(request)))
    assert ends[-1] == len(stream)
    for length in range(len(stream)):
        whole = sum(end <= length for end in ends[1:])
        assert list(feed(FrameReader(), stream[:length])) == expected[:whole]


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_the_frequent_frames_of_real_clients_are_recognised_without_msgpack(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = path.read_bytes()
    measured: list[Call] = []
    read_the_long_way = FrameReader._other_call

    def counted(reader: FrameReader) -> Call:
        call = read_the_long_way(reader)
        measured.append(call)
        return call

    monkeypatch.setattr(FrameReader, "_other_call", counted)
    list(feed(FrameReader(), stream))
    assert not {call.method for call in measured} & {"get", "put", "delete"}


# --- shapes


NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 2**32 - 1, 2**32, 2**64 - 1, -1]
MSGIDS = st.sampled_from([*NUMBERS, "id", "\0" * 40])
IDS = st.sampled_from([ID, OTHER_ID, bytes(32), ID[:31], ID + b"x", b"", 5, None])
SIZES = st.sampled_from([0, 1, 31, 32, 33, 255, 256, 65535, 65536, 70000])
DATA = SIZES.map(lambda size: b"\xa4wait\xc3"[:size].ljust(size, b"d"))
THIRD = st.sampled_from(
    [{}, {"wait": True}, {"wait": False}, {"wait": None}, {"wait": 1}, {"x": None}, {"waiting": True}]
)


@st.composite
def frequent_frames(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["get", "put", "delete", "got"]))
    arguments: dict[str, object] = {"id": draw(IDS)}
    if method == "put":
        arguments["data"] = draw(DATA)
    arguments |= draw(THIRD)
    if draw(st.booleans()):
        arguments = dict(reversed(arguments.items()))
    request = {"i": draw(MSGIDS), "m": method, "a": arguments}
    if not draw(st.integers(0, 4)):
        request = dict(reversed(request.items()))
    return msgpack.packb(request, use_bin_type=not draw(st.integers(0, 4)))


@settings(max_examples=200)
@given(st.lists(frequent_frames(), min_size=1, max_size=4), st.integers(1, 100))
def test_a_frame_of_a_known_shape_is_read_exactly_as_msgpack_reads_it(messages: list[bytes], size: int) -> None:
    stream = b"".join(messages)
    expected = expected_calls(stream)
    assert calls_in_pieces(stream, itertools.repeat(len(stream))) == expected
    if len(stream) < 2000:
        assert calls_in_pieces(stream, itertools.repeat(size)) == expected


SHAPED = [
    named(300, "get", id=ID),
    named(3, "delete", id=ID),
    named(200, "put", id=ID, data=b"data"),
    named(70000, "put", id=ID, data=b"d" * 40, wait=True),
]


@pytest.mark.parametrize("message", SHAPED)
def test_with_any_bit_flipped_a_frame_is_still_read_as_msgpack_reads_it(message: bytes) -> None:
    for bit in range(8 * len(message)):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        stream = bytes(flipped) + named(1, "get", id=OTHER_ID)
        assert_same(outcome(feed(FrameReader(), stream)), outcome(iter_expected(stream)))


def assert_same(ours: Outcome, theirs: Outcome) -> None:
    assert ours[0] == theirs[0]
    # In a message that is not complete, one may notice earlier than the other that it never will be.
    assert ours[1] is theirs[1] or {ours[1], theirs[1]} == {ProtocolError, None}


def iter_expected(stream: bytes) -> Iterator[Call]:
    unpacker = msgpack.Unpacker(
        raw=True,
        strict_map_key=False,
        max_array_len=MAX_COLLECTION_LENGTH,
        max_map_len=MAX_COLLECTION_LENGTH,
        max_str_len=MAX_MESSAGE_SIZE - 100,
        max_bin_len=MAX_MESSAGE_SIZE - 100,
        max_ext_len=0,
        ext_hook=refuse_extension,
    )
    unpacker.feed(stream)
    while True:
        try:
            request = unpacker.unpack()
        except msgpack.OutOfData:
            return
        except (ValueError, TypeError) as error:  # a list as a key of a map is a TypeError
            raise ProtocolError("no msgpack") from error
        yield call_from(request)


def refuse_extension(code: int, data: bytes) -> object:
    raise ValueError(f"extension {code}: {data!r}")


def outcome(calls: Iterator[Call]) -> Outcome:
    found: list[Call] = []
    try:
        found.extend(map(settled, calls))
    except ProtocolError as error:
        return found, type(error)
    return found, None


def test_a_third_field_other_than_wait_does_not_make_a_put_wait_for_bytes_that_never_come() -> None:
    assert only_call(named(1, "put", id=ID, data=b"d", x=None)).arguments == {"id": ID, "data": b"d", "x": None}


def test_object_data_are_handed_out_where_they_were_received() -> None:
    for wait in ({}, {"wait": True}):
        reader = FrameReader()
        message = named(5, "put", id=ID, data=b"z" * 5000, **wait)
        room = reader.get_buffer()
        room[: len(message)] = message
        reader.received(len(message))
        call = reader.next_call()
        assert call is not None
        assert call.arguments is not None
        view = call.arguments["data"]
        assert isinstance(view, memoryview)
        assert view.obj is room.obj
        assert view == b"z" * 5000


# --- garbage and limits


@pytest.mark.parametrize(
    "garbage", [b"hello\n", b"\x00", b"\xc0", b"\x90", b"\x93\x01\x01\x01", b"\x95" + b"\x01" * 5, b"\xa2ls"]
)
def test_what_is_neither_a_map_nor_an_array_of_four_is_unexpected_data(garbage: bytes) -> None:
    with pytest.raises(UnexpectedRPCDataFormat):
        only_call(garbage)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xc1",
        b"\x80",
        packed({"i": 1}),
        packed({"m": "get", "a": {}}),
        packed({"i": 1, "m": "get", "a": []}),
        packed({"i": 1, "m": "get", "a": {1: 2}}),
        packed({"i": 1, "m": 5, "a": {}}),
        packed({"i": 1, "m": "x" * 101, "a": {}}),
        packed({"i": None, "m": "get", "a": {}}),
        packed({"i": True, "m": "get", "a": {}}),
        packed({"i": 1.5, "m": "get", "a": {}}),
        packed({"i": [1], "m": "get", "a": {}}),
        packed((1, 1, "get", {})),
        packed((1, 1, None, [])),
        packed((1, {}, "get", [])),
        b"\x81\x90\x01",
        b"\x83\xa1i\xd4\x01\x00",
        packed(list(range(101))),
        b"\xdb\xff\xff\xff\xff",
    ],
)
def test_what_is_no_request_in_another_way_ends_the_connection_as_a_protocol_error(garbage: bytes) -> None:
    with pytest.raises(ProtocolError) as refusal:
        only_call(garbage)
    assert type(refusal.value) is ProtocolError


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=60) | st.sampled_from(SHAPED), max_size=6).map(b"".join), st.integers(1, 50))
@example(b"\x83\xa1i\x01\xa1m\xa3put\xa1a\x82\xa2id\xda\x00\x20" + bytes(32) + b"\xa4data\xdb\xff\xff\xff\xff", 9)
def test_garbage_is_read_as_msgpack_reads_it_and_raises_nothing_but_protocol_errors(stream: bytes, size: int) -> None:
    reader = FrameReader()
    pieces = (stream[start : start + size] for start in range(0, len(stream), size))
    found = outcome(call for piece in pieces for call in feed(reader, piece))
    assert_same(found, outcome(iter_expected(stream)))


def put_of_size(total: int, **third: object) -> Iterator[bytes]:
    """Yield a put request of `total` bytes in pieces, without the last byte."""
    head = named(1, "put", id=ID, data=b"x" * 0x10000, **third).partition(b"x" * 0x10000)
    size = total - len(head[0]) - len(head[2])
    yield head[0][:-4] + size.to_bytes(4, "big")
    while size > 1 << 20:
        yield bytes(1 << 20)
        size -= 1 << 20
    yield bytes(size) + head[2][:-1] if head[2] else bytes(size - 1)


@pytest.mark.parametrize("third", [{}, {"wait": True}])
def test_the_largest_request_is_taken_with_a_buffer_that_is_no_larger(third: dict[str, Any]) -> None:
    reader = FrameReader()
    for piece in put_of_size(MAX_MESSAGE_SIZE, **third):
        assert list(feed(reader, piece)) == []
    assert reader.pending == MAX_MESSAGE_SIZE - 1
    assert len(reader.get_buffer().obj) == MAX_MESSAGE_SIZE  # type: ignore[arg-type]
    room = reader.get_buffer()
    room[:1] = b"\xc3" if third else b"\0"
    reader.received(1)
    call = reader.next_call()
    assert call is not None
    assert call.method == "put"


@pytest.mark.parametrize("third", [{}, {"wait": True}])
def test_a_larger_request_is_refused_as_soon_as_its_size_is_known(third: dict[str, Any]) -> None:
    head = next(put_of_size(MAX_MESSAGE_SIZE + 1, **third))
    with pytest.raises(ProtocolError, match="longer than"):
        # With a third field, only what comes after the data makes it too long.
        list(feed(FrameReader(), b"".join(put_of_size(MAX_MESSAGE_SIZE + 1, **third)) if third else head))


# --- the buffer


def test_there_is_always_room_for_more() -> None:
    reader = FrameReader()
    for piece in itertools.chain(put_of_size(3_000_000), [b"\0"], [named(1, "get", id=ID)[:-1]] * 1):
        list(feed(reader, piece))
        assert len(reader.get_buffer()) > 0


def test_a_large_message_on_its_way_is_not_looked_at_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    measure = frames.measure

    def counted(data: Any, start: int, end: int) -> int:
        looks.append(end - start)
        return measure(data, start, end)

    monkeypatch.setattr(frames, "measure", counted)
    message = positional(1, "put", ID, b"p" * 5_000_000)
    reader = FrameReader()
    pieces = [message[start : start + (1 << 16)] for start in range(0, len(message), 1 << 16)]
    assert len([call for piece in pieces for call in feed(reader, piece)]) == 1
    assert len(looks) == 2


def test_after_a_large_message_the_buffer_shrinks_even_if_the_next_has_begun() -> None:
    reader = FrameReader()
    message = named(1, "put", id=ID, data=bytes(15_000_000))
    begun = named(2, "get", id=ID)
    list(feed(reader, message[:-1]))
    large = len(reader.get_buffer().obj)  # type: ignore[arg-type]
    assert large >= 15_000_000
    list(feed(reader, message[-1:] + begun[:20]))
    assert len(reader.get_buffer().obj) < 300_000  # type: ignore[arg-type]
    assert [call.method for call in feed(reader, begun[20:])] == ["get"]


def test_a_buffer_for_borgs_usual_chunks_is_kept() -> None:
    reader = FrameReader()
    message = named(1, "put", id=ID, data=bytes(8 << 20))
    list(feed(reader, message))
    kept = reader.get_buffer().obj
    list(feed(reader, message))
    assert reader.get_buffer().obj is kept


def test_a_stream_of_small_requests_never_needs_a_larger_buffer() -> None:
    reader = FrameReader()
    stream = b"".join(named(number, "put", id=ID, data=bytes(number % 3000)) for number in range(1000))
    first = reader.get_buffer().obj
    assert len(list(feed(reader, stream))) == 1000
    assert reader.get_buffer().obj is first


# --- looking ahead


def ready(stream: bytes) -> FrameReader:
    reader = FrameReader()
    reader.get_buffer()[: len(stream)] = stream
    reader.received(len(stream))
    return reader


def test_gets_that_wait_are_seen_in_order_up_to_the_first_other_call() -> None:
    ids = [bytes([number]) * 32 for number in range(5)]
    gets = b"".join(named(number, "get", id=object_id) for number, object_id in enumerate(ids))
    reader = ready(gets + named(9, "load_key") + gets)
    assert reader.waiting_gets(10) == ids
    assert reader.waiting_gets(2) == ids[:2]
    assert reader.next_call() == Call(b"\x00", "get", {"id": ids[0]}, named=True)
    assert reader.waiting_gets(10) == ids[1:]


def test_a_get_that_is_not_complete_does_not_wait_yet() -> None:
    message = named(1, "get", id=ID)
    assert ready(message + message[:-1]).waiting_gets(10) == [ID]
    assert ready(b"").waiting_gets(10) == []


def test_a_length_that_was_only_announced_gets_little_room() -> None:
    reader = FrameReader()
    stream = b"\xdb" + (59 << 20).to_bytes(4, "big")
    room = reader.get_buffer()
    room[: len(stream)] = stream
    reader.received(len(stream))
    assert reader.next_call() is None
    assert len(reader.get_buffer()) <= 9 << 20


def test_a_large_message_gets_the_room_it_needs_as_it_comes() -> None:
    stream = named(3, "put", id=bytes(32), data=bytes(50 << 20))
    reader = FrameReader()
    position, rooms = 0, 0
    while position < len(stream):
        room = reader.get_buffer()
        piece = stream[position : position + len(room)]
        room[: len(piece)] = piece
        reader.received(len(piece))
        position += len(piece)
        rooms += 1
        call = reader.next_call()
        assert (call is not None) is (position == len(stream))
    assert rooms <= 5
