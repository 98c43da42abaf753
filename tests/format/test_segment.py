"""A segment, as bytes."""

from __future__ import annotations

import tarfile
import zlib
from struct import pack, unpack_from

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import IntegrityError
from borg_serve_lib.format import segment
from borg_serve_lib.format.entry import COMMIT, COMMIT_ENTRY, DELETE, PUT, delete_entry, put_header
from borg_serve_lib.limits import MAX_ENTRY_SIZE
from tests import vectors_support as vectors
from tests.format.sources import Bytes

IDS = [bytes([number]) * 32 for number in range(5)]


def put(object_id: bytes, data: bytes) -> bytes:
    return put_header(object_id, data) + data


def sealed(tag: int, rest: bytes) -> bytes:
    body = pack("<IB", len(rest) + 9, tag) + rest
    return pack("<I", zlib.crc32(body)) + body


ENTRIES = st.lists(
    st.one_of(
        st.builds(put, st.sampled_from(IDS), st.binary(max_size=120)),
        st.sampled_from(IDS).map(delete_entry),
        st.just(COMMIT_ENTRY),
    ),
    max_size=12,
)


def listed(content: bytes, start: int = 0, window: int = 64) -> list[tuple[int, bytes, int, int, bytes]]:
    found = segment.entries(Bytes(content), 3, start, window=window)
    return [(tag, object_id, offset, size, bytes(data)) for tag, object_id, offset, size, data in found]


@given(ENTRIES, st.integers(9, 300))
def test_what_was_written_is_read_through_any_window(parts: list[bytes], window: int) -> None:
    content = segment.MAGIC + b"".join(parts)
    found = listed(content, window=window)
    assert [content[offset : offset + size] for _, _, offset, size, _ in found] == parts
    for tag, object_id, offset, size, data in found:
        assert tag == content[offset + 8]
        assert object_id == (b"" if tag == COMMIT else content[offset + 9 : offset + 41])
        assert data == (content[offset + 41 : offset + size] if tag == PUT else b"")
    assert [bytes(entry[4]) for entry in segment.entries(Bytes(content), 3, window=window, whole=True)] == parts
    heads = list(segment.headers(Bytes(content), 3, window=window))
    assert heads == [found_entry[:4] for found_entry in found]


def test_reading_from_an_offset_does_not_look_at_the_magic() -> None:
    first, second = put(IDS[0], b"one"), delete_entry(IDS[1])
    content = b"damaged!" + first + second
    assert [entry[0] for entry in listed(content, start=8)] == [PUT, DELETE]
    assert [entry[0] for entry in listed(content, start=8 + len(first))] == [DELETE]
    for read in (segment.entries, segment.headers):
        with pytest.raises(IntegrityError, match=r"Invalid segment magic \[segment 3, offset 0\]"):
            list(read(Bytes(content), 3))


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (b"x" * 8, "Invalid segment entry header"),
        (pack("<IIB", 0, MAX_ENTRY_SIZE + 1, 0) + IDS[0], "too big"),
        (pack("<IIB", 0, 8, 2), "too small"),
        (put(IDS[0], b"data")[:-1], r"data short read .*: expected 36, got 35 bytes"),
        (sealed(0, IDS[0][:31]), "key short read"),
        (sealed(3, IDS[0]), "did not get acceptable tag"),
        (put(IDS[0], b"data")[:-1] + b"!", "checksum mismatch"),
    ],
)
def test_damage_is_named_with_its_place(tail: bytes, text: str) -> None:
    content = segment.MAGIC + COMMIT_ENTRY + tail
    with pytest.raises(IntegrityError, match=text) as caught:
        listed(content)
    assert "[segment 3, offset 17]" in str(caught.value)


def test_every_flipped_bit_and_every_cut_within_an_entry_is_noticed() -> None:
    content = segment.MAGIC + put(IDS[0], b"data") + delete_entry(IDS[1]) + COMMIT_ENTRY
    ends = {8, 8 + 45, 8 + 45 + 41, len(content)}
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IntegrityError):
            listed(bytes(damaged))
    for length in range(len(content)):
        if length in ends:
            listed(content[:length])
        else:
            with pytest.raises(IntegrityError):
                listed(content[:length])


@pytest.mark.parametrize("window", [41, 42, 50, 100])
def test_damage_beyond_the_part_that_was_read_is_noticed_without_data(window: int) -> None:
    content = segment.MAGIC + put(IDS[0], bytes(range(150))) + put(IDS[1], bytes(range(120))) + COMMIT_ENTRY
    ends = {8, 8 + 191, 8 + 191 + 161}

    def read(data: bytes) -> list[tuple[int, bytes, int, int]]:
        return [entry[:4] for entry in segment.entries(Bytes(data), 3, window=window, with_data=False)]

    assert read(content) == [entry[:4] for entry in segment.entries(Bytes(content), 3)]
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        with pytest.raises(IntegrityError, match="segment 3, offset"):
            read(bytes(damaged))
    for length in set(range(8, len(content))) - ends:
        with pytest.raises(IntegrityError, match=r"short read|entry header"):
            read(content[:length])


