"""One entry, as bytes."""

from __future__ import annotations

import zlib
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import IntegrityError, InvalidArgument
from borg_serve_lib.format import entry
from borg_serve_lib.limits import MAX_DATA_SIZE, MAX_ENTRY_SIZE

ID = bytes(range(32))


def framed(tag: int, rest: bytes) -> bytes:
    """An entry by the specification's table, with zlib's CRC."""
    body = pack("<IB", len(rest) + 9, tag) + rest
    return pack("<I", zlib.crc32(body)) + body


@given(st.binary(max_size=300), st.binary(min_size=32, max_size=32))
def test_a_put_is_the_bytes_of_the_specification_and_reads_back(data: bytes, object_id: bytes) -> None:
    whole = entry.put_header(object_id, data) + data
    assert whole == framed(0, object_id + data)
    crc, size = entry.put_head(whole, object_id, 1, 8)
    assert size == len(whole)
    assert entry.put_data(whole, crc, size, 1, 8) == data
    assert entry.put_data(whole + b"what follows", crc, size, 1, 8) == data


@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1))
def test_the_checksum_is_zlibs(data: bytes, start: int) -> None:
    assert entry.crc32(data, start) == zlib.crc32(data, start)


def test_a_delete_and_a_commit_are_the_bytes_of_the_specification() -> None:
    assert entry.delete_entry(ID) == framed(1, ID)
    assert len(entry.delete_entry(ID)) == entry.DELETE_SIZE
    assert framed(2, b"") == entry.COMMIT_ENTRY
    assert len(entry.COMMIT_ENTRY) == entry.COMMIT_SIZE


def test_data_may_be_any_buffer_and_as_large_as_the_limit() -> None:
    assert entry.put_header(ID, memoryview(b"abc")) == entry.put_header(ID, bytearray(b"abc"))
    largest = bytes(MAX_DATA_SIZE)
    assert entry.put_head(entry.put_header(ID, largest), ID, 0, 8)[1] == MAX_ENTRY_SIZE
    with pytest.raises(IntegrityError, match=r"More than allowed put data \[20971480 > 20971479\]"):
        entry.put_header(ID, bytes(MAX_DATA_SIZE + 1))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_an_id_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidArgument):
        entry.put_header(bytes(length), b"data")
    with pytest.raises(InvalidArgument):
        entry.delete_entry(bytes(length))


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"", "Invalid segment entry header"),
        (bytes(40), "Invalid segment entry header"),
        (pack("<IIB", 0, MAX_ENTRY_SIZE + 1, 0) + ID, "too big"),
        (pack("<IIB", 0, 40, 0) + ID, "too small"),
        (pack("<IIB", 0, 41, 1) + ID, "did not get acceptable tag"),
        (pack("<IIB", 0, 41, 0) + bytes(32), "is not for wanted id"),
    ],
)
def test_a_head_that_is_not_the_wanted_puts_is_named_with_its_place(head: bytes, text: str) -> None:
    with pytest.raises(IntegrityError, match=rf"{text}.*\[segment 7, offset 99\]"):
        entry.put_head(head, ID, 7, 99)


def read_back(raw: bytes) -> memoryview:
    return entry.put_data(raw, *entry.put_head(raw, ID, 1, 8), 1, 8)


def test_every_flipped_bit_and_every_cut_of_a_put_is_noticed() -> None:
    whole = entry.put_header(ID, b"payload") + b"payload"
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            read_back(bytes(damaged))
    head = entry.put_head(whole, ID, 1, 8)
    for length in range(len(whole)):
        with pytest.raises(IntegrityError):
            read_back(whole[:length])
        with pytest.raises(IntegrityError, match="short read"):
            entry.put_data(whole[:length], *head, 1, 8)
