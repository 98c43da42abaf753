"""The shadow index: against the lists it stands for, loose, in a table and in a map."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import NoSpace
from borg_serve_lib.format.shadows import ShadowIndex
from borg_serve_lib.storage.memory import MemoryMap

IDS = st.sampled_from([b"a" * 32, b"b" * 32, b"c" * 32])
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), IDS, st.integers(0, 3)), max_size=40)

IN_MEMORY = {"dict": (100, 100), "table": (0, 100), "dict, then table": (2, 100)}
LIMITS = IN_MEMORY | {"map": (0, 0), "table, then map": (0, 1), "all three": (0, 2)}
"""Most objects loose and most in memory."""

PLACES = st.sampled_from(list(LIMITS))


def shadows_in(place: str) -> ShadowIndex:
    most_loose, most_in_memory = LIMITS[place]
    return ShadowIndex(make_map=MemoryMap, most_loose=most_loose, most_in_memory=most_in_memory)


def written(steps: list[tuple[str, bytes, int]], place: str) -> tuple[ShadowIndex, dict[bytes, list[int]]]:
    shadows, lists = shadows_in(place), {}
    for step, object_id, segment in steps:
        getattr(shadows, step)(object_id, segment)
        if step == "add":
            lists.setdefault(object_id, []).append(segment)
        elif segment in lists.get(object_id, ()):
            lists[object_id].remove(segment)
    return shadows, lists


def same(shadows: ShadowIndex, lists: dict[bytes, list[int]]) -> bool:
    return len(shadows) == len(lists) and {each: list(segments) for each, segments in shadows.items()} == lists


@given(STEPS, PLACES)
def test_it_holds_what_lists_would_hold(steps: list[tuple[str, bytes, int]], place: str) -> None:
    shadows, lists = written(steps, place)
    assert same(shadows, lists)
    assert all(list(shadows.get(object_id) or ()) == segments for object_id, segments in lists.items())


@given(STEPS, st.sampled_from(list(IN_MEMORY)))
def test_in_memory_it_holds_them_in_their_order(steps: list[tuple[str, bytes, int]], place: str) -> None:
    shadows, lists = written(steps, place)
    assert [object_id for object_id, _ in shadows.items()] == list(lists)


@given(STEPS, st.sets(st.integers(0, 3)), PLACES)
def test_segments_are_forgotten_and_then_objects_without_any(
    steps: list[tuple[str, bytes, int]], gone: set[int], place: str
) -> None:
    shadows, lists = written(steps, place)
    shadows.forget_segments(gone.__contains__)
    kept = {key: [segment for segment in segments if segment not in gone] for key, segments in lists.items()}
    assert same(shadows, kept)
    shadows.forget_unshadowed()
    assert same(shadows, {key: segments for key, segments in kept.items() if segments})


@given(STEPS, PLACES, STEPS)
def test_it_goes_on_from_what_was_read(
    steps: list[tuple[str, bytes, int]], place: str, later: list[tuple[str, bytes, int]]
) -> None:
    lists = written(steps, "dict")[1]
    shadows = shadows_in(place)
    if lists:
        shadows.extend(list(lists), [tuple(segments) for segments in lists.values()])
    assert same(shadows, lists)
    for _, object_id, segment in later:
        shadows.add(object_id, segment)
        lists.setdefault(object_id, []).append(segment)
    assert same(shadows, lists)


@pytest.mark.parametrize("place", LIMITS)
def test_an_object_is_forgotten_and_may_be_heard_of_again(place: str) -> None:
    shadows = shadows_in(place)
    shadows.extend([b"a" * 32, b"b" * 32], [(1,), ()])
    shadows.forget(b"b" * 32)
    assert shadows == ShadowIndex({b"a" * 32: (1,)})
    assert len(shadows) == 1
    assert shadows.get(b"b" * 32) is None
    shadows.add(b"b" * 32, 7)
    assert shadows == ShadowIndex({b"a" * 32: (1,), b"b" * 32: (7,)})
    assert len(shadows) == 2


def test_many_objects_in_a_map_are_all_told() -> None:
    shadows = shadows_in("map")
    ids = [number.to_bytes(4, "big") * 8 for number in range(3000)]
    for object_id in ids:
        shadows.add(object_id, 2**32 - 1025)
    assert same(shadows, {object_id: [2**32 - 1025] for object_id in ids})
    shadows.forget_segments((2**32 - 1025).__eq__)
    assert same(shadows, {object_id: [] for object_id in ids})


class FullMap(MemoryMap):
    def extend(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        raise NoSpace(errno.ENOSPC, "No space left on device", "")


@pytest.mark.parametrize("make_map", [lambda: None, FullMap])
def test_where_no_map_can_be_had_memory_has_to_do(make_map: Callable[[], MemoryMap | None]) -> None:
    shadows = ShadowIndex(make_map=make_map, most_loose=0, most_in_memory=0)
    for number in range(10):
        shadows.add(bytes([number]) * 32, number)
    assert same(shadows, {bytes([number]) * 32: [number] for number in range(10)})


def test_what_was_superseded_once_shares_a_tuple() -> None:
    shadows = ShadowIndex()
    for number in range(1000, 1003):
        shadows.add(b"%032d" % number, 10**6)
    assert len({id(segments) for _, segments in shadows.items()}) == 1


def test_a_shared_tuple_is_left_as_it_is_when_one_of_its_objects_changes() -> None:
    once, twice = b"a" * 32, b"b" * 32
    shadows = ShadowIndex()
    for object_id in (once, twice, twice):
        shadows.add(object_id, 1)
    shadows.discard(twice, 1)
    shadows.discard(twice, 1)
    assert shadows == ShadowIndex({once: (1,), twice: ()})
    assert shadows != ShadowIndex({once: (1,), twice: (1,)})


@pytest.mark.parametrize(("puts", "most"), [(1, 60), (2, 70)])
def test_many_objects_take_little_memory_each(puts: int, most: int) -> None:
    import tracemalloc

    count = 20_000
    tracemalloc.start()
    try:
        shadows = ShadowIndex(most_loose=1000)
        for number in range(count * puts):
            shadows.add((number % count).to_bytes(4, "little") * 8, 300 + number % 2)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < most * count


def test_an_object_with_many_superseded_puts_takes_room_once() -> None:
    many, object_id = 3000, bytes(32)
    index = ShadowIndex()
    index.extend([object_id], [tuple(range(many))])
    for segment in range(many - 20):
        index.discard(object_id, segment)
    index.forget_segments((many - 1).__eq__)
    assert list(index.get(object_id) or ()) == [*range(many - 20, many - 1)]
    assert sum(map(len, index._shared)) < 100
