"""What the wire tests share: recorded conversations, and msgpack's own reading of a stream to compare with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from borg_serve_lib.limits import MAX_COLLECTION_LENGTH
from borg_serve_lib.wire.calls import Call, call_from
from borg_serve_lib.wire.frames import FrameReader

CONVERSATIONS = Path(__file__).parent.parent / "fixtures" / "conversations"

REQUESTS = sorted(CONVERSATIONS.glob("*/*.requests"))
"""What clients 1.1.18, 1.2.4 and 1.4.5 have sent; the native server's answers are in files named `.replies`."""


def name_of(path: Path) -> str:
    return f"{path.parent.name} {path.stem}"


def packed(value: object) -> bytes:
    return msgpack.packb(value, use_bin_type=False)  # type: ignore[no-any-return]


def named(msgid: object, method: str, **arguments: object) -> bytes:
    return packed({"i": msgid, "m": method, "a": arguments})


def positional(msgid: object, method: str, *values: object) -> bytes:
    return packed((1, msgid, method, values))


def unpacked(stream: bytes) -> list[Any]:
    """Return the objects of a stream as msgpack reads them."""
    unpacker = msgpack.Unpacker(
        raw=True,
        strict_map_key=False,
        max_array_len=MAX_COLLECTION_LENGTH,
        max_map_len=MAX_COLLECTION_LENGTH,
    )
    unpacker.feed(stream)
    return list(unpacker)


def expected_calls(stream: bytes) -> list[Call]:
    return [call_from(request) for request in unpacked(stream)]


def settled(call: Call) -> Call:
    """Return the call with its data copied, so that it outlives the buffer."""
    if call.arguments is not None:
        for name, value in call.arguments.items():
            if isinstance(value, memoryview):
                call.arguments[name] = bytes(value)
    return call


def feed(reader: FrameReader, data: bytes) -> Iterator[Call]:
    """Put `data` into the reader as fast as it takes them; yield the calls."""
    rest = memoryview(data)
    while rest:
        room = reader.get_buffer()
        count = min(len(room), len(rest))
        room[:count] = rest[:count]
        reader.received(count)
        rest = rest[count:]
        while (call := reader.next_call()) is not None:
            yield settled(call)


def calls_in_pieces(stream: bytes, sizes: Iterator[int]) -> list[Call]:
    """Return the calls that a reader finds in a stream that comes in pieces of these sizes."""
    reader, calls, position = FrameReader(), [], 0
    while position < len(stream):
        size = next(sizes)
        calls += feed(reader, stream[position : position + size])
        position += size
    return calls
