from __future__ import annotations

import inspect
from typing import Any, ClassVar

import pytest

from borg_serve_lib.values import Value


class Place(Value):
    kind: ClassVar[str] = "place"
    segment: int
    offset: int = 8


class NamedPlace(Place):
    name: str = ""


def test_fields_are_given_by_position_name_or_default() -> None:
    assert Place(1, 2) == Place(offset=2, segment=1)
    assert Place(1).offset == 8


def test_fields_of_the_base_come_first() -> None:
    assert NamedPlace(1, 2, "x").name == "x"


def test_class_variables_are_no_fields() -> None:
    assert repr(Place(1)) == "Place(segment=1, offset=8)"


@pytest.mark.parametrize(("args", "kwargs"), [((1, 2, 3), {}), ((1,), {"segment": 1}), ((1,), {"kind": "x"})])
def test_other_fields_are_refused(args: tuple[int, ...], kwargs: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="Place takes the fields segment, offset"):
        Place(*args, **kwargs)


class Doubled(Place):
    def __init__(self, segment: int) -> None:
        super().__init__(2 * segment)


def test_its_signature_is_that_of_its_fields() -> None:
    assert str(inspect.signature(NamedPlace)) == "(segment: 'int', offset: 'int' = 8, name: 'str' = '')"


def test_its_signature_is_its_own_if_it_is_made_otherwise() -> None:
    assert str(inspect.signature(Doubled)) == "(segment: 'int') -> 'None'"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TypeError, match="Place needs the field segment"):
        Place(offset=1)


def test_values_are_frozen() -> None:
    place = Place(1)
    with pytest.raises(AttributeError, match="Place is frozen"):
        place.segment = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="Place is frozen"):
        del place.segment
    assert place.segment == 1


def test_equal_values_hash_alike_however_they_were_made() -> None:
    assert len({Place(1, 2), Place(offset=2, segment=1), Place(1, 3)}) == 2


def test_values_of_different_classes_differ() -> None:
    class Other(Place):
        pass

    assert Place(1) != Other(1)


def test_evolve_changes_a_copy() -> None:
    place = Place(1, 2)
    assert (place.evolve(offset=3), place) == (Place(1, 3), Place(1, 2))


WITHOUT_THE_IMPORT = """
import typing
from typing import Any, ClassVar

from borg_serve_lib.errors import BorgServeError
from borg_serve_lib.values import Value


class Point(Value):
    x: int
    y: str = "y"
    kind: ClassVar[int] = 3
    other: typing.ClassVar[int] = 4


class Failed(BorgServeError):
    sentence = "{why}"
    why: str
"""


def test_fields_are_found_without_the_future_import_as_well() -> None:
    names: dict[str, Any] = {}
    exec(compile(WITHOUT_THE_IMPORT, "example", "exec", dont_inherit=True), names)
    assert repr(names["Point"](1)) == "Point(x=1, y='y')"
    assert str(names["Failed"]("because")) == "because"
