"""Salvage where entries are large for it, and where the bytes are against it."""

from __future__ import annotations

import zlib
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.format import segment
from borg_serve_lib.format.entry import COMMIT_ENTRY, delete_entry, put_header
from borg_serve_lib.format.salvage import HEAD, sound_entries
from borg_serve_lib.limits import MAX_DATA_SIZE, MAX_ENTRY_SIZE
from tests.format.sources import Bytes
from tests.format.test_segment import ENTRIES, IDS, obviously_salvaged, put, sealed

STEP = 16
"""Nearly all entries are larger, and take the way of large ones."""


def salvaged(content: bytes, window: int = 64) -> list[bytes]:
    return [bytes(part) for part in sound_entries(Bytes(content), window=window, step=STEP)]


@settings(max_examples=200)
@given(ENTRIES, st.data())
def test_of_a_damaged_segment_just_the_sound_entries_are_kept(parts: list[bytes], data: st.DataObject) -> None:
    content = bytearray(segment.MAGIC + b"".join(parts))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    assert salvaged(cut, window=data.draw(st.integers(1, 200))) == obviously_salvaged(cut)


CLAIMS = st.builds(
    lambda size, tag, rest: pack("<IIB", 0, size, tag) + rest,
    st.integers(0, 400),
    st.integers(0, 3),
    st.binary(max_size=12),
)
RUBBISH = st.one_of(CLAIMS, st.binary(max_size=20), st.lists(st.integers(0, 2), max_size=30).map(bytes))
INNER = st.builds(lambda before, inner, after: put(IDS[0], before + inner + after), RUBBISH, RUBBISH, RUBBISH)


@settings(max_examples=200)
@given(st.lists(st.one_of(RUBBISH, INNER, ENTRIES.map(b"".join)), max_size=10).map(b"".join), st.integers(1, 200))
def test_among_rubbish_that_looks_like_heads_just_the_sound_entries_are_kept(content: bytes, window: int) -> None:
    assert salvaged(content, window) == obviously_salvaged(content)


def test_entries_in_the_data_of_a_damaged_entry_are_taken_for_genuine() -> None:
    inner = put(IDS[1], b"inner") + delete_entry(IDS[2])
    outer = put(IDS[0], b"<" + inner + b">")
    assert salvaged(segment.MAGIC + outer) == [outer]
    assert b"".join(salvaged(segment.MAGIC + outer[:-1] + b"!")) == inner


@pytest.mark.parametrize("magic", [b"BORG_SEG", b"damaged!", bytes(8), b"\1" * 8])
def test_a_damaged_magic_costs_no_entry(magic: bytes) -> None:
    assert salvaged(magic + put(IDS[0], b"data") + COMMIT_ENTRY) == [put(IDS[0], b"data"), COMMIT_ENTRY]


@pytest.mark.parametrize("length", range(17))
def test_a_file_without_room_for_magic_and_commit_has_nothing_to_keep(length: int) -> None:
    assert salvaged((COMMIT_ENTRY * 2)[:length]) == []


@pytest.mark.parametrize("tag", [3, 7, 15, 16, 255])
def test_an_entry_with_an_unknown_tag_is_damage(tag: int) -> None:
    assert salvaged(segment.MAGIC + sealed(tag, IDS[0]) + COMMIT_ENTRY) == [COMMIT_ENTRY]


@pytest.mark.parametrize("tag", [0, 1])
def test_an_entry_too_short_for_its_id_is_damage(tag: int) -> None:
    assert salvaged(segment.MAGIC + sealed(tag, IDS[0][:31]) + COMMIT_ENTRY) == [COMMIT_ENTRY]


def test_the_largest_entry_is_kept_and_a_larger_one_is_damage() -> None:
    data = bytes(MAX_DATA_SIZE)
    whole = put_header(IDS[0], data) + data
    assert len(whole) == MAX_ENTRY_SIZE
    found = segment.salvage(Bytes(segment.MAGIC + whole + COMMIT_ENTRY))
    assert next(found) == whole
    assert next(found) == COMMIT_ENTRY
    assert next(found, None) is None
    larger = sealed(0, IDS[0] + data + b"!")
    assert HEAD.search(larger[:9]) is None


@given(
    st.one_of(
        st.integers(0, 2**32 - 1),
        st.integers(0, 300),
        st.integers(MAX_ENTRY_SIZE - 70_000, MAX_ENTRY_SIZE + 70_000),
        st.sampled_from([2**8, 2**16, 2**24, 2**24 - 1, MAX_ENTRY_SIZE, MAX_ENTRY_SIZE + 1]),
    ),
    st.integers(0, 5),
    st.binary(min_size=4, max_size=4),
)
def test_the_search_stops_at_all_heads_that_can_be_right_and_at_no_others(size: int, tag: int, crc: bytes) -> None:
    found = HEAD.search(crc + pack("<IB", size, tag), 7)
    assert (found is not None) == (9 <= size <= MAX_ENTRY_SIZE and tag <= 2)


def test_heads_of_large_entries_at_every_step_do_not_multiply_the_work() -> None:
    source = Bytes(pack("<IIB", 0, 5000, 0) * 5000)
    assert list(sound_entries(source, window=4096, step=64)) == []
    assert source.bytes_read < 4 * source.size


class Unsteady(Bytes):
    """A disk that reads one byte differently from the second time on."""

    def __init__(self, content: bytes, place: int) -> None:
        super().__init__(content)
        self.place = place
        self.seen = 0

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(super().read_at(offset, length))
        if offset <= self.place < offset + len(data):
            self.seen += 1
            data[self.place - offset] ^= self.seen > 1
        return bytes(data)


@pytest.mark.parametrize("window", [16, 60, 4096])
def test_what_is_kept_is_what_was_checked(window: int) -> None:
    first, second = put(IDS[0], bytes(300)), put(IDS[1], bytes(300))
    for place in range(8, 8 + len(first)):
        source = Unsteady(segment.MAGIC + first + second, place)
        for part in sound_entries(source, window=window, step=STEP):
            whole = bytes(part)
            assert zlib.crc32(whole[4:]) == int.from_bytes(whole[:4], "little")
        assert whole == second
