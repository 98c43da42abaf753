"""How the table of `index.N` lies in its file, and new tables made in bulk.

Source: spec, repository-format.md sections 5.1 and 5.2.
"""

from __future__ import annotations

from functools import partial
from struct import Struct

from ..limits import ID_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from ..buffers import Buffer, Room, RoomMaker

MAGIC: Final = b"BORG_IDX"
"""The first bytes of an index file."""

HEADER_SIZE: Final = 18
"""Bytes before the first bucket."""

BUCKET_SIZE: Final = 40
"""Bytes of a bucket: an object id, a segment, an offset."""

EMPTY: Final = 0xFFFFFFFF
"""In the place of a segment: the bucket was never used."""

DELETED: Final = 0xFFFFFFFE
"""In the place of a segment: the bucket was used; its key and offset mean nothing."""

VALUE_SIZE: Final = BUCKET_SIZE - ID_SIZE
NOWHERE: Final = -1

MOST_IN_MEMORY: Final = 96 << 20
"""Bytes of the largest table that lies in memory: of 1.6 million objects. A larger one is a file, if there is room on
the disk; a look takes twice as long there, and a change three times.
"""

MOST_MAPPED: Final = 48 << 20
"""Bytes of the largest table that is looked into through a mapping: its pages count as the process's memory, but the
system's limit for that does not.
"""

MOST_TWICE: Final = 32 << 20
"""Bytes of the largest table that may be in memory beside a new one that is made from it."""

_MOST_MARKED: Final = 1 << 26
"""Buckets of the largest table of which a byte in memory tells whether each is taken; others are read, which takes
twice as long.
"""

HEADER: Final = Struct("<8siibb")
BUCKET: Final = Struct("<32sII")
HASH: Final = Struct("<I")
_PIECE_BUCKETS: Final = 1 << 15
_EMPTY_BUCKET: Final = BUCKET.pack(bytes(ID_SIZE), EMPTY, 0)


def _empty_table(buckets: int) -> Iterator[Buffer]:
    """Yield the content of a table of EMPTY buckets, its header not written yet."""
    yield bytes(HEADER_SIZE)
    for begin in range(0, buckets, _PIECE_BUCKETS):
        yield _EMPTY_BUCKET * min(_PIECE_BUCKETS, buckets - begin)


class Layout:
    """A table in the making: entries are put, one after the other, where inserting them would put them.

    `buckets`: their number. `place`: where the table is, in memory or in a file.
    """

    place: memoryview | Room
    _find: Callable[[bytes, int, int], int]
    _pack: Callable[[int, bytes, int, int], None]

    def __init__(self, buckets: int, make_room: RoomMaker | None = None) -> None:
        """`make_room`: where a table of more than MOST_IN_MEMORY bytes goes."""
        self.buckets = buckets
        self._entries = 0
        size = HEADER_SIZE + BUCKET_SIZE * buckets
        room = make_room(size, _empty_table(buckets)) if make_room and size > MOST_IN_MEMORY else None
        self._taken = bytearray(buckets if room is None or buckets <= _MOST_MARKED else 0)
        if room is not None:
            self.place = room
            self._find = partial(_find_in, room)
            self._pack = partial(_pack_into, room)
            return
        table = bytearray(size)
        self.place, end = memoryview(table), 0
        for piece in _empty_table(buckets):
            begin, end = end, end + len(piece)
            self.place[begin:end] = piece
        self._find = table.find
        self._pack = partial(BUCKET.pack_into, table)

    def add(self, items: Iterable[tuple[bytes, int, int]]) -> None:
        """Put in (object id, segment, offset); EMPTY and DELETED ones are passed over. There must be room."""
        if not self._taken:
            self._probe_and_put(items)
            return
        buckets, taken, pack = self.buckets, self._taken, self._pack
        hash_of = HASH.unpack_from
        for key, segment, offset in items:
            if segment >= DELETED:
                continue
            place = hash_of(key)[0] % buckets
            if taken[place]:
                place = self._place_behind(place, key)
            taken[place] = 1
            pack(HEADER_SIZE + BUCKET_SIZE * place, key, segment, offset)

    def _probe_and_put(self, items: Iterable[tuple[bytes, int, int]]) -> None:
        from .hashscan import probe

        room, buckets = self.place, self.buckets
        assert not isinstance(room, memoryview)  # in memory all buckets are marked  # noqa: S101
        for key, segment, offset in items:
            if segment >= DELETED:
                continue
            home = HEADER_SIZE + BUCKET_SIZE * (HASH.unpack_from(key)[0] % buckets)
            found, free, *_ = probe(room, room.size, key, home)
            self._entries += found == NOWHERE
            room.write_at(free if found == NOWHERE else found, BUCKET.pack(key, segment, offset))

    def _place_behind(self, home: int, key: bytes) -> int:
        """Return where a key goes whose home is taken: where it is already, else to the next free place."""
        free = self._taken.find(0, home)
        if free != NOWHERE:
            return self._place_of(key, home, free, otherwise=free)
        free = self._taken.find(0)
        return self._place_of(key, home, self.buckets, otherwise=self._place_of(key, 0, free, otherwise=free))

    def _place_of(self, key: bytes, first: int, end: int, *, otherwise: int) -> int:
        limit = HEADER_SIZE + BUCKET_SIZE * end
        found = self._find(key, HEADER_SIZE + BUCKET_SIZE * first, limit)
        # Ids are chosen by clients: one may lie across two buckets.
        while found != NOWHERE and (found - HEADER_SIZE) % BUCKET_SIZE:
            found = self._find(key, found + 1, limit)
        return otherwise if found == NOWHERE else (found - HEADER_SIZE) // BUCKET_SIZE

    def close(self) -> None:
        """Give the file up, if there is one: nothing comes of the table."""
        if not isinstance(self.place, memoryview):
            self.place.close()

    def finish(self) -> int:
        """Write the header; return the number of entries."""
        entries = self._entries + self._taken.count(1)
        header = HEADER.pack(MAGIC, entries, self.buckets, ID_SIZE, VALUE_SIZE)
        if isinstance(self.place, memoryview):
            self.place[:HEADER_SIZE] = header
        else:
            self.place.write_at(0, header)
        return entries


def _find_in(room: Room, key: bytes, start: int, end: int) -> int:
    found = bytes(room.read_at(start, end - start)).find(key)
    return found if found == NOWHERE else start + found


def _pack_into(room: Room, position: int, key: bytes, segment: int, offset: int) -> None:
    room.write_at(position, BUCKET.pack(key, segment, offset))
