"""Heads of entries: what `segment.entries` says of a segment, in other words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from borg_serve_lib.errors import IntegrityError
from borg_serve_lib.format import segment
from borg_serve_lib.format.entry import COMMIT_ENTRY, delete_entry, put_header
from borg_serve_lib.format.heads import checked_heads, of_heads

from .sources import Bytes

IDS = [bytes([number]) * 32 for number in range(1, 4)]
WINDOWS = [9, 41, 42, 50, 100, 300, 1 << 20]
PIECES = [1, 37, 100, 1 << 20]

_puts = st.builds(
    lambda object_id, data: put_header(object_id, data) + data, st.sampled_from(IDS), st.binary(max_size=200)
)
_entries = st.lists(_puts | st.sampled_from(IDS).map(delete_entry) | st.just(COMMIT_ENTRY), max_size=12)


def outcome(content: bytes, window: int, piece: int = 1 << 20) -> object:
    try:
        return list(of_heads(checked_heads(Bytes(content), 3, window=window, piece=piece)))
    except IntegrityError as error:
        return str(error)


def expected(content: bytes) -> object:
    try:
        found = [entry[:4] for entry in segment.entries(Bytes(content), 3, with_data=False)]
    except IntegrityError as error:
        return str(error)
    return [(tag, object_id or bytes(32), offset, size) for tag, object_id, offset, size in found]


@given(_entries, st.sampled_from(WINDOWS), st.sampled_from(PIECES))
@example([COMMIT_ENTRY] * 5, 9, 37)
@example([], 41, 37)
def test_heads_are_those_of_the_entries(entries: list[bytes], window: int, piece: int) -> None:
    content = segment.MAGIC + b"".join(entries)
    assert outcome(content, window, piece) == expected(content)


@pytest.mark.parametrize("entry", [COMMIT_ENTRY, delete_entry(IDS[0])], ids=["commits", "deletes"])
def test_heads_are_handed_out_before_they_are_more_than_a_piece_and_those_of_a_window(entry: bytes) -> None:
    source = Bytes(segment.MAGIC + entry * 1000)
    sizes = [len(heads) for heads in checked_heads(source, 0, window=410, piece=1000)]
    assert sum(sizes) == 37 * 1000
    assert all(1000 <= size <= 1000 + 37 * 11 for size in sizes[:-1])


@pytest.mark.parametrize("window", WINDOWS)
def test_damage_anywhere_is_named_as_it_is_for_entries(window: int) -> None:
    content = segment.MAGIC + put_header(IDS[0], bytes(60)) + bytes(60) + delete_entry(IDS[1]) + COMMIT_ENTRY
    for length in range(len(content) + 1):
        assert outcome(content[:length], window) == expected(content[:length])
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(outcome(bytes(damaged), window), str)
        assert outcome(bytes(damaged), 1 << 20) == expected(bytes(damaged))


@pytest.mark.parametrize("size", [100, 700, 1500, 9000])
def test_nothing_is_read_twice_but_the_beginning_of_an_entry_that_ends_a_window(size: int) -> None:
    puts = b"".join(put_header(object_id, bytes(size)) + bytes(size) for object_id in IDS * 10)
    source = Bytes(segment.MAGIC + puts)
    assert len(list(of_heads(checked_heads(source, 0, window=1000)))) == 30
    assert source.largest_read <= 1000
    assert source.bytes_read < source.size + 30 * 42
