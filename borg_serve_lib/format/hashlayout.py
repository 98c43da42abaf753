"""How the table of `index.N` lies in its file, and new tables made in bulk.

Source: spec, repository-format.md sections 5.1 and 5.2.
"""

from __future__ import annotations

from itertools import islice
from struct import Struct

from ..limits import ID_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from ..buffers import Buffer, RoomMaker

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

MOST_IN_MEMORY: Final = 32 << 20
"""Bytes of the largest table that lies in memory: of some 600,000 objects. A larger one is a file, if there is room on
the disk, and of a file only what is looked at is in memory."""

MOST_TOUCHED: Final = 256
"""Changes in a large file after which the memory that they took is given back: each may bring 16 pages in, and more."""

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


def raw_items(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yield (key, segment, offset) of all buckets, EMPTY and DELETED ones too."""
    return BUCKET.iter_unpack(view[HEADER_SIZE:])


class Layout:
    """A table in the making: entries are put, one after the other, where inserting them would put them.

    `view`: header and buckets in file format. `buckets`: their number. `room`: the file that `view` lies in, None if
    it is in memory.
    """

    def __init__(self, buckets: int, make_room: RoomMaker | None = None) -> None:
        """`make_room`: where a table of more than MOST_IN_MEMORY bytes goes."""
        self.buckets = buckets
        self._taken = bytearray(buckets)
        size = HEADER_SIZE + BUCKET_SIZE * buckets
        self.room = make_room(size, _empty_table(buckets)) if make_room and size > MOST_IN_MEMORY else None
        self._find: Callable[[bytes, int, int], int]
        if self.room is not None:
            self.view = self.room.view
            self._find = self._find_in_view
            return
        # One bucket more than wanted, cut short at the front, makes the room for the header without a second copy.
        table = bytearray(_EMPTY_BUCKET) * (buckets + 1)
        del table[: BUCKET_SIZE - HEADER_SIZE]
        self.view = memoryview(table)
        self._find = table.find

    def _find_in_view(self, key: bytes, start: int, end: int) -> int:
        found = bytes(self.view[start:end]).find(key)
        return found if found == NOWHERE else start + found

    def add(self, items: Iterable[tuple[bytes, int, int]]) -> None:
        """Put in (object id, segment, offset); EMPTY and DELETED ones are passed over. There must be room."""
        if self.room is None:
            self._add(items)
            return
        iterator = iter(items)
        while part := list(islice(iterator, MOST_TOUCHED)):
            self._add(part)
            self.room.let_go()

    def _add(self, items: Iterable[tuple[bytes, int, int]]) -> None:
        buckets, taken, table = self.buckets, self._taken, self.view
        hash_of, pack_into = HASH.unpack_from, BUCKET.pack_into
        for key, segment, offset in items:
            if segment >= DELETED:
                continue
            place = hash_of(key)[0] % buckets
            if taken[place]:
                place = self._place_behind(place, key)
            taken[place] = 1
            pack_into(table, HEADER_SIZE + BUCKET_SIZE * place, key, segment, offset)

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

    def finish(self) -> int:
        """Write the header; return the number of entries."""
        entries = self._taken.count(1)
        HEADER.pack_into(self.view, 0, MAGIC, entries, self.buckets, ID_SIZE, VALUE_SIZE)
        return entries
