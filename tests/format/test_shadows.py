"""The shadow index: against the lists it stands for, loose and in a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.format.shadows import ShadowIndex

IDS = st.sampled_from([b"a" * 32, b"b" * 32, b"c" * 32])
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), IDS, st.integers(0, 3)), max_size=40)
LOOSE = st.sampled_from([0, 3, 100])


def written(steps: list[tuple[str, bytes, int]], most_loose: int) -> tuple[ShadowIndex, dict[bytes, list[int]]]:
    shadows, lists = ShadowIndex(most_loose=most_loose), {}
    for step, object_id, segment in steps:
        getattr(shadows, step)(object_id, segment)
        if step == "add":
            lists.setdefault(object_id, []).append(segment)
        elif segment in lists.get(object_id, ()):
            lists[object_id].remove(segment)
    return shadows, lists


def same(shadows: ShadowIndex, lists: dict[bytes, list[int]]) -> bool:
    return len(shadows) == len(lists) and [(each, list(segments)) for each, segments in shadows.items()] == [
        *lists.items()
    ]


@given(STEPS, LOOSE)
def test_it_holds_what_lists_would_hold_in_the_same_order(steps: list[tuple[str, bytes, int]], most_loose: int) -> None:
    shadows, lists = written(steps, most_loose)
    assert same(shadows, lists)
    assert all(list(shadows.get(object_id) or ()) == segments for object_id, segments in lists.items())


@given(STEPS, st.sets(st.integers(0, 3)), LOOSE)
def test_segments_are_forgotten_and_then_objects_without_any(
    steps: list[tuple[str, bytes, int]], gone: set[int], most_loose: int
) -> None:
    shadows, lists = written(steps, most_loose)
    shadows.forget_segments(gone.__contains__)
    kept = {key: [segment for segment in segments if segment not in gone] for key, segments in lists.items()}
    assert same(shadows, kept)
    shadows.forget_unshadowed()
    assert same(shadows, {key: segments for key, segments in kept.items() if segments})


@given(STEPS, LOOSE, STEPS)
def test_it_goes_on_from_what_was_read(
    steps: list[tuple[str, bytes, int]], most_loose: int, later: list[tuple[str, bytes, int]]
) -> None:
    lists = written(steps, 100)[1]
    shadows = ShadowIndex(most_loose=most_loose)
    if lists:
        shadows.extend(list(lists), [tuple(segments) for segments in lists.values()])
    assert same(shadows, lists)
    for _, object_id, segment in later:
        shadows.add(object_id, segment)
        lists.setdefault(object_id, []).append(segment)
    assert same(shadows, lists)


@pytest.mark.parametrize("most_loose", [0, 100])
def test_an_object_is_forgotten_and_may_be_heard_of_again(most_loose: int) -> None:
    shadows = ShadowIndex(most_loose=most_loose)
    shadows.extend([b"a" * 32, b"b" * 32], [(1,), ()])
    shadows.forget(b"b" * 32)
    assert shadows == ShadowIndex({b"a" * 32: (1,)})
    assert len(shadows) == 1
    assert shadows.get(b"b" * 32) is None
    shadows.add(b"b" * 32, 7)
    assert shadows == ShadowIndex({b"a" * 32: (1,), b"b" * 32: (7,)})
    assert len(shadows) == 2


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
