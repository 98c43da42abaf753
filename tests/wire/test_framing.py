"""Where an object ends: compared with msgpack, cut at every length, and at every limit."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import ProtocolError
from borg_serve_lib.limits import MAX_COLLECTION_LENGTH, MAX_MESSAGE_OBJECTS, MAX_MESSAGE_SIZE, MAX_NESTING
from borg_serve_lib.wire.framing import Incomplete, measure

from .support import packed

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=40)
    | st.text(max_size=40)
)
OBJECTS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=25,
)


def needed(data: bytes) -> int:
    with pytest.raises(Incomplete) as incomplete:
        measure(data, 0, len(data))
    return incomplete.value.needed


@settings(max_examples=60)
@given(OBJECTS, st.booleans())
def test_an_object_ends_where_msgpack_says_and_not_before(value: Any, use_bin_type: bool) -> None:
    data = msgpack.packb(value, use_bin_type=use_bin_type)
    assert measure(data + b"\x00rest", 0, len(data) + 5) == len(data)
    assert measure(b"\xc1" + data, 1, len(data) + 1) == len(data) + 1
    for length in range(len(data)):
        assert length < needed(data[:length]) <= len(data)


@pytest.mark.parametrize(
    "head", [b"\xc4\x20", b"\xc5\x00\x20", b"\xc6\0\0\0\x20", b"\xd9\x20", b"\xda\x00\x20", b"\xdb\0\0\0\x20"]
)
def test_the_length_of_a_string_tells_at_once_how_many_bytes_are_needed(head: bytes) -> None:
    assert needed(head) == len(head) + 0x20
    assert measure(head + bytes(0x20), 0, len(head) + 0x20) == len(head) + 0x20


@pytest.mark.parametrize("first", [0xC1, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8])
def test_a_byte_that_begins_nothing_a_client_sends_is_refused(first: int) -> None:
    with pytest.raises(ProtocolError, match=f"{first:#04x}"):
        measure(bytes([first]), 0, 1)


def test_every_other_byte_begins_something() -> None:
    refused = [first for first in range(256) if not begins_something(first)]
    assert refused == [0xC1, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8]


def begins_something(first: int) -> bool:
    try:
        measure(bytes([first]) + bytes(100), 0, 101)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("first", [0xDC, 0xDD, 0xDE, 0xDF])
def test_a_collection_may_have_as_many_items_as_borg_allows_and_no_more(first: int) -> None:
    form = ">H" if first in (0xDC, 0xDE) else ">I"
    nils = b"\xc0" * (2 * MAX_COLLECTION_LENGTH)
    allowed = bytes([first]) + struct.pack(form, MAX_COLLECTION_LENGTH) + nils
    items = MAX_COLLECTION_LENGTH * (2 if first in (0xDE, 0xDF) else 1)
    assert measure(allowed, 0, len(allowed)) == 1 + struct.calcsize(form) + items
    with pytest.raises(ProtocolError, match="more than 100 items"):
        measure(bytes([first]) + struct.pack(form, MAX_COLLECTION_LENGTH + 1), 0, 1 + struct.calcsize(form))


def nested(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


def test_collections_may_be_nested_so_deep_and_no_deeper() -> None:
    allowed, refused = packed(nested(MAX_NESTING)), packed(nested(MAX_NESTING + 1))
    assert measure(allowed, 0, len(allowed)) == len(allowed)
    with pytest.raises(ProtocolError, match="nested"):
        measure(refused, 0, len(refused))


def test_a_request_may_have_so_many_parts_and_no_more() -> None:
    full_rows: list[Any] = [[None] * 98] * 10  # each row is a part, too, and so is the outer array
    left = MAX_MESSAGE_OBJECTS - 1 - 10 * 99
    allowed = packed(full_rows + [None] * left)
    assert measure(allowed, 0, len(allowed)) == len(allowed)
    refused = packed(full_rows + [None] * (left + 1))
    with pytest.raises(ProtocolError, match="more than 1000 parts"):
        measure(refused, 0, len(refused))


@pytest.mark.parametrize("first", [0xC6, 0xDB])
def test_a_string_that_makes_the_request_too_long_is_refused_before_it_comes(first: int) -> None:
    longest = MAX_MESSAGE_SIZE - 5
    assert needed(bytes([first]) + struct.pack(">I", longest)) == MAX_MESSAGE_SIZE
    with pytest.raises(ProtocolError, match="longer than"):
        measure(bytes([first]) + struct.pack(">I", longest + 1), 0, 5)