def test_a_longer_delete_with_a_good_checksum_is_read() -> None:
    assert listed(segment.MAGIC + sealed(1, IDS[0] + b"more"))[0][:2] == (DELETE, IDS[0])


def test_heads_are_read_without_the_data_between() -> None:
    source = Bytes(segment.MAGIC + put(IDS[0], bytes(1_000_000)) + put(IDS[1], bytes(1_000_000)))
    assert [size for _, _, _, size in segment.headers(source, 0)] == [1_000_041] * 2
    assert source.bytes_read < 100_000


def test_heads_notice_an_entry_that_goes_on_beyond_the_file() -> None:
    content = segment.MAGIC + put(IDS[0], bytes(1000))
    with pytest.raises(IntegrityError, match="short read"):
        list(segment.headers(Bytes(content[:-1]), 0))


def test_memory_stays_at_the_window_while_reading() -> None:
    source = Bytes(segment.MAGIC + put(IDS[0], bytes(50)) * 100)
    for read in (segment.entries, segment.headers):
        assert len(list(read(source, 0, window=4096))) == 100
    assert source.largest_read == 4096


def test_only_an_entry_larger_than_the_window_is_read_at_once() -> None:
    source = Bytes(segment.MAGIC + put(IDS[0], bytes(500)) + put(IDS[1], bytes(9000)) + put(IDS[2], bytes(500)))
    assert len(list(segment.entries(source, 0, window=1000))) == 3
    assert source.largest_read <= 9041 + 41  # with the head of the next entry
    # What is left of a part is read again with the next one: faster than putting the two together.
    assert source.bytes_read < source.size + 1000


def test_large_puts_that_nobody_needs_are_passed_over_unread_and_unchecked() -> None:
    content = bytearray(segment.MAGIC + b"".join(put(object_id, bytes(9000)) for object_id in IDS[:4]))
    content[8 + 9041 + 5000] ^= 1
    offsets = [8 + 9041 * number for number in range(4)]
    source = Bytes(bytes(content))
    asked = []

    def skips(object_id: bytes, offset: int) -> bool:
        asked.append((object_id, offset))
        return object_id != IDS[2]

    found = [(*entry[:4], len(entry[4])) for entry in segment.entries(source, 3, window=1000, skips=skips)]
    sizes = {IDS[2]: 9000}
    assert found == [
        (PUT, object_id, offset, 9041, sizes.get(object_id, 0)) for object_id, offset in zip(IDS, offsets, strict=False)
    ]
    assert asked == [*zip(IDS, offsets, strict=False)]
    assert source.bytes_read < 9000 + 1000 + 10 * 41


def test_small_puts_are_not_passed_over() -> None:
    content = segment.MAGIC + put(IDS[0], bytes(80)) * 50
    assert all(entry[4] for entry in segment.entries(Bytes(content), 3, window=1000, skips=lambda *_: True))


@pytest.mark.parametrize("present", [9, 20, 40, 41, 5000, 9040])
def test_what_is_passed_over_must_be_there(present: int) -> None:
    content = segment.MAGIC + put(IDS[0], bytes(9000)) + put(IDS[1], bytes(9000))[:present]
    found = segment.entries(Bytes(content), 3, window=1000, skips=lambda *_: True)
    assert next(found)[1] == IDS[0]
    with pytest.raises(IntegrityError, match="short read"):
        next(found)


@pytest.mark.parametrize("deletes", [1, 2, 5])
def test_a_damaged_size_does_not_pass_over_deletes(deletes: int) -> None:
    damaged = bytearray(put(IDS[0], bytes(9000)))
    damaged[4:8] = (9041 + 41 * deletes).to_bytes(4, "little")
    content = segment.MAGIC + damaged + delete_entry(IDS[1]) * deletes + put(IDS[2], bytes(9000))
    with pytest.raises(IntegrityError, match="checksum"):
        list(segment.entries(Bytes(content), 3, window=1000, skips=lambda *_: True))


def test_data_that_end_as_a_delete_are_read() -> None:
    content = segment.MAGIC + put(IDS[0], bytes(9000) + delete_entry(IDS[1])) + put(IDS[2], bytes(9000))
    found = [entry[1] for entry in segment.entries(Bytes(content), 3, window=1000, skips=lambda *_: True)]
    assert found == [IDS[0], IDS[2]]


@pytest.mark.parametrize("size", [100, 200, 700, 959, 960, 3000])
def test_entries_of_any_size_are_hardly_read_twice(size: int) -> None:
    source = Bytes(segment.MAGIC + put(IDS[0], bytes(size)) * 50)
    assert len(list(segment.entries(source, 0, window=1000))) == 50
    assert source.bytes_read < 1.25 * (source.size + 50 * 41) + 1000


