"""The table of `index.N`: object id -> (segment, offset), probed and changed where it lies.

A table is a buffer in file format: a header of 18 bytes, then buckets of 40 bytes with open addressing and linear
probing. Source: spec, repository-format.md section 5.
"""

from __future__ import annotations

from itertools import chain
from struct import Struct

from ..errors import FileIntegrityError, IntegrityError, InvalidArgument, UnknownMarker, WrongState
from ..limits import ID_SIZE, MAX_SEGMENT_NUMBER
from . import hashscan, hashsizes
from .hashlayout import (
    BUCKET,
    BUCKET_SIZE,
    DELETED,
    EMPTY,
    HASH,
    HEADER,
    HEADER_SIZE,
    MAGIC,
    MOST_IN_MEMORY,
    MOST_MAPPED,
    MOST_TWICE,
    NOWHERE,
    VALUE_SIZE,
    Layout,
)
from .hashsizes import SIZES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from ..buffers import Buffer, Room, RoomMaker, Source

__all__ = ["BUCKET_SIZE", "HEADER_SIZE", "MAGIC", "NOT_COUNTED", "SIZES", "IndexTable"]

_MAX_OFFSET: Final = 2**32 - 1
_ENTRIES: Final = Struct("<i")
_ENTRIES_AT: Final = len(MAGIC)
_DELETED: Final = Struct("<I").pack(DELETED)
_PIECE: Final = 1 << 20
"""Bytes copied at once."""

NOT_COUNTED: Final = -1


