"""What a transaction changes: whether it lies loose or in tables makes no difference to anybody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.engine import changes as changes_module
from borg_serve_lib.engine.changes import Changes, Location
from borg_serve_lib.format.hashindex import IndexTable

_IDS = [bytes([number]) * 32 for number in range(12)]
_locations = st.none() | st.tuples(st.integers(0, 5), st.integers(8, 90))
_histories = st.lists(st.tuples(st.sampled_from(_IDS), _locations), max_size=40)


@given(_histories, st.integers(0, 6), st.sets(st.sampled_from(_IDS)), st.sampled_from([500, 1 << 24]))
def test_changes_give_what_a_dict_gives(
    history: list[tuple[bytes, Location | None]], most_loose: int, in_table: set[bytes], region: int
) -> None:
    changes, expected = Changes(most_loose), dict[bytes, Location | None]()
    for object_id, location in history:
        changes[object_id] = expected[object_id] = location
    assert bool(changes) == bool(expected)
    assert {object_id for object_id in _IDS if object_id in changes} == set(expected)
    assert {object_id: changes.get(object_id) for object_id in expected} == expected
    placed = {object_id: location for object_id, location in expected.items() if location is not None}
    assert sorted(changes.placed()) == sorted(placed.items())
    assert list(changes.placed()) == list(changes.placed())
    table = IndexTable.from_items(((object_id, 9, 9) for object_id in in_table), len(in_table))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes_module, "_REGION", region)
        changes.apply_to(table)
    untouched = {object_id: (9, 9) for object_id in in_table if object_id not in expected}
    assert {object_id: (segment, offset) for object_id, segment, offset in table.items()} == untouched | placed


def test_many_changes_take_no_more_than_sixty_bytes_each() -> None:
    import tracemalloc

    count = 20_000
    tracemalloc.start()
    try:
        changes = Changes(1000)
        for number in range(count):
            changes[number.to_bytes(4, "little") * 8] = (1, number)
        settled = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert settled < 60 * count
