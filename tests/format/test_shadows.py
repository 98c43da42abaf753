"""The shadow index: against the lists it stands for, loose, in a table, and in files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import FileIntegrityError, NoSpace
from borg_serve_lib.format import shadows as shadows_module
from borg_serve_lib.format.segmentchains import SegmentChains
from borg_serve_lib.format.shadows import NO_SEGMENT, ShadowIndex
from borg_serve_lib.limits import MAX_SEGMENT_NUMBER
from tests.format.rooms import Rooms
from tests.tiny import treat_all_as_large

Lists = dict[bytes, list[int]]
Steps = list[tuple[str, bytes, int]]

IDS = st.sampled_from([b"a" * 32, b"b" * 32, b"c" * 32])
SEGMENTS = st.integers(0, 3) | st.integers(0, 30) | st.just(MAX_SEGMENT_NUMBER)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), IDS, SEGMENTS), max_size=60)
LISTS = st.dictionaries(IDS, st.lists(SEGMENTS, max_size=20))

PLACES = st.sampled_from(["loose", "soon in a table", "table", "no room", "files"])


@contextmanager
def made(place: str, lists: Lists) -> Iterator[ShadowIndex]:
    """An index that begins with these lists."""
    rooms = Rooms()
    entries = ((object_id, iter(segments)) for object_id, segments in lists.items())
    with pytest.MonkeyPatch.context() as patch:
        if place in ("no room", "files"):
            treat_all_as_large(patch)
        make_room = rooms.make if place == "files" else lambda size, parts: None
        patch.setattr(shadows_module, "MOST_LOOSE", {"loose": 100, "soon in a table": 3}.get(place, -1))
        shadows = ShadowIndex.of_many(len(lists), entries, make_room)
        yield shadows
        assert bool(rooms.made) == (place == "files")
        shadows.close()
    assert all(room.closed for room in rooms.made)


def change(shadows: ShadowIndex, lists: Lists, steps: Steps) -> None:
    for step, object_id, segment in steps:
        getattr(shadows, step)(object_id, segment)
        if step == "add":
            lists.setdefault(object_id, []).append(segment)
        elif step == "discard" and segment in lists.get(object_id, ()):
            lists[object_id].remove(segment)


def same(shadows: ShadowIndex, lists: Lists) -> bool:
    read = {object_id: list(segments) for object_id, segments in shadows.items()}
    lengths = {object_id: len(segments) for object_id, segments in shadows.items()}
    return (
        len(shadows) == len(lists)
        and read == {object_id: sorted(segments) for object_id, segments in lists.items()}
        and lengths == {object_id: len(segments) for object_id, segments in lists.items()}
        and all(shadows.lowest(each) == min(segments, default=NO_SEGMENT) for each, segments in lists.items())
        and shadows.lowest(b"z" * 32) is None
    )


@settings(deadline=None)
@given(PLACES, LISTS, STEPS)
def test_it_holds_what_lists_would_hold(place: str, lists: Lists, steps: Steps) -> None:
    with made(place, lists) as shadows:
        assert same(shadows, lists)
        change(shadows, lists, steps)
        assert same(shadows, lists)


@settings(deadline=None)
@given(PLACES, LISTS, STEPS, st.sets(SEGMENTS), STEPS)
def test_segments_are_forgotten_and_then_objects_without_any(
    place: str, lists: Lists, steps: Steps, gone: set[int], later: Steps
) -> None:
    with made(place, lists) as shadows:
        change(shadows, lists, steps)
        shadows.forget_segments(gone.__contains__)
        kept = {key: [segment for segment in segments if segment not in gone] for key, segments in lists.items()}
        assert same(shadows, kept)
        shadows.forget_unshadowed()
        kept = {key: segments for key, segments in kept.items() if segments}
        assert same(shadows, kept)
        change(shadows, kept, later)
        assert same(shadows, kept)


@given(PLACES)
def test_an_object_is_forgotten_and_may_be_heard_of_again(place: str) -> None:
    with made(place, {b"a" * 32: [1], b"b" * 32: []}) as shadows:
        shadows.forget(b"b" * 32)
        assert same(shadows, {b"a" * 32: [1]})
        assert shadows.lowest(b"b" * 32) is None
        shadows.add(b"b" * 32, 7)
        assert shadows == ShadowIndex({b"a" * 32: (1,), b"b" * 32: (7,)}.items())
        assert shadows != ShadowIndex({b"a" * 32: (1,), b"b" * 32: (7, 7)}.items())


@pytest.mark.parametrize("most_loose", [0, 100_000])
@pytest.mark.parametrize("segments", [1, 20_000], ids=["in one segment", "in many"])
def test_what_was_superseded_very_often_is_gone_through_in_the_order_of_compaction(
    most_loose: int, segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadows_module, "MOST_LOOSE", most_loose)
    object_id, times = bytes(32), 20_000
    shadows = ShadowIndex()
    for number in range(times):
        shadows.add(object_id, number % segments)
    ((_, known),) = shadows.items()
    assert (len(known), 0 in known, segments in known) == (times, True, False)
    for number in range(times):
        assert shadows.lowest(object_id) == (number if segments > 1 else 0)
        shadows.discard(object_id, number % segments)
    assert same(shadows, {object_id: []})


def test_what_compaction_leaves_behind_is_not_gone_through_for_each_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    read = SegmentChains._read

    def counted(chains: SegmentChains, link: int) -> tuple[int, int, int]:
        nonlocal reads
        reads += 1
        return read(chains, link)

    ids = [bytes([number]) * 32 for number in range(20)]
    shadows = ShadowIndex({object_id: range(2000) for object_id in ids}.items())
    monkeypatch.setattr(SegmentChains, "_read", counted)
    for segment in range(1000, 2000):
        for object_id in ids:
            shadows.discard(object_id, segment)
    assert reads < 10 * len(ids) * 1000
    assert shadows == ShadowIndex({object_id: range(1000) for object_id in ids}.items())


def test_where_a_segment_was_found_is_forgotten_with_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    treat_all_as_large(monkeypatch)
    a, b = b"a" * 32, b"b" * 32
    shadows = ShadowIndex({a: range(6), b: (2, 4, 6, 8)}.items())
    shadows.discard(a, 4)
    shadows.forget_segments({3}.__contains__)
    shadows.discard(a, 5)
    shadows.discard(b, 6)
    shadows.add(b, 1)
    shadows.discard(b, 4)
    shadows.discard(b, 1)
    shadows.discard(b, 8)
    assert same(shadows, {a: [0, 1, 2], b: [2]})


def test_objects_that_are_superseded_again_and_again_take_no_more_for_each_time() -> None:
    import tracemalloc

    def supersede(begin: int) -> None:
        for segment in range(begin, begin + 30):
            for object_id in ids:
                shadows.add(object_id, segment)
                shadows.discard(object_id, segment - 9)

    ids = [number.to_bytes(32, "big") for number in range(1000)]
    shadows = ShadowIndex()
    supersede(0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        supersede(30)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 300 * len(ids)


def test_its_representation_tells_what_is_in_it() -> None:
    assert repr(ShadowIndex([(b"a", (1,))])) == "ShadowIndex([(b'a', (1,))])"


def test_a_shared_tuple_is_left_as_it_is_when_one_of_its_objects_changes() -> None:
    once, twice = b"a" * 32, b"b" * 32
    shadows = ShadowIndex()
    for object_id in (once, twice, twice):
        shadows.add(object_id, 1)
    shadows.discard(twice, 1)
    shadows.discard(twice, 1)
    assert shadows == ShadowIndex({once: (1,), twice: ()}.items())


@pytest.mark.parametrize(("puts", "most_loose", "most"), [(1, 100_000, 200), (1, 1000, 90), (2, 1000, 90)])
def test_many_objects_take_little_memory_each(
    puts: int, most_loose: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    monkeypatch.setattr(shadows_module, "MOST_LOOSE", most_loose)
    count = 20_000
    tracemalloc.start()
    try:
        shadows = ShadowIndex()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count * puts):
            shadows.add((number % count).to_bytes(4, "little") * 8, 300 + number % 2)
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < most * count


@pytest.mark.parametrize("most_loose", [0, 100])
def test_what_cannot_be_read_to_its_end_leaves_no_file_behind(monkeypatch: pytest.MonkeyPatch, most_loose: int) -> None:
    treat_all_as_large(monkeypatch)
    monkeypatch.setattr(shadows_module, "MOST_LOOSE", most_loose)
    rooms = Rooms()

    def entries() -> Iterator[tuple[bytes, tuple[int, ...]]]:
        yield b"a" * 32, tuple(range(200))
        raise FileIntegrityError("cut")

    with pytest.raises(FileIntegrityError, match="cut"):
        ShadowIndex.of_many(3, entries(), rooms.make)
    assert rooms.made
    assert all(room.closed for room in rooms.made)


def test_a_file_that_cannot_be_filled_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    treat_all_as_large(monkeypatch)
    rooms = Rooms()
    monkeypatch.setattr(shadows_module, "MOST_LOOSE", 1)
    shadows = ShadowIndex(make_room=rooms.make)
    shadows.add(b"a" * 32, 1)
    monkeypatch.setattr("tests.format.rooms.Room.write_at", lambda *_: (_ for _ in ()).throw(NoSpace(28, "full", "")))
    with pytest.raises(NoSpace):
        shadows.add(b"b" * 32, 1)
    assert rooms.made
    assert all(room.closed for room in rooms.made)
