"""The index of a repository: whether changes lie beside the file or in a copy makes no difference to anybody."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.engine import index as index_module
from borg_serve_lib.engine.caches import CacheFiles
from borg_serve_lib.engine.index import Location, ObjectIndex
from borg_serve_lib.engine.scratch import Scratch
from borg_serve_lib.engine.state import TransactionState
from borg_serve_lib.errors import UnknownMarker
from borg_serve_lib.format import hashindex, hashlayout
from borg_serve_lib.reporting import Reporter
from borg_serve_lib.storage.base import Storage
from borg_serve_lib.storage.memory import MemoryProvider

IDS = [hashlib.sha256(bytes([number])).digest() for number in range(12)]
LOCATIONS = st.none() | st.tuples(st.integers(0, 5), st.integers(8, 90))
HISTORIES = st.lists(st.tuples(st.sampled_from(IDS), LOCATIONS), max_size=40)
OBJECTS = st.dictionaries(st.sampled_from(IDS), st.tuples(st.integers(0, 5), st.integers(8, 90)))

Model = dict[bytes, Location]


def new_storage() -> Storage:
    return MemoryProvider(("/",)).create("/r", make_parent_dirs=False)


@contextmanager
def limits(most_changes: int, most_in_memory: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "MOST_CHANGES", most_changes)
        for module in (hashindex, hashlayout):
            patch.setattr(module, "MOST_IN_MEMORY", most_in_memory)
        patch.setattr(hashindex, "MOST_MAPPED", most_in_memory)
        patch.setattr(hashindex, "MOST_TWICE", most_in_memory)
        yield


def written(storage: Storage, objects: Model) -> ObjectIndex:
    """Return the index of transaction 3, with these objects, opened from its file."""
    caches = CacheFiles(storage, Reporter())
    index = ObjectIndex.empty()
    for object_id, location in objects.items():
        index.set(object_id, location)
    caches.write(3, index, TransactionState.empty(None).hints)
    return caches.open_index(3)


def change(index: ObjectIndex, model: Model, history: list[tuple[bytes, Location | None]]) -> None:
    for object_id, location in history:
        if location is not None:
            if location[1] % 2:
                assert index.set(object_id, location) == model.get(object_id)
            else:
                index.put(object_id, location, is_new=object_id not in model)
            model[object_id] = location
        elif object_id in model:
            index.remove(object_id)
            del model[object_id]


def assert_is(index: ObjectIndex, model: Model) -> None:
    assert len(index) == len(model)
    assert {object_id: index.get(object_id) for object_id in IDS} == {each: model.get(each) for each in IDS}
    assert {object_id: (segment, offset) for object_id, segment, offset in index.items()} == model
    ids = [object_id for batch in index.id_batches() for object_id in batch]
    assert sorted(ids) == sorted(model)
    for number, object_id in enumerate(ids):
        assert [each for batch in index.id_batches(object_id) for each in batch] == ids[number + 1 :]
    for object_id in set(IDS) - set(ids):
        with pytest.raises(UnknownMarker):
            index.id_batches(object_id)


@given(OBJECTS, HISTORIES, st.integers(0, 6), st.sampled_from([0, 1 << 20]))
def test_an_index_is_what_a_dict_is_and_so_is_the_file_it_writes(
    objects: Model, history: list[tuple[bytes, Location | None]], most_changes: int, most_in_memory: int
) -> None:
    storage, model = new_storage(), dict(objects)
    with limits(most_changes, most_in_memory):
        index = written(storage, objects)
        assert_is(index, model)
        change(index, model, history)
        assert_is(index, model)
        caches = CacheFiles(storage, Reporter())
        caches.write(4, index, TransactionState.empty(None).hints)
        assert_is(index, model)
        index.close()
        again = CacheFiles(storage, Reporter()).open_index(4)
        again.verify()
        assert_is(again, model)
        again.close()


@given(OBJECTS, HISTORIES, st.integers(0, 6))
def test_an_index_in_memory_needs_no_file(
    objects: Model, history: list[tuple[bytes, Location | None]], most_changes: int
) -> None:
    storage, model = new_storage(), dict(objects)
    with limits(most_changes, 0):
        index = written(storage, objects)
        change(index, model, history)
        index.move_to_memory()
        assert index.owns_table
        assert index.table.in_memory
        for entry in storage.entries():
            storage.remove(entry.name)
        assert_is(index, model)
        change(index, model, [(IDS[0], (1, 8)), (IDS[0], None)])
        assert_is(index, model)


def test_where_the_disk_has_no_room_a_large_table_stays_where_it_is_as_long_as_changes_are_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = new_storage()
    with limits(2, 0):
        index = written(storage, {IDS[0]: (0, 8)})
        monkeypatch.setattr(index_module, "_CHANGE_SIZE", len(storage.read("index.3")) // 9)
        monkeypatch.setattr(Scratch, "make_room", lambda self, size, parts: None)
        index = CacheFiles(storage, Reporter()).open_index(3)
        model = {IDS[0]: (0, 8)}
        for number in range(1, 9):
            change(index, model, [(IDS[number], (1, 8))])
            assert not index.owns_table
            assert_is(index, model)
        change(index, model, [(IDS[9], (1, 8)), (IDS[10], (1, 8)), (IDS[11], (1, 8))])
        assert_is(index, model)
        for number in range(20):
            object_id = hashlib.sha256(b"%d" % number).digest()
            index.set(object_id, (1, 8))
        assert index.owns_table
        assert index.get(IDS[3]) == (1, 8)
        index.close()


def test_many_changes_leave_the_file_as_it_is_until_they_are_written() -> None:
    storage = new_storage()
    with limits(3, 0):
        index = written(storage, {IDS[0]: (0, 8)})
        before = storage.read("index.3")
        for number in range(1, 4):
            index.set(IDS[number], (1, 8))
        assert not index.owns_table
        index.set(IDS[4], (1, 8))
        assert index.owns_table
        assert storage.read("index.3") == before
        index.close()
        assert {entry.name for entry in storage.entries()} == {"index.3", "hints.3", "integrity.3"}
