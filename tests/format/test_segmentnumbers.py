"""Numbers of segments: against a dict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.format import segmentnumbers
from borg_serve_lib.format.segmentnumbers import SegmentNumbers
from borg_serve_lib.limits import MAX_SEGMENT_NUMBER

SEGMENTS = st.integers(0, 12) | st.just(MAX_SEGMENT_NUMBER)
NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1)
STEPS = st.lists(st.tuples(st.sampled_from(["set", "add", "pop"]), SEGMENTS, NUMBERS), max_size=60)


@given(st.dictionaries(SEGMENTS, NUMBERS), STEPS)
def test_it_holds_what_a_dict_would_hold(begin: dict[int, int], steps: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentnumbers, "_MOST_REMOVED", 2)
        numbers, expected = SegmentNumbers(begin.items()), dict(begin)
        for step, segment, number in steps:
            for each in (numbers, expected):
                if step == "set":
                    each[segment] = number
                elif step == "add":
                    each[segment] = each.get(segment, 0) // 2 + number // 2
            if step == "pop":
                assert numbers.pop(segment, None) == expected.pop(segment, None)
            assert (segment in numbers) == (segment in expected)
            assert (numbers, len(numbers), list(numbers)) == (expected, len(expected), sorted(expected))
            assert numbers.get(segment) == expected.get(segment)


def test_what_is_not_there_is_a_key_error() -> None:
    numbers = SegmentNumbers([(5, 1)])
    del numbers[5]
    for segment in (4, 5, 6):
        with pytest.raises(KeyError, match=str(segment)):
            numbers[segment]
        with pytest.raises(KeyError, match=str(segment)):
            del numbers[segment]


def test_a_million_segments_take_few_bytes_each_and_go_one_by_one() -> None:
    import tracemalloc

    count = 200_000
    tracemalloc.start()
    try:
        numbers = SegmentNumbers((segment, 2**40 + segment) for segment in range(count))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 16 * count
    for segment in range(count):
        assert numbers.pop(segment) == 2**40 + segment
    assert len(numbers) == 0
    assert list(numbers) == []
