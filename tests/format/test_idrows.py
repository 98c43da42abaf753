"""Ids in rows: against a list of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import InvalidArgument
from borg_serve_lib.format.idrows import NOWHERE, IdRows

NUMBERS = st.integers(0, 3000)
STEPS = st.lists(
    st.tuples(st.just("add"), NUMBERS)
    | st.tuples(st.just("extend"), st.lists(NUMBERS, max_size=400))
    | st.tuples(st.just("find"), st.integers(0, 40)),
    max_size=12,
)


def identity(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


@settings(deadline=None)
@given(STEPS)
def test_rows_are_those_of_a_list(steps: list[tuple[str, int | list[int]]]) -> None:
    rows, expected = IdRows(), list[bytes]()
    for step, argument in steps:
        if isinstance(argument, list):
            new = list(dict.fromkeys(each for each in map(identity, argument) if each not in expected))
            rows.extend(new)
            expected += new
        elif step == "add":
            if identity(argument) not in expected:
                assert rows.add(identity(argument)) == len(expected)
                expected.append(identity(argument))
        else:
            # More than are looked for by reading all, if there are many.
            for number in range(argument):
                wanted = identity(number * 70)
                assert rows.find(wanted) == (expected.index(wanted) if wanted in expected else NOWHERE)
    assert len(rows) == len(expected)
    assert list(rows) == expected
    assert list(rows.part(1, 3)) == expected[1:3]


@pytest.mark.parametrize("before", [0, 100])
def test_every_id_of_many_has_its_row(before: int) -> None:
    """`before`: how many are looked for while there are none."""
    rows = IdRows()
    assert all(rows.find(identity(number)) == NOWHERE for number in range(before))
    for number in range(10_000):
        rows.add(identity(number))
    assert all(rows.find(identity(number)) == number for number in range(10_000))
    assert rows.find(identity(10_000)) == NOWHERE
    assert list(rows) == list(map(identity, range(10_000)))


def test_an_id_that_lies_across_two_rows_is_not_there() -> None:
    rows = IdRows()
    rows.extend([bytes(31) + b"a", b"b" * 32, b"b" + b"c" * 31, b"c" + bytes(31)])
    for _ in range(40):
        assert rows.find(b"a" + b"b" * 31) == NOWHERE
        assert rows.find(b"b" * 32) == 1
        assert rows.find(b"c" * 32) == NOWHERE


@pytest.mark.parametrize("object_id", [b"", b"a" * 31, b"a" * 33, b"a" * 64])
def test_what_is_no_id_is_not_there_and_cannot_be(object_id: bytes) -> None:
    rows = IdRows()
    rows.extend([b"a" * 32, b"a" * 31 + b"b"])
    for _ in range(40):
        assert rows.find(object_id) == NOWHERE
    with pytest.raises(InvalidArgument):
        rows.add(object_id)
    assert len(rows) == 2


def test_an_id_takes_little_more_than_its_bytes() -> None:
    import tracemalloc

    count = 20_000
    tracemalloc.start()
    try:
        rows = IdRows()
        for number in range(count):
            rows.find(identity(number))
            rows.add(identity(number))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 48 * count
