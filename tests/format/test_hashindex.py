"""The index table: borg's own bytes, a plain model of its rules, and damaged files."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.buffers import Buffer
from borg_serve_lib.errors import (
    FileIntegrityError,
    IntegrityError,
    InvalidArgument,
    NoSpace,
    UnknownMarker,
    WrongState,
)
from borg_serve_lib.format import hashindex, hashlayout, hashscan, hashsizes
from borg_serve_lib.format.hashindex import BUCKET_SIZE, HEADER_SIZE, MAGIC, SIZES, IndexTable
from borg_serve_lib.limits import MANIFEST_ID, MAX_SEGMENT_NUMBER
from tests import vectors_support as vectors
from tests.format.rooms import Room, Rooms
from tests.format.sources import Bytes
from tests.tiny import treat_all_as_large

EMPTY, DELETED = 0xFFFFFFFF, 0xFFFFFFFE
BUCKET = struct.Struct("<32sII")

Bucket = tuple[bytes, int, int]
NEVER_USED: Bucket = (bytes(32), EMPTY, 0)


def numbered(number: int) -> bytes:
    """The ids of the worked vectors."""
    return hashlib.sha256(str(number).encode()).digest()


def at(home: int, name: bytes | int = 0) -> bytes:
    """An id that begins its search at bucket `home`."""
    return home.to_bytes(4, "little") + (name.to_bytes(28, "big") if isinstance(name, int) else name)


def file_of(buckets: list[Bucket], entries: int | None = None) -> bytearray:
    used = sum(segment < DELETED for _, segment, _ in buckets)
    header = MAGIC + struct.pack("<iibb", used if entries is None else entries, len(buckets), 32, 8)
    return bytearray(header + b"".join(BUCKET.pack(*bucket) for bucket in buckets))


def buckets_of(table: IndexTable) -> list[Bucket]:
    return list(BUCKET.iter_unpack(table.view[HEADER_SIZE:]))


def loaded(data: Buffer, *, writable: bool = True) -> IndexTable:
    return IndexTable.load(memoryview(bytearray(data)) if writable else memoryview(bytes(data)), writable=writable)


def filled(object_ids: list[bytes]) -> IndexTable:
    table = IndexTable.new()
    for number, object_id in enumerate(object_ids):
        table.set(object_id, number, 8)
    return table


def laid_out(items: Iterable[Bucket], expected: int) -> IndexTable:
    layout = hashlayout.Layout(hashsizes.size_for(expected))
    layout.add(items)
    layout.finish()
    assert isinstance(layout.place, memoryview)
    return loaded(layout.place)


def sha256(table: IndexTable) -> str:
    return hashlib.sha256(table.view).hexdigest()


# --- borg's bytes


def test_the_worked_vectors_come_out_byte_for_byte() -> None:
    table = IndexTable.new()
    table.set(MANIFEST_ID, 0, 8)
    assert (len(table), table.buckets, len(table.view)) == (1, 1031, 41258)
    assert sha256(table) == "dce1e42a9942d15c079a6714bb454e7388603bb70e953299794b941498c3334d"

    table = IndexTable.new()
    for i in range(1000):
        table.set(numbered(i), i, 8 + i)
    assert (len(table), table.buckets) == (1000, 2053)
    assert sha256(table) == "c36c66a242f8b5c6dcbffe486870ad21070049f347edb4f9e6596d824b2b51dd"

    for i in range(0, 1000, 2):
        assert table.remove(numbered(i))
    assert (len(table), table.buckets) == (500, 1031)
    assert sha256(table) == "536de9394bf17452e14a943f4b3450a22e6371fa926801cbcf575702fc80ad55"

    for i in range(2000, 2600):
        table.set(numbered(i), i, 1)
    for i in range(2000, 2600):
        assert table.remove(numbered(i))
    for i in range(3000, 3150):
        table.set(numbered(i), i, 1)
    assert (len(table), table.buckets) == (650, 1031)
    assert sha256(table) == "d7f194447adfc4fed9c94c0704f251c6ce83a4f00d109661551e278186f9dbb7"
    assert [object_id.hex()[:6] for object_id in table.ids()][:4] == ["86a3f9", "a05198", "2cfd4b", "550438"]


def test_the_vectors_come_out_the_same_when_each_step_loads_the_file_anew() -> None:
    data = bytes(filled([]).view)
    for i in range(300):
        table = loaded(data)
        table.set(numbered(i), i, 8 + i)
        data = bytes(table.view)
    expected = IndexTable.new()
    for i in range(300):
        expected.set(numbered(i), i, 8 + i)
    assert data == bytes(expected.view)


@pytest.mark.parametrize(("entries", "buckets"), [(774, 1031), (775, 2053), (1540, 2053), (1541, 4099), (3076, 8209)])
def test_it_grows_with_the_same_object_as_borg(entries: int, buckets: int) -> None:
    table = filled([numbered(i) for i in range(entries)])
    assert (table.buckets, len(table)) == (buckets, entries)
    assert table.relocated is (buckets > 1031)


def test_it_shrinks_with_the_same_object_as_borg() -> None:
    table = filled([numbered(i) for i in range(3076)])
    sizes = {table.buckets: len(table)}
    for i in range(3076):
        assert table.remove(numbered(i))
        sizes.setdefault(table.buckets, len(table))
    assert sizes == {8209: 3076, 4099: 2051, 2053: 1023, 1031: 512}
    assert len(table) == table.count_entries() == 0


def index_of(name: str, tmp_path: Path) -> bytes:
    tid = vectors.expectations()[name]["state"]["index_tid"]
    return (vectors.unpack(name, tmp_path) / f"index.{tid}").read_bytes()


WITH_INDEX = [name for name in vectors.names() if vectors.expectations()[name]["state"]["index_tid"] is not None]

# Their segments, or the index itself, were changed afterwards.
NOT_AS_LOGGED = {"attic-magic", "corrupt-index", "crash-mid-compaction", "truncated-segment", "zero-length-segment"}


def logged_locations(name: str) -> dict[str, tuple[int, int]]:
    """First 8 hex digits of the id -> location, as the segments up to the transaction of the index tell it."""
    vector = vectors.expectations()[name]
    locations = {}
    for segment in sorted(vector["log"], key=lambda segment: segment["segment"]):
        for offset, tag, _, object_id, *_ in segment["entries"]:
            if segment["segment"] <= vector["state"]["index_tid"]:
                if tag == "PUT":
                    locations[object_id] = (segment["segment"], offset)
                elif tag == "DEL":
                    locations.pop(object_id, None)
    return locations


@pytest.mark.parametrize("name", sorted(set(WITH_INDEX) - NOT_AS_LOGGED))
def test_an_index_written_by_borg_says_what_its_segments_say(name: str, tmp_path: Path) -> None:
    table = loaded(index_of(name, tmp_path), writable=False)
    found = {object_id.hex()[:8]: table.get(object_id) for object_id in table.ids()}
    assert found == logged_locations(name)
    assert len(found) == table.count_entries() == len(table) - 3 * (name == "index-wrong-count")


@pytest.mark.parametrize("name", WITH_INDEX)
def test_an_index_written_by_borg_takes_changes(name: str, tmp_path: Path) -> None:
    data = index_of(name, tmp_path)
    before = {object_id: (segment, offset) for object_id, segment, offset in loaded(data).items()}
    table = loaded(data)
    for i in range(5000, 6000):
        table.set(numbered(i), i, 5)
    assert {object_id: table.get(object_id) for object_id in before} == before
    assert {table.get(numbered(i)) for i in range(5000, 6000)} == {(i, 5) for i in range(5000, 6000)}
    assert len(table) == table.count_entries() == len(before) + 1000
    for object_id in list(table.ids()):
        assert table.remove(object_id)
    assert (len(table), table.count_entries(), list(table.ids())) == (0, 0, [])


# --- a plain model of the rules


class PlainTable:
    """Spec section 5.2 and 5.3 word by word, without any thought of speed."""

    def __init__(self, buckets: list[Bucket]) -> None:
        self.buckets = buckets
        self.entries = sum(segment < DELETED for _, segment, _ in buckets)
        self.empty = sum(segment == EMPTY for _, segment, _ in buckets)
        if self.empty < self.least_empty:
            self.rebuild(len(buckets))

    @property
    def least_empty(self) -> int:
        return 1 + int(len(self.buckets) * (1.0 - 0.93))

    def lookup(self, key: bytes) -> tuple[int | None, int]:
        size = len(self.buckets)
        deleted = None
        for step in range(size):
            place = (int.from_bytes(key[:4], "little") + step) % size
            bucket = self.buckets[place]
            if bucket[1] == EMPTY:
                return None, place if deleted is None else deleted
            if bucket[1] == DELETED:
                deleted = place if deleted is None else deleted
            elif bucket[0] == key:
                if deleted is None:
                    return place, place
                self.buckets[deleted] = bucket
                self.buckets[place] = (bucket[0], DELETED, bucket[2])
                return deleted, deleted
        assert deleted is not None
        return None, deleted

    def rebuild(self, capacity: int) -> None:
        old = self.buckets
        self.buckets = [NEVER_USED] * next((size for size in SIZES if size >= capacity), SIZES[-1])
        for bucket in old:
            if bucket[1] < DELETED:
                self.buckets[self.lookup(bucket[0])[1]] = bucket
        self.entries = sum(segment < DELETED for _, segment, _ in self.buckets)
        self.empty = len(self.buckets) - self.entries

    def neighbour(self, step: int) -> int:
        fitting = next(place for place, size in enumerate(SIZES) if size >= len(self.buckets))
        return SIZES[max(fitting + step, 0)]

    def set(self, key: bytes, segment: int, offset: int) -> None:
        found, place = self.lookup(key)
        if found is None:
            if self.entries > int(len(self.buckets) * 0.75):
                self.rebuild(self.neighbour(1))
                place = self.lookup(key)[1]
            if self.buckets[place][1] == EMPTY:
                if self.empty <= self.least_empty:
                    self.rebuild(len(self.buckets))
                    place = self.lookup(key)[1]
                self.empty -= 1
            self.entries += 1
        self.buckets[place] = (key, segment, offset)

    def remove(self, key: bytes) -> bool:
        found, place = self.lookup(key)
        if found is None:
            return False
        self.buckets[place] = (self.buckets[place][0], DELETED, self.buckets[place][2])
        self.entries -= 1
        if self.entries < (int(len(self.buckets) * 0.25) if len(self.buckets) > 1031 else 0):
            self.rebuild(self.neighbour(-1))
        return True


def test_tombstones_are_cleared_away_when_borg_does_it() -> None:
    table, plain = IndexTable.new(), PlainTable([NEVER_USED] * 1031)
    cleared = []
    for i in range(4000):
        table.set(numbered(i), i, 8)
        plain.set(numbered(i), i, 8)
        if table.relocated:
            cleared.append(i)
            table = loaded(table.view)
        if i >= 500:
            assert table.remove(numbered(i - 500))
            assert plain.remove(numbered(i - 500))
        assert bytes(table.view) == file_of(plain.buckets)
    assert len(cleared) == 3
    assert (table.buckets, len(table)) == (1031, 500)


# Many ids share a home, and some homes are at the end of the smallest table, where a search wraps.
crowded_ids = st.builds(at, st.sampled_from([0, 1, 2, 500, 1029, 1030, 1031, 2**32 - 1]), st.integers(0, 12))
single = st.tuples(st.sampled_from(["set", "set", "remove"]), st.lists(crowded_ids, min_size=1, max_size=20))
batch = st.tuples(
    st.sampled_from(["set", "set", "remove"]),
    st.builds(
        lambda first, count: [numbered(i) for i in range(first, first + count)],
        st.integers(0, 900),
        st.integers(1, 700),
    ),
)
steps = st.lists(st.one_of(single, batch, st.just(("reload", []))), max_size=12)


@settings(deadline=None, max_examples=60)
@given(steps)
def test_random_changes_give_what_a_dict_gives_and_the_bytes_the_rules_give(
    steps: list[tuple[str, list[bytes]]],
) -> None:
    random_changes(steps, IndexTable.new(), lambda table: loaded(table.view))


@settings(deadline=None, max_examples=60)
@given(steps, st.sampled_from([0, 1 << 26]))
def test_random_changes_in_files_give_the_same(steps: list[tuple[str, list[bytes]]], most_marked: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        treat_all_as_large(patch)
        patch.setattr(hashlayout, "_MOST_MARKED", most_marked)
        rooms = Rooms()
        random_changes(steps, IndexTable.new(make_room=rooms.make), rooms.moved)
        assert [room.closed for room in rooms.made] == [True] * (len(rooms.made) - 1) + [False]


@settings(deadline=None, max_examples=60)
@given(steps)
def test_random_changes_give_the_same_when_only_one_table_may_be_in_memory(
    steps: list[tuple[str, list[bytes]]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashindex, "MOST_TWICE", 0)
        rooms = Rooms()
        table = IndexTable.new(make_room=rooms.make)
        random_changes(steps, table, lambda table: table.copy_in_memory(rooms.make))
        assert all(room.closed for room in rooms.made)


def test_a_rebuild_without_room_happens_in_memory() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashindex, "MOST_TWICE", 0)
        table = IndexTable.new(make_room=lambda size, parts: None)
        for number in range(2000):
            table.set(numbered(number), number, 8)
    assert bytes(table.view) == bytes(filled([numbered(number) for number in range(2000)]).view)


def test_a_rebuild_that_fails_leaves_the_table_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashindex, "MOST_TWICE", 0)
    rooms = Rooms()
    table = IndexTable.new(make_room=rooms.make)
    ids = [numbered(number) for number in range(774)]
    for object_id in ids:
        table.set(object_id, 1, 8)
    monkeypatch.setattr(hashindex.Layout, "add", lambda self, items: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        table.set(numbered(774), 1, 8)
    assert sorted(table.ids()) == sorted(ids)
    assert table.get(ids[5]) == (1, 8)
    assert table.get(numbered(774)) is None
    table.release()
    assert [room.closed for room in rooms.made] == [True]


@pytest.mark.parametrize("method", ["add", "finish"])
def test_a_rebuild_into_a_file_that_fails_gives_the_file_up(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    treat_all_as_large(monkeypatch)
    rooms = Rooms()
    table = IndexTable.new(make_room=rooms.make)
    for number in range(774):
        table.set(numbered(number), 1, 8)
    monkeypatch.setattr(hashindex.Layout, method, lambda *arguments: (_ for _ in ()).throw(NoSpace(28, "full", "")))
    for _ in range(3):
        with pytest.raises(NoSpace):
            table.set(numbered(774), 1, 8)
    assert [room.closed for room in rooms.made] == [False, True, True, True]
    assert table.get(numbered(5)) == (1, 8)


def test_what_is_kept_for_reading_pieces_does_not_grow_with_their_lengths() -> None:
    table = filled([numbered(number) for number in range(700)])
    for marker in list(table.ids()):
        list(table.id_batches(marker))
    assert hashscan._ids.cache_info().currsize <= 2


@pytest.fixture
def all_large(monkeypatch: pytest.MonkeyPatch) -> None:
    treat_all_as_large(monkeypatch)


@pytest.mark.usefixtures("all_large")
def test_a_table_in_a_file_closes_it_when_it_needs_another_one() -> None:
    rooms = Rooms()
    table = IndexTable.new(make_room=rooms.make)
    for number in range(1000):
        table.set(numbered(number), number, 8)
    assert len(rooms.made) > 1
    assert [room.closed for room in rooms.made] == [True] * (len(rooms.made) - 1) + [False]
    assert bytes(table.view) == b""
    table.release()
    assert rooms.made[-1].closed


@pytest.mark.usefixtures("all_large")
def test_a_large_table_stays_in_memory_where_there_is_no_room() -> None:
    table = IndexTable.new(make_room=lambda size, parts: None)
    for number in range(3000):
        table.set(numbered(number), number, 8)
    assert table.copy_in_file(lambda size, parts: next(iter(parts)) and None) is None
    copy = table.copy_in_memory()
    assert bytes(copy.view) == bytes(table.view)
    copy.set(numbered(1), 5, 5)
    assert table.get(numbered(1)) == (1, 8)


@pytest.mark.usefixtures("all_large")
def test_a_callers_file_is_changed_and_left_open() -> None:
    rooms = Rooms()
    expected = filled([numbered(number) for number in range(700)])
    file = Room(bytes(expected.view))
    view = memoryview(bytearray(expected.view))
    table = IndexTable.load(view, writable=True, room=file, make_room=rooms.make)
    for changed in (table, expected):
        changed.remove(numbered(1))
        changed.set(numbered(2), 9, 9)
        changed.set(numbered(700), 9, 9)
    table.write_header()
    assert bytes(file.content) == bytes(expected.view)
    for number in range(900, 2000):
        table.set(numbered(number), number, 8)
    assert table.relocated
    assert not file.closed
    table.release()
    assert [room.closed for room in rooms.made] == [True] * len(rooms.made)


def random_changes(
    steps: list[tuple[str, list[bytes]]], table: IndexTable, reload: Callable[[IndexTable], IndexTable]
) -> None:
    plain, model = PlainTable([NEVER_USED] * 1031), dict[bytes, tuple[int, int]]()
    for number, (action, object_ids) in enumerate(steps):
        if action == "reload":
            table = reload(table)
        for object_id in object_ids:
            if action == "set":
                location = (number, len(model))
                table.set(object_id, *location)
                plain.set(object_id, *location)
                model[object_id] = location
            else:
                assert table.remove(object_id) is plain.remove(object_id) is (model.pop(object_id, None) is not None)
        assert b"".join(table.pieces()) == file_of(plain.buckets)
        assert len(table) == table.count_entries() == len(model)
        assert dict.fromkeys(table.ids()) == {object_id: None for object_id, _, _ in table.items()}
        assert {object_id: (segment, offset) for object_id, segment, offset in table.items()} == model
        assert {object_id: table.get(object_id) for object_id in model} == model
        assert all(table.get(object_id) == model.get(object_id) for object_id in object_ids)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 40), st.randoms(use_true_random=False), steps)
def test_a_table_of_any_size_and_filling_takes_changes_as_the_rules_say(
    size: int, rng: random.Random, steps: list[tuple[str, list[bytes]]]
) -> None:
    crowd = [at(home, name) for home in (0, 1, size - 1, size, 2**32 - 1) for name in range(12)]
    buckets = [rng.choice([NEVER_USED, (at(1, 7), DELETED, 99)]) for _ in range(size)]
    for object_id in rng.sample(crowd, rng.randint(0, min(size, len(crowd)))):
        home = int.from_bytes(object_id[:4], "little")
        free = next(p % size for p in range(home, home + size) if buckets[p % size][1] >= DELETED)
        buckets[free] = (object_id, 3, 4)
    model = {object_id: (segment, offset) for object_id, segment, offset in buckets if segment < DELETED}
    table = loaded(file_of(buckets))
    for number, (action, object_ids) in enumerate(steps):
        for object_id in object_ids:
            if action == "set":
                table.set(object_id, number, 1)
                model[object_id] = (number, 1)
            else:
                assert table.remove(object_id) is (model.pop(object_id, None) is not None)
    assert {object_id: (segment, offset) for object_id, segment, offset in table.items()} == model
    assert {object_id: table.get(object_id) for object_id in (*model, *crowd)} == {
        object_id: model.get(object_id) for object_id in (*model, *crowd)
    }
    assert len(table) == table.count_entries() == len(model)


# --- bulk


@settings(deadline=None, max_examples=50)
@given(st.lists(crowded_ids, max_size=300), st.integers(0, 1000), st.integers(0, 2000))
def test_a_table_made_in_bulk_has_the_bytes_of_one_made_object_by_object(
    object_ids: list[bytes], more: int, expected: int
) -> None:
    items = [(object_id, number, 8) for number, object_id in enumerate(object_ids)]
    items += [(numbered(i), i, 9) for i in range(more)]
    one_by_one = IndexTable.new(max(expected, len(items)))
    for item in items:
        one_by_one.set(*item)
    table = laid_out(items, max(expected, len(items)))
    assert bytes(table.view) == bytes(one_by_one.view)
    assert not table.relocated
    assert not one_by_one.relocated


def test_a_table_made_in_bulk_goes_on_like_any_other() -> None:
    bulk = laid_out(((numbered(i), i, 8) for i in range(700)), 700)
    single = filled([numbered(i) for i in range(700)])
    for table in (bulk, single):
        for i in range(700, 1600):
            table.set(numbered(i), i, 8)
        for i in range(1200):
            table.remove(numbered(i))
    assert bytes(bulk.view) == bytes(single.view)


@pytest.mark.parametrize("entries", [0, 1, 774, 775, 1540, 1541, 100_000])
def test_a_new_table_takes_the_announced_objects_without_moving(entries: int) -> None:
    table = IndexTable.new(entries)
    size = table.buckets
    assert (len(table), table.count_entries()) == (0, 0)
    for i in range(min(entries, 2000)):
        table.set(at(i * 7919 % 2**32, i), i, 8)
    assert (table.buckets, table.relocated) == (size, False)


def test_an_id_that_lies_across_other_buckets_is_not_taken_for_them() -> None:
    first = at(3, at(3)[:4] + bytes(range(24)))
    hidden = BUCKET.pack(first, 17, 8)[4:36]
    assert hidden[:4] == first[:4]
    table = laid_out([(first, 17, 8), (at(3, 1), 17, 9), (hidden, 17, 10)], 3)
    assert [table.get(object_id) for object_id in (first, at(3, 1), hidden)] == [(17, 8), (17, 9), (17, 10)]
    assert len(table) == 3


@pytest.mark.parametrize("places", [(3, 5, 900), (1029, 1030, 4)])
def test_a_rebuild_makes_one_of_two_buckets_with_the_same_id(places: tuple[int, int, int]) -> None:
    """borg before 1.1.11 could store an object where a lookup does not find it, and then store it again."""
    first, second, other = places
    twin = at(second)
    buckets = [(numbered(i), DELETED, 0) for i in range(1031)]
    buckets[first], buckets[second], buckets[other] = (at(first), 1, 1), (twin, 2, 2), (at(other, 5), 3, 3)
    buckets[second + 1 if second < 1030 else 0] = (twin, 4, 4)
    table = loaded(file_of(buckets))
    assert (len(table), table.count_entries()) == (4, 4)
    table.set(numbered(1), 9, 9)
    # In bucket order the bucket behind the end of the table comes first, and the later one stays.
    assert table.get(twin) == ((4, 4) if second < 1030 else (2, 2))
    assert (len(table), table.count_entries()) == (4, 4)
    assert table.get(at(first)) == (1, 1)


# --- tombstones


def test_a_lookup_in_a_table_without_an_empty_bucket_ends() -> None:
    tombstones = loaded(file_of([(numbered(i), DELETED, 7) for i in range(1031)]))
    assert (len(tombstones), tombstones.count_entries(), list(tombstones.ids())) == (0, 0, [])
    assert [tombstones.get(numbered(i)) for i in range(1031)] == [None] * 1031
    assert not tombstones.remove(numbered(5))
    full = loaded(file_of([(at(i), i, 8) for i in range(7)]))
    assert full.get(at(3, 1)) is None
    assert full.get(at(3)) == (3, 8)
    assert not full.remove(at(3, 1))


@pytest.mark.parametrize("size", [1, 7, 777, 1031, 2000])
def test_a_table_without_an_empty_bucket_is_laid_out_anew_by_the_first_new_object(size: int) -> None:
    table = loaded(file_of([(at(i), DELETED if i % 2 else i, 8) for i in range(size)]))
    before = list(table.items())
    table.set(at(0, 1), 1, 1)
    assert table.relocated
    assert table.buckets == next(candidate for candidate in SIZES if candidate >= size)
    assert sorted(table.items()) == sorted([*before, (at(0, 1), 1, 1)])
    assert sum(segment == DELETED for _, segment, _ in buckets_of(table)) == 0


def test_an_object_found_behind_a_tombstone_is_moved_to_it_by_a_change_but_not_by_a_lookup() -> None:
    table = filled([at(5, 1), at(5, 2), at(5, 3)])
    table.remove(at(5, 1))
    before = bytes(table.view)
    assert table.get(at(5, 3)) == (2, 8)
    assert list(chain.from_iterable(table.id_batches(at(5, 2)))) == [at(5, 3)]
    assert bytes(table.view) == before
    table.set(at(5, 3), 70, 80)
    assert buckets_of(table)[5:8] == [(at(5, 3), 70, 80), (at(5, 2), 1, 8), (at(5, 3), DELETED, 8)]
    assert table.get(at(5, 3)) == (70, 80)
    assert len(table) == table.count_entries() == 2


# --- in place


def test_changes_go_into_the_buffer_that_was_given() -> None:
    buffer = bytearray(filled([numbered(i) for i in range(700)]).view)
    table = IndexTable.load(memoryview(buffer), writable=True)
    table.set(numbered(1), 5, 6)
    table.set(numbered(1000), 7, 8)
    table.remove(numbered(2))
    assert not table.relocated
    again = loaded(buffer, writable=False)
    assert (again.get(numbered(1)), again.get(numbered(1000)), again.get(numbered(2))) == ((5, 6), (7, 8), None)
    assert len(again) == again.count_entries() == 700


def test_a_table_that_moves_says_so_and_shows_its_new_bytes() -> None:
    buffer = bytearray(filled([numbered(i) for i in range(774)]).view)
    table = IndexTable.load(memoryview(buffer), writable=True)
    assert not table.relocated
    table.set(numbered(774), 774, 8)
    assert table.relocated
    assert bytes(table.view) == bytes(filled([numbered(i) for i in range(775)]).view)


def test_set_returns_where_the_object_was() -> None:
    ids = [numbered(i) for i in range(2000)]  # many of them not in the bucket that is their home
    table = IndexTable.new()
    assert {table.set(object_id, 1, number) for number, object_id in enumerate(ids)} == {None}
    assert [table.set(object_id, 2, 0) for object_id in ids] == [(1, number) for number in range(2000)]
    table.remove(ids[0])
    assert table.set(ids[0], 3, 0) is None


def test_empty_buckets_that_are_known_are_not_counted_and_stay_right() -> None:
    original = filled([numbered(i) for i in range(500)])
    buffer = bytearray(original.view)
    table = IndexTable.load(memoryview(buffer), writable=True, empty=original.empty)
    table.set(numbered(500), 1, 1)
    table.remove(numbered(3))
    assert table.empty == original.empty - 1
    counted = loaded(bytes(buffer))
    counted.set(numbered(501), 1, 1)
    assert counted.empty == original.empty - 2


def test_all_is_read_from_the_file_and_single_objects_from_the_view() -> None:
    data = bytes(filled([numbered(i) for i in range(5000)]).view)

    class File:
        size = len(data)
        read = 0

        def read_at(self, offset: int, length: int) -> bytes:
            self.read += length
            return data[offset : offset + length]

    file = File()
    table = IndexTable.load(memoryview(data), writable=False, source=file)
    assert table.get(numbered(7)) is not None
    assert file.read == 0
    assert sorted(table.ids()) == sorted(numbered(i) for i in range(5000))
    assert file.read >= len(data) - 18
    assert table.count_entries() == 5000


def test_a_released_table_holds_no_buffer_and_cannot_be_used() -> None:
    buffer = bytearray(filled([numbered(i) for i in range(10)]).view)
    view = memoryview(buffer)
    table = IndexTable.load(view, writable=True)
    half_read = table.ids()
    next(half_read)
    table.release()
    view.release()
    buffer.append(0)  # a bytearray that is still looked at cannot grow
    for step in (lambda: table.get(numbered(1)), lambda: table.set(numbered(1), 1, 1), lambda: list(table.ids())):
        with pytest.raises(ValueError, match="released"):
            step()


def test_what_was_loaded_for_reading_cannot_be_changed() -> None:
    data = bytes(filled([numbered(1)]).view)
    table = loaded(data, writable=False)
    with pytest.raises(WrongState):
        table.set(numbered(1), 1, 1)
    with pytest.raises(WrongState):
        table.remove(numbered(1))
    with pytest.raises(WrongState):
        IndexTable.load(memoryview(data), writable=True)
    assert table.get(numbered(1)) == (0, 8)


# --- listing


def test_listing_goes_on_behind_a_marker_in_bucket_order() -> None:
    table = filled([numbered(i) for i in range(10_000)])
    ids = list(table.ids())
    assert ids == [key for key, segment, _ in buckets_of(table) if segment < DELETED]
    assert list(table.items()) == [bucket for bucket in buckets_of(table) if bucket[1] < DELETED]
    for place in (0, 1, 5000, 9998, 9999):
        assert list(chain.from_iterable(table.id_batches(ids[place]))) == ids[place + 1 :]


@pytest.mark.parametrize("marker", [numbered(7), numbered(3), b"", bytes(31), bytes(33)])
def test_an_unknown_marker_is_told_at_once(marker: bytes) -> None:
    table = filled([numbered(i) for i in range(5)])
    table.remove(numbered(3))
    with pytest.raises(UnknownMarker, match="marker not found"):
        table.id_batches(marker)


# --- bad arguments


@pytest.mark.parametrize("object_id", [b"", bytes(3), bytes(31), bytes(33)])
def test_an_id_of_another_length_is_not_found_and_not_stored(object_id: bytes) -> None:
    table = filled([MANIFEST_ID])
    before = bytes(table.view)
    assert table.get(object_id) is None
    assert not table.remove(object_id)
    with pytest.raises(InvalidArgument, match="32 bytes"):
        table.set(object_id, 1, 1)
    assert bytes(table.view) == before


@pytest.mark.parametrize(
    "location", [(MAX_SEGMENT_NUMBER + 1, 8), (DELETED, 8), (EMPTY, 8), (-1, 8), (1, 2**32), (1, -1)]
)
def test_a_location_that_no_index_can_hold_is_refused(location: tuple[int, int]) -> None:
    table = filled([MANIFEST_ID])
    before = bytes(table.view)
    for object_id in (MANIFEST_ID, numbered(1)):
        with pytest.raises(IntegrityError, match="nothing an index can hold"):
            table.set(object_id, *location)
    assert bytes(table.view) == before


def test_the_largest_location_is_kept() -> None:
    table = IndexTable.new()
    table.set(MANIFEST_ID, MAX_SEGMENT_NUMBER, 2**32 - 1)
    assert loaded(table.view).get(MANIFEST_ID) == (MAX_SEGMENT_NUMBER, 2**32 - 1)
    assert table.count_entries() == 1


# --- damaged files


def damaged(offset: int, new: bytes) -> bytearray:
    data = bytearray(filled([numbered(i) for i in range(5)]).view)
    data[offset : offset + len(new)] = new
    return data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes, too few"),
        (b"BORG_IDX" + bytes(9), "17 bytes, too few"),
        (damaged(0, b"BORG_IDY"), "does not begin as an index"),
        (damaged(0, b"BORG2IDX"), "does not begin as an index"),
        (damaged(8, struct.pack("<i", -1)), "-1 entries"),
        (damaged(8, struct.pack("<i", 1032)), "1032 entries"),
        (damaged(12, struct.pack("<i", 1030)), "41258 bytes, not 41218"),
        (damaged(12, struct.pack("<i", 1032)), "41258 bytes, not 41298"),
        (damaged(12, struct.pack("<i", 0)), "0 buckets"),
        (damaged(12, struct.pack("<i", -(2**31))), "-2147483648 buckets"),
        (damaged(16, b"\x10"), "keys of 16"),
        (damaged(16, b"\xff"), "keys of -1"),
        (damaged(17, b"\x10"), "values of 16"),
        (damaged(0, b"")[:-1], "41257 bytes, not 41258"),
        (damaged(0, b"") + b"\0", "41259 bytes, not 41258"),
        (MAGIC + struct.pack("<iibb", 0, 0, 32, 8), "0 buckets"),
    ],
)
def test_what_borg_does_not_take_for_an_index_is_named(data: bytes, reason: str) -> None:
    for writable in (False, True):
        with pytest.raises(FileIntegrityError, match=reason):
            loaded(data, writable=writable)


def test_a_file_cut_anywhere_is_no_index() -> None:
    data = bytes(filled([numbered(1)]).view)
    for length in [*range(200), *range(200, len(data), 1009), len(data) - 40]:
        with pytest.raises(FileIntegrityError):
            loaded(data[:length])


def use(table: IndexTable) -> None:
    ids = list(table.ids())
    for object_id in [*ids, *(numbered(i) for i in range(40))]:
        location = table.get(object_id)
        assert location is None or len(location) == 2
    assert len(list(table.items())) == len(ids) == table.count_entries()
    for i in range(900):
        table.set(numbered(i), i, 8)
        assert table.get(numbered(i)) == (i, 8)
    for i in range(900):
        assert table.remove(numbered(i))
        assert len(table) >= 0
    loaded(table.view)


def test_one_flipped_bit_in_the_header_is_an_error_or_a_wrong_count() -> None:
    data = bytes(filled([numbered(i) for i in range(30)]).view)
    accepted = 0
    for bit in range(HEADER_SIZE * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            table = loaded(flipped)
        except FileIntegrityError:
            continue
        assert 8 <= bit // 8 < 12
        assert table.count_entries() == 30 != len(table)
        use(table)
        accepted += 1
    assert accepted == 10  # bits 0 to 9 of the count; with a higher one there are more entries than buckets


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 1031 * BUCKET_SIZE * 8 - 1), min_size=1, max_size=5))
def test_flipped_bits_in_the_buckets_never_break_anything(bits: list[int]) -> None:
    data = bytearray(filled([numbered(i) for i in range(700)]).view)
    for bit in bits:
        data[HEADER_SIZE + bit // 8] ^= 1 << bit % 8
    use(loaded(data))


@pytest.mark.parametrize("entries", [0, 1, 5, 699, 701, 1031])
@pytest.mark.parametrize("fill", [700, 1000])
def test_a_wrong_count_in_the_header_never_leaves_its_range_and_is_put_right_by_a_rebuild(
    entries: int, fill: int
) -> None:
    table = loaded(file_of([(at(i), i, 8) if i < fill else NEVER_USED for i in range(1031)], entries))
    assert len(table) == entries
    assert table.count_entries() == fill
    for i in range(fill):
        assert table.remove(at(i))
        assert len(loaded(table.view)) == len(table)
    assert table.count_entries() == 0
    for i in range(3000):
        table.set(at(i), i, 8)
        assert len(table) <= table.buckets
    assert len(table) == table.count_entries() == 3000
    assert [table.get(at(i)) for i in range(3000)] == [(i, 8) for i in range(3000)]


@pytest.mark.parametrize("change", ["remove", "add"])
def test_a_rebuild_finds_room_for_what_is_there_and_not_for_what_the_header_says(change: str) -> None:
    table = loaded(file_of([(at(i), i, 8) if i < 2000 else NEVER_USED for i in range(2053)], 5))
    if change == "remove":
        table.remove(at(0))
    else:
        table.set(at(3000), 1, 1)
    assert table.relocated
    assert table.buckets == 4099
    assert len(table) == table.count_entries() == (1999 if change == "remove" else 2001)
    assert [table.get(at(i)) for i in range(1, 2000)] == [(i, 8) for i in range(1, 2000)]


@pytest.mark.parametrize(
    "segment", [0xFFFFFFFD, 0xFFFFFF00, 0xFFFF00FF, 0xFF00FFFF, 0x00FFFFFF, 0xFEFFFFFF, 0xFFFFFEFF, 0]
)
def test_only_the_two_markers_count_as_unused(segment: int) -> None:
    buckets = [(at(place), segment, 8) if place % 3 else NEVER_USED for place in range(10_000)]
    buckets[9_997] = (at(1), DELETED, 8)
    table = loaded(file_of(buckets), writable=False)
    assert table.count_entries() == len(table) == len(list(table.ids())) == 10_000 - 3_334 - 1


@settings(deadline=None)
@given(st.sets(st.integers(0, 300), max_size=80), st.sets(st.integers(0, 300), max_size=20), st.integers(0, 3))
def test_an_object_is_found_by_reading_as_by_looking(there: set[int], removed: set[int], beside: int) -> None:
    """All have their home near the end, and most lie elsewhere. `beside`: how far from the end it is."""
    ids = [(1030 - beside).to_bytes(4, "little") + number.to_bytes(28, "little") for number in range(301)]
    table = laid_out(((ids[number], number, 9) for number in sorted(there)), len(there))
    for number in removed:
        table.remove(ids[number])
    file, nowhere = Bytes(bytes(table.view)), memoryview(bytearray(table.size))
    with pytest.MonkeyPatch.context() as patch:
        treat_all_as_large(patch)
        nowhere[:HEADER_SIZE] = table.view[:HEADER_SIZE]
        read = IndexTable.load(nowhere, writable=False, source=file)
    assert [read.get(object_id) for object_id in ids] == [table.get(object_id) for object_id in ids]
    assert read.get(b"short") is None
    listed = list(table.ids())
    for marker in listed[:5]:
        after = [object_id for batch in read.id_batches(marker) for object_id in batch]
        assert after == listed[listed.index(marker) + 1 :]
