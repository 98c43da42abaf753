"""The shadow index: against the lists it stands for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.format.shadows import ShadowIndex

IDS = st.sampled_from([b"a" * 32, b"b" * 32, b"c" * 32])
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), IDS, st.integers(0, 3)), max_size=40)


def written(steps: list[tuple[str, bytes, int]]) -> tuple[ShadowIndex, dict[bytes, list[int]]]:
    shadows, lists = ShadowIndex(), {}
    for step, object_id, segment in steps:
        getattr(shadows, step)(object_id, segment)
        if step == "add":
            lists.setdefault(object_id, []).append(segment)
        elif segment in lists.get(object_id, ()):
            lists[object_id].remove(segment)
    return shadows, lists


def same(shadows: ShadowIndex, lists: dict[bytes, list[int]]) -> bool:
    return {object_id: list(segments) for object_id, segments in shadows.entries.items()} == lists


@given(STEPS)
def test_it_holds_what_lists_would_hold(steps: list[tuple[str, bytes, int]]) -> None:
    shadows, lists = written(steps)
    assert same(shadows, lists)
    assert all(list(shadows.get(object_id) or ()) == segments for object_id, segments in lists.items())


@given(STEPS, st.sets(st.integers(0, 3)))
def test_segments_are_forgotten_and_then_objects_without_any(
    steps: list[tuple[str, bytes, int]], gone: set[int]
) -> None:
    shadows, lists = written(steps)
    shadows.forget_segments(gone.__contains__)
    kept = {key: [segment for segment in segments if segment not in gone] for key, segments in lists.items()}
    assert same(shadows, kept)
    shadows.forget_unshadowed()
    assert same(shadows, {key: segments for key, segments in kept.items() if segments})


def test_an_object_is_forgotten() -> None:
    shadows = ShadowIndex({b"a" * 32: (1,), b"b" * 32: ()})
    shadows.forget(b"b" * 32)
    assert shadows == ShadowIndex({b"a" * 32: (1,)})
    assert shadows.get(b"b" * 32) is None


def test_what_was_superseded_once_shares_a_tuple() -> None:
    shadows = ShadowIndex()
    for number in range(1000, 1003):
        shadows.add(b"%032d" % number, 10**6)
    assert len({id(segments) for segments in shadows.entries.values()}) == 1


def test_a_shared_tuple_is_left_as_it_is_when_one_of_its_objects_changes() -> None:
    once, twice = b"a" * 32, b"b" * 32
    shadows = ShadowIndex()
    for object_id in (once, twice, twice):
        shadows.add(object_id, 1)
    shadows.discard(twice, 1)
    shadows.discard(twice, 1)
    assert shadows == ShadowIndex({once: (1,), twice: ()})
    assert shadows != ShadowIndex({once: (1,), twice: (1,)})