class IndexTable:
    """A table in a buffer, or in a file that is too large for one.

    `view`: the whole table in file format, empty if it is in a file. It is borrowed from whoever called `load`, as the
    file is, until a change needs another number of buckets: from then on the table lies in a place of its own and
    `relocated` is True. `size`: its bytes. `is_large`: too large to lie in memory. `buckets`: their number.
    `empty`: how many of them are EMPTY, or NOT_COUNTED.
    """

    view: memoryview
    size: int
    is_large: bool
    buckets: int
    empty: int
    relocated: bool

    def __init__(
        self,
        place: memoryview | Room,
        *,
        entries: int,
        empty: int,
        writable: bool,
        source: Source | None = None,
        make_room: RoomMaker | None = None,
    ) -> None:
        """Use a valid table. `empty`: the number of EMPTY buckets, or NOT_COUNTED. See `new`, `load`."""
        self._own: Room | None = None
        self._source = source
        self._use(place)
        self.relocated = False
        self._entries = entries
        self.empty = empty
        self._writable = writable
        self._make_room = make_room

    def _use(self, place: memoryview | Room) -> None:
        if isinstance(place, memoryview):
            self.view, self._room, self.size = place, None, len(place)
        else:
            self.view, self._room, self.size = memoryview(b""), place, place.size
            self._source = place
        self.is_large = self.size > MOST_IN_MEMORY
        # Where objects are looked up: not in a large mapping, what is looked at of which would be in memory.
        self._file = self._source if self.size > MOST_MAPPED else self._room
        self.buckets = (self.size - HEADER_SIZE) // BUCKET_SIZE
        self._least_empty = hashsizes.least_empty(self.buckets)
        self._most_entries = hashsizes.upper_limit(self.buckets)

    @classmethod
    def new(cls, entries: int = 0, make_room: RoomMaker | None = None) -> IndexTable:
        """Return an empty table that takes `entries` objects without being rebuilt.

        `make_room`: for when it becomes too large for memory.
        """
        return cls.filled(entries, (), make_room)

    @classmethod
    def filled(
        cls, entries: int, items: Iterable[tuple[bytes, int, int]], make_room: RoomMaker | None = None
    ) -> IndexTable:
        """Return a table of the `entries` items (object id, segment, offset), which are not checked."""
        layout, count = _laid_out(hashsizes.size_for(entries), items, make_room)
        return cls._owning(layout.place, make_room, entries=count, empty=layout.buckets - count)

    @classmethod
    def load(
        cls,
        view: memoryview,
        *,
        writable: bool,
        empty: int = NOT_COUNTED,
        source: Source | None = None,
        room: Room | None = None,
        make_room: RoomMaker | None = None,
    ) -> IndexTable:
        """Use the table in `view` (contiguous bytes) where it lies; no more than its header is read.

        `empty`: the number of its EMPTY buckets, if known: they need not be counted before the first change then.
        `source`: the file behind `view`, for reading it all: mapped pages would all count as this process's memory.
        `room`: the same file, in which a large table is changed, not in `view`. Both stay the caller's to close.
        `make_room`: for when another number of buckets is needed and the table is too large for memory.
        Raises FileIntegrityError for what borg does not take for an index (spec: section 5.4), WrongState.
        """
        if writable and view.readonly:
            raise WrongState("the index is to be changed but its memory is read-only")
        place = view if room is None or len(view) <= MOST_TWICE else room
        return cls(
            place,
            entries=_check_header(view),
            empty=empty,
            writable=writable,
            source=source or room,
            make_room=make_room,
        )

    @classmethod
    def _owning(cls, place: memoryview | Room, make_room: RoomMaker | None, *, entries: int, empty: int) -> IndexTable:
        table = cls(place, entries=entries, empty=empty, writable=True, make_room=make_room)
        table._own = table._room
        return table

    def copy_in_file(self, make_room: RoomMaker) -> IndexTable | None:
        """Return a table with the same content in a file of its own; None if there is no room for it."""
        room = make_room(self.size, self.pieces())
        return None if room is None else self._copy(room, make_room)

    def copy_in_memory(self, make_room: RoomMaker | None = None) -> IndexTable:
        """Return a table with the same content in memory; `make_room`: as for `new`."""
        content = bytearray()
        for piece in self.pieces():  # not through a mapping, which would take as much again
            content += piece
        return self._copy(memoryview(content), make_room)

    def _copy(self, place: memoryview | Room, make_room: RoomMaker | None) -> IndexTable:
        return self._owning(place, make_room, entries=self._entries, empty=self.empty)

    def pieces(self) -> Iterator[Buffer]:
        """Yield the whole table, part after part."""
        self.write_header()
        for start in range(0, self.size, _PIECE):
            yield self.read_at(start, _PIECE)

    def release(self) -> None:
        """Let go of the buffer, and of the file if it has one of its own. The table cannot be used any more."""
        if self._own is not None:
            self._own.close()
            self._own = None
        # A released view makes every later use fail loudly, where an empty one would know no object.
        self.view, self._room, self._source, self._file = memoryview(b""), None, None, None
        self.view.release()

    # --- looking

    def read_at(self, offset: int, length: int) -> Buffer:
        """Return a part of the table in file format."""
        if self._source is not None:
            return self._source.read_at(offset, length)
        return self.view[offset : offset + length]

    @property
    def in_memory(self) -> bool:
        """Whether the table lies in `view`, and not in a file only."""
        return self._room is None

    def __len__(self) -> int:
        """Return the number of objects as the header says it."""
        return self._entries

    def get(self, object_id: bytes) -> tuple[int, int] | None:
        """Return (segment, offset) of an object, or None. Changes nothing."""
        if len(object_id) != ID_SIZE:
            return None
        home = HEADER_SIZE + HASH.unpack_from(object_id)[0] % self.buckets * BUCKET_SIZE
        if self._file is not None:
            return hashscan.find(self._file, self.size, object_id, home)
        # Not by `_probe`, which takes 1 us to begin: most ids are settled by the bucket that is their home, or soon.
        view, look, position = self.view, BUCKET.unpack_from, home
        key, segment, offset = look(view, home)
        while key != object_id or segment >= DELETED:
            position += BUCKET_SIZE
            if position == self.size:
                position = HEADER_SIZE
            if segment == EMPTY or position == home:
                return None
            key, segment, offset = look(view, position)
        return segment, offset

    def ids(self) -> Iterator[bytes]:
        """Yield the object ids in bucket order; good until the next change."""
        return chain.from_iterable(self.id_batches())

    def id_batches(self, after: bytes | None = None) -> Iterator[tuple[bytes, ...]]:
        """Yield the object ids in bucket order, all or those behind the id `after`, many at a time; good until the next
        change. Raises UnknownMarker at once.
        """
        start = HEADER_SIZE
        if after is not None:
            found = self._probe(after)[0]
            if found == NOWHERE:
                raise UnknownMarker("marker not found")
            start = found + BUCKET_SIZE
        return hashscan.id_batches(self, start)

    def items(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield (object id, segment, offset) in bucket order; good until the next change."""
        return hashscan.items(self)

    def count_entries(self) -> int:
        """Return how many buckets hold an object: what the header should say."""
        return hashscan.count_objects(self)

    # --- changing

    def set(self, object_id: bytes, segment: int, offset: int) -> tuple[int, int] | None:
        """Record where an object is, new or moved; return where it was.

        Raises IntegrityError for a location no index can hold, InvalidArgument, WrongState, StorageError.
        """
        self._demand_writable()
        _check_entry(object_id, segment, offset)
        if self._room is not None:
            return self._set_elsewhere(object_id, segment, offset)
        home = HEADER_SIZE + HASH.unpack_from(object_id)[0] % self.buckets * BUCKET_SIZE
        key, before, old_offset = BUCKET.unpack_from(self.view, home)
        if before == EMPTY and self.empty > self._least_empty and self._entries <= self._most_entries:
            self.empty -= 1
            self._count(1)
        elif key != object_id or before >= DELETED:
            return self._set_elsewhere(object_id, segment, offset)
        BUCKET.pack_into(self.view, home, object_id, segment, offset)
        return None if before == EMPTY else (before, old_offset)

    def _set_elsewhere(self, object_id: bytes, segment: int, offset: int) -> tuple[int, int] | None:
        """Set an object that cannot simply be put into the bucket that is its home."""
        found, free, before, old_offset = self._settle(object_id)
        while found == NOWHERE and (capacity := self._rebuild_due(free, before)):
            self._rebuild(capacity)
            found, free, before, old_offset = self._probe(object_id)  # a damaged table may have hidden it
        bucket = BUCKET.pack(object_id, segment, offset)
        if found != NOWHERE:
            self._write_at(found, bucket)
            return before, old_offset
        self._write_at(free, bucket)
        self.empty -= before == EMPTY
        self._count(1)
        return None

    def remove(self, object_id: bytes) -> bool:
        """Forget an object; return whether it was there. Raises WrongState, StorageError."""
        self._demand_writable()
        found = self._settle(object_id)[0]
        if found == NOWHERE:
            return False
        self._write_at(found + ID_SIZE, _DELETED)
        self._count(-1)
        # A header that said too little and goes below zero is put right here too.
        if self._entries < hashsizes.lower_limit(self.buckets):
            self._rebuild(hashsizes.next_size(self.buckets, -1))
        return True

    def _demand_writable(self) -> None:
        if not self._writable:
            raise WrongState("the index was loaded for reading only")

    def _write_at(self, position: int, data: bytes) -> None:
        if self._room is None:
            self.view[position : position + len(data)] = data
        else:
            self._room.write_at(position, data)

    def _count(self, more: int) -> None:
        """The table has one object `more`, or less."""
        self._entries += more
        if self._room is None:
            _ENTRIES.pack_into(self.view, _ENTRIES_AT, self._entries)

    def write_header(self) -> None:
        """Let a file say how many objects the table has; in memory it always does."""
        if self._room is not None and self._writable:
            self._room.write_at(_ENTRIES_AT, _ENTRIES.pack(self._entries))

    def _probe(self, object_id: bytes) -> tuple[int, int, int, int]:
        """Return what `hashscan.search` does, from the object's home on."""
        if len(object_id) != ID_SIZE:
            return NOWHERE, NOWHERE, 0, 0
        home = HEADER_SIZE + HASH.unpack_from(object_id)[0] % self.buckets * BUCKET_SIZE
        if self._file is not None:
            return hashscan.probe(self._file, self.size, object_id, home)
        view = self.view
        return hashscan.search(object_id, ((home, view[home:]), (HEADER_SIZE, view[HEADER_SIZE:home])))

    def _settle(self, object_id: bytes) -> tuple[int, int, int, int]:
        """As `_probe`; but a bucket found behind a DELETED one changes places with it (spec: section 5.2)."""
        found, free, segment, offset = self._probe(object_id)
        if NOWHERE in (found, free):
            return found, free, segment, offset
        self._write_at(free, BUCKET.pack(object_id, segment, offset))
        self._write_at(found + ID_SIZE, _DELETED)
        return free, NOWHERE, segment, offset

    def _rebuild_due(self, free: int, marker: int) -> int:
        """Return for how many buckets the table has to be laid out before a new object is put at `free`, or 0.

        `marker`: EMPTY or DELETED, as the bucket there is.

        Source: spec, section 5.3.
        """
        if self.empty == NOT_COUNTED:
            self.empty = hashscan.count_empty(self)
            if self.empty < self._least_empty:
                return self.buckets
        # A header that says too little may hide that there is no room at all.
        if free == NOWHERE or self._entries > self._most_entries:
            return hashsizes.next_size(self.buckets, 1)
        if marker == EMPTY and self.empty <= self._least_empty and self.buckets < SIZES[-1]:
            return self.buckets
        return 0

    def _rebuild(self, capacity: int) -> None:
        """Lay the table out anew in a place of its own, with at least `capacity` buckets and no DELETED one."""
        # The header may be wrong: what is really there has to fit, and is what the new header says.
        buckets = max(hashsizes.fit(capacity), hashsizes.size_for(self.count_entries()))
        self._leave_memory()
        layout, self._entries = _laid_out(buckets, self.items(), self._make_room)
        self.empty = layout.buckets - self._entries
        self._source = None
        self._use(layout.place)
        if self._own is not None:
            self._own.close()
        self._own = self._room
        self.relocated = True

    def _leave_memory(self) -> None:
        """Go on in a file for now, if there is one to be had and the table is too large to be in memory twice."""
        if self._room is None and self._make_room is not None and self.size > MOST_TWICE:
            room = self._make_room(self.size, self.pieces())
            if room is not None:
                self._use(room)
                self._own = room


def _laid_out(buckets: int, items: Iterable[tuple[bytes, int, int]], make_room: RoomMaker | None) -> tuple[Layout, int]:
    """Return a new table of the items, and their number."""
    layout = Layout(buckets, make_room)
    try:
        layout.add(items)
        return layout, layout.finish()
    except BaseException:
        layout.close()
        raise


def _check_header(view: memoryview) -> int:
    """Return the number of entries a header tells. Raises FileIntegrityError."""
    if len(view) < HEADER_SIZE:
        raise FileIntegrityError(f"the index has {len(view)} bytes, too few for its header")
    magic, entries, buckets, key_size, value_size = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise FileIntegrityError("the index does not begin as an index")
    if (key_size, value_size) != (ID_SIZE, VALUE_SIZE):
        raise FileIntegrityError(f"the index has keys of {key_size} and values of {value_size} bytes, not of 32 and 8")
    if buckets < 1:
        raise FileIntegrityError(f"the index claims to have {buckets} buckets")
    expected = HEADER_SIZE + buckets * BUCKET_SIZE
    if len(view) != expected:
        raise FileIntegrityError(f"the index has {len(view)} bytes, not {expected}")
    if not 0 <= entries <= buckets:
        raise FileIntegrityError(f"the index claims to have {entries} entries in {buckets} buckets")
    return int(entries)


def _check_entry(object_id: bytes, segment: int, offset: int) -> None:
    if len(object_id) != ID_SIZE:
        raise InvalidArgument(f"an object id has {ID_SIZE} bytes, not {len(object_id)}")
    if not (0 <= segment <= MAX_SEGMENT_NUMBER and 0 <= offset <= _MAX_OFFSET):
        raise IntegrityError(f"segment {segment}, offset {offset} is nothing an index can hold")
