"""The proof of an index holds exactly when an index made of the same entries would be the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from borg_serve_lib.engine.index import ObjectIndex
from borg_serve_lib.engine.proof import IndexProof
from borg_serve_lib.errors import IntegrityError
from borg_serve_lib.format import hashindex
from borg_serve_lib.format.entry import CHECKED_HEADER, COMMIT, COMMIT_SIZE, DELETE, PUT
from borg_serve_lib.format.heads import of_heads

IDS = [bytes([number]) * 32 for number in range(4)]

_entry = st.one_of(
    st.tuples(st.just(PUT), st.sampled_from(IDS), st.integers(41, 43)),
    st.tuples(st.just(DELETE), st.sampled_from(IDS), st.just(41)),
    st.just((COMMIT, bytes(32), COMMIT_SIZE)),
)
_segments = st.lists(st.lists(_entry, max_size=6), max_size=4)


def packed(entries: list[tuple[int, bytes, int]]) -> bytes:
    return b"".join(CHECKED_HEADER.pack(size, tag, object_id) for tag, object_id, size in entries)


def content_of(segments: list[bytes]) -> dict[bytes, tuple[int, int]]:
    content: dict[bytes, tuple[int, int]] = {}
    for number, heads in enumerate(segments):
        for tag, object_id, offset, _ in of_heads([heads]):
            if tag == PUT:
                content[object_id] = (number, offset)
            elif tag == DELETE:
                content.pop(object_id, None)
    return content


def in_pieces(heads: bytes, entries: int) -> list[bytes]:
    size = entries * CHECKED_HEADER.size
    return [heads[start : start + size] for start in range(0, len(heads), size)]


def holds(content: dict[bytes, tuple[int, int]], segments: list[bytes], entries: int = 9) -> bool:
    """`entries`: how many of them are in one piece."""
    index = ObjectIndex.empty()
    for object_id, location in content.items():
        index.set(object_id, location)
    proof = IndexProof(index)
    for number, heads in enumerate(segments):
        proof.show(number, in_pieces(heads, entries))
    while proof.goes_on():
        for heads in segments:
            proof.show_again(of_heads([heads]))
    proof.close()
    return proof.holds()


@pytest.fixture(params=["in memory", "part by part"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "part by part":
        monkeypatch.setattr(hashindex, "MOST_IN_MEMORY", 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is the same for all examples
@pytest.mark.usefixtures("room")
@given(
    _segments, st.sampled_from(IDS), st.none() | st.tuples(st.integers(0, 3), st.integers(8, 130)), st.integers(1, 7)
)
@example([[(PUT, IDS[0], 41), (PUT, IDS[0], 41)]], IDS[0], (0, 8), 1)
@example([[(PUT, IDS[0], 41), (DELETE, IDS[0], 41)]], IDS[0], (0, 49), 1)
@example([[(PUT, IDS[0], 41), (DELETE, IDS[0], 41)]], IDS[0], (0, 8), 7)
@example([[(PUT, IDS[0], 41)]], IDS[0], None, 7)
@example([[]], IDS[0], (3, 8), 7)
def test_a_proof_holds_exactly_for_what_the_entries_say(
    history: list[list[tuple[int, bytes, int]]], object_id: bytes, location: tuple[int, int] | None, entries: int
) -> None:
    segments = [packed(entries) for entries in history]
    content = content_of(segments)
    assert holds(content, segments, entries)
    other = dict(content)
    if location is None:
        other.pop(object_id, None)
    else:
        other[object_id] = location
    assert holds(other, segments, entries) is (other == content)
    assert holds(content, segments[:-1], entries) is (content == content_of(segments[:-1]))


def test_of_objects_that_are_too_many_for_memory_a_part_is_looked_at_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [b"%032d" % number for number in range(1200)]
    puts, deletes = ([(tag, object_id, 41) for object_id in ids] for tag in (PUT, DELETE))
    smallest = hashindex.IndexTable.new().size
    monkeypatch.setattr(hashindex, "MOST_IN_MEMORY", smallest)
    proof = IndexProof(ObjectIndex.empty())
    segments = [packed(puts), packed(deletes[:-1]), packed(deletes[-1:])]
    for number, heads in enumerate(segments):
        proof.show(number, [heads])
        assert proof._to_be_deleted.size == smallest
    assert not proof.holds()
    passes = 0
    while proof.goes_on():
        for heads in segments:
            proof.show_again(of_heads([heads]))
        passes += 1
    assert proof.holds()
    assert passes == 1
    assert not holds({}, segments[:-1])


def test_an_index_with_an_object_in_two_buckets_is_not_believed() -> None:
    segments = [packed([(PUT, IDS[1], 41)])]
    index = ObjectIndex.empty()
    index.set(IDS[1], (0, 8))
    table = index.table
    start = next(place for place in range(18, len(table.view), 40) if table.view[place : place + 32] == IDS[1])
    table.view[start + 40 : start + 80] = table.view[start : start + 40]
    proof = IndexProof(index)
    proof.show(0, segments)
    assert not proof.holds()


def test_a_segment_with_damage_behind_what_was_shown_of_it_proves_nothing() -> None:
    def damaged() -> Iterator[bytes]:
        yield packed([(DELETE, IDS[1], 41)])
        raise IntegrityError("damaged")

    proof = IndexProof(ObjectIndex.empty())
    proof.show(0, [packed([(PUT, IDS[1], 41)])])
    with pytest.raises(IntegrityError):
        proof.show(1, damaged())
    assert not proof.holds()
