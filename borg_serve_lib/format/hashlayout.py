"""How the table of `index.N` lies in its file, and new tables made in bulk.

Source: spec, repository-format.md sections 5.1 and 5.2.
"""

from __future__ import annotations

from struct import Struct

from ..limits import ID_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

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

HEADER: Final = Struct("<8siibb")
BUCKET: Final = Struct("<32sII")
HASH: Final = Struct("<I")
_EMPTY_BUCKET: Final = BUCKET.pack(bytes(ID_SIZE), EMPTY, 0)


def raw_items(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Yield (key, segment, offset) of all buckets, EMPTY and DELETED ones too."""
    return BUCKET.iter_unpack(view[HEADER_SIZE:])


class Layout:
    """A table in the making: entries are put, one after the other, where inserting them would put them.

    `table`: header and buckets in file format. `buckets`: their number.
    """

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        # One bucket more than wanted, cut short at the front, makes the room for the header without a second copy.
        self.table = bytearray(_EMPTY_BUCKET) * (buckets + 1)
        del self.table[: BUCKET_SIZE - HEADER_SIZE]
        self._taken = bytearray(buckets)

    def add(self, items: Iterable[tuple[bytes, int, int]]) -> None:
        """Put in (object id, segment, offset); EMPTY and DELETED ones are passed over. There must be room."""
        buckets, taken, table = self.buckets, self._taken, self.table
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
        found = self.table.find(key, HEADER_SIZE + BUCKET_SIZE * first, limit)
        # Ids are chosen by clients: one may lie across two buckets.
        while found != NOWHERE and (found - HEADER_SIZE) % BUCKET_SIZE:
            found = self.table.find(key, found + 1, limit)
        return otherwise if found == NOWHERE else (found - HEADER_SIZE) // BUCKET_SIZE

    def finish(self) -> int:
        """Write the header; return the number of entries."""
        entries = self._taken.count(1)
        HEADER.pack_into(self.table, 0, MAGIC, entries, self.buckets, ID_SIZE, VALUE_SIZE)
        return entries
