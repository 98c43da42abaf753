"""What arguments may be: for each check, what passes and as what, and what does not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import BorgServeError, InvalidArgument, WrongState
from borg_serve_lib.limits import MAX_PATH_SIZE, MAX_TEXT_ARGUMENT
from borg_serve_lib.rpc import arguments as check

ID = bytes(32)
YEARS = 10 * 365 * 86400
NAN, INFINITY = math.nan, math.inf
NO_NUMBERS = [None, True, b"1", [], {}]


@pytest.mark.parametrize(
    ("verify", "value", "result"),
    [
        (check.object_id, ID, ID),
        (check.optional_id, ID, ID),
        (check.optional_id, None, None),
        (check.data, b"", b""),
        (check.data, memoryview(b"x"), memoryview(b"x")),
        (check.flag, True, True),
        (check.flag, False, False),
        (check.flag, 1, True),
        (check.flag, 0, False),
        (check.optional_flag, None, None),
        (check.optional_flag, 1, True),
        (check.number, 0, 0),
        (check.number, 2**64 - 1, 2**64 - 1),
        (check.optional_number, None, None),
        (check.optional_number, 7, 7),
        (check.ratio, 0.1, 0.1),
        (check.ratio, 1, 1.0),
        (check.ratio, 1.5, 1.5),
        (check.ratio, -0.5, -0.5),
        (check.seconds, 0, 0),
        (check.seconds, 1.5, 1.5),
        (check.seconds, INFINITY, YEARS),
        (check.seconds, 2**63, YEARS),
        (check.optional_seconds, None, None),
        (check.optional_seconds, 3, 3),
        (check.path, b"", b""),
        (check.path, b"/srv/\xff", b"/srv/\xff"),
        (check.path, b"x" * MAX_PATH_SIZE, b"x" * MAX_PATH_SIZE),
        (check.text, b"divide", "divide"),
        (check.text, b"\xff", "\ufffd"),
        (check.text, b"x" * MAX_TEXT_ARGUMENT, "x" * MAX_TEXT_ARGUMENT),
        (check.anything, NAN, NAN),
    ],
)
def test_what_is_right_passes(verify: Callable[[str, Any], Any], value: object, result: object) -> None:
    checked = verify("name", value)
    assert checked is result or checked == result
    assert type(checked) is type(result)


@pytest.mark.parametrize(
    ("verify", "values"),
    [
        (check.object_id, [None, 5, "x" * 32, [], memoryview(ID)]),
        (check.optional_id, [5, "", []]),
        (check.data, [None, 5, "text", [b"x"]]),
        (check.flag, [None, 2, -1, b"\x01", [], {}, 0.5, NAN]),
        (check.optional_flag, [2, b""]),
        (check.number, [*NO_NUMBERS, -1, 1.0, NAN]),
        (check.optional_number, [-1, False, 1.0]),
        (check.ratio, [*NO_NUMBERS, NAN]),
        (check.seconds, [*NO_NUMBERS, -1, -0.001, NAN, -INFINITY]),
        (check.optional_seconds, [-1, NAN, b""]),
        (check.path, [None, 5, "text", b"a\0b", b"x" * (MAX_PATH_SIZE + 1)]),
        (check.text, [None, 5, "text", b"x" * (MAX_TEXT_ARGUMENT + 1)]),
    ],
)
def test_what_is_wrong_is_named_and_refused(verify: Callable[[str, Any], Any], values: list[object]) -> None:
    for value in values:
        with pytest.raises(InvalidArgument, match=r"^limit must"):
            verify("limit", value)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_an_id_of_another_length_is_what_the_reference_calls_an_assertion(length: int) -> None:
    for verify in (check.object_id, check.optional_id):
        with pytest.raises(WrongState, match=f"id must have 32 bytes, not {length}"):
            verify("id", bytes(length))


CHECKS = [
    check.object_id, check.optional_id, check.data, check.flag, check.optional_flag, check.number,
    check.optional_number, check.ratio, check.seconds, check.optional_seconds, check.path, check.text,
]  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(CHECKS), ANYTHING)
def test_whatever_comes_a_check_returns_or_raises_one_of_our_errors(
    verify: Callable[[str, Any], Any], value: object
) -> None:
    fault: BorgServeError | None = None
    try:
        verify("name", value)
    except BorgServeError as error:
        fault = error
    assert fault is None or str(fault).startswith("name must")