def test_without_data_nothing_is_read_twice_but_heads_and_no_more_at_once_than_the_window() -> None:
    puts = b"".join(put(object_id, bytes(9000)) for object_id in IDS[:3])
    source = Bytes(segment.MAGIC + puts)
    assert len(list(segment.entries(source, 0, window=1000, with_data=False))) == 3
    assert source.largest_read <= 1000
    assert source.bytes_read < source.size + 3 * 41


# --- how it ends


def ending(*parts: bytes, magic: bytes = segment.MAGIC) -> segment.Ending:
    return segment.ending(Bytes(magic + b"".join(parts)), 0)


def test_a_segment_is_committed_when_only_commits_follow_its_first() -> None:
    assert ending(COMMIT_ENTRY) is segment.Ending.COMMITTED
    assert ending(put(IDS[0], b"x"), COMMIT_ENTRY) is segment.Ending.COMMITTED
    assert ending(put(IDS[0], b"x"), COMMIT_ENTRY, COMMIT_ENTRY) is segment.Ending.COMMITTED


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (put(IDS[0], b"x"),),
        (COMMIT_ENTRY, delete_entry(IDS[0]), COMMIT_ENTRY),
        (COMMIT_ENTRY, delete_entry(IDS[0])),
        (put(IDS[0], b"a COMMIT in the data of an object: " + COMMIT_ENTRY),),
        (put(IDS[0], b"x")[:-1] + b"y",),
        *((COMMIT_ENTRY[:length],) for length in range(9)),
    ],
)
def test_without_a_commit_at_its_end_it_is_not(parts: tuple[bytes, ...]) -> None:
    assert ending(*parts) is segment.Ending.UNCOMMITTED


def test_a_commit_at_the_end_of_a_damaged_segment_is_seen() -> None:
    assert ending(put(IDS[0], b"x")[:-1] + b"y", COMMIT_ENTRY) is segment.Ending.DAMAGED
    assert ending(COMMIT_ENTRY, magic=b"ATTICSEG") is segment.Ending.DAMAGED


def test_an_end_that_cannot_be_read_may_be_a_commit() -> None:
    class Unreadable(Bytes):
        def read_at(self, offset: int, length: int) -> bytes:
            raise IntegrityError("Segment cannot be read")

    assert segment.ending(Unreadable(segment.MAGIC + COMMIT_ENTRY), 0) is segment.Ending.DAMAGED


# --- salvage


def salvaged(content: bytes, window: int = 64) -> list[bytes]:
    return [bytes(part) for part in segment.salvage(Bytes(content), window=window)]


def obviously_salvaged(content: bytes) -> list[bytes]:
    """The rule in its plainest form, on the whole file in memory."""
    kept, offset = [], 0
    if len(content) < 17:
        return []
    while len(content) - offset >= 9:
        crc, size, tag = unpack_from("<IIB", content, offset)
        whole = content[offset : offset + size]
        fits = size == 9 if tag == 2 else tag < 2 and size >= 41
        if fits and len(whole) == size and zlib.crc32(whole[4:]) == crc:
            kept.append(whole)
            offset += size
        else:
            offset += 1
    return kept


@settings(max_examples=200)
@given(ENTRIES, st.data())
def test_salvage_keeps_just_the_sound_entries(parts: list[bytes], data: st.DataObject) -> None:
    content = bytearray(segment.MAGIC + b"".join(parts))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    assert salvaged(cut, window=data.draw(st.integers(9, 200))) == obviously_salvaged(cut)


def test_salvage_of_a_sound_segment_keeps_all_of_it() -> None:
    parts = [put(IDS[0], b"one"), delete_entry(IDS[1]), COMMIT_ENTRY]
    assert salvaged(segment.MAGIC + b"".join(parts)) == parts


def test_entries_that_no_borg_writes_are_not_salvaged() -> None:
    assert salvaged(segment.MAGIC + sealed(7, IDS[0]) + COMMIT_ENTRY) == [COMMIT_ENTRY]


# --- what real borg wrote


TAGS = {"PUT": PUT, "DEL": DELETE, "COMMIT": COMMIT}


@pytest.mark.parametrize("name", vectors.names())
def test_the_segments_of_the_vectors_read_as_listed(name: str) -> None:
    with tarfile.open(vectors.VECTORS / f"{name}.tar.gz") as archive:
        for log in vectors.expectations()[name]["log"]:
            member = archive.extractfile(f"{name}/{log['path']}")
            assert member is not None
            content = member.read()
            assert len(content) == log["size"]
            sound = all(len(entry) == 5 and entry[4] == "ok" for entry in log["entries"])
            if sound:
                wanted = [(TAGS[tag], offset, size, short or "") for offset, tag, size, short, _ in log["entries"]]
                found = listed(content, window=4096)
                assert [(tag, offset, size, key.hex()[:8]) for tag, key, offset, size, _ in found] == wanted
            else:
                with pytest.raises(IntegrityError):
                    listed(content)
