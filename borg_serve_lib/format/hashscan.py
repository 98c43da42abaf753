"""Reading all buckets of a table of `index.N`, many at a time. Source: spec, repository-format.md section 5.

The four bytes of the segment field are taken as four columns, each one large number: where a byte of all four is ff,
the bucket is EMPTY (DELETED, if the lowest bit is set before). That takes 7 ns for a bucket, and an id 45 ns, where
unpacking bucket after bucket takes 70 for an id.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, compress
from struct import Struct

from ..limits import ID_SIZE
from .hashlayout import BUCKET, BUCKET_SIZE, DELETED, EMPTY, HEADER_SIZE, NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from ..buffers import Buffer, Source

_CHUNK_BUCKETS: Final = 4096
_CHUNK: Final = _CHUNK_BUCKETS * BUCKET_SIZE
_PROBE: Final = 8 * BUCKET_SIZE
"""Bytes read at once in search of one object: most are found in the first two or three buckets."""

_IS_USED: Final = bytes([1] * 255 + [0])
"""A mark -> whether the bucket holds an object."""


def find(table: Source, size: int, object_id: bytes, home: int) -> tuple[int, int] | None:
    """Return (segment, offset) of an object whose home is the bucket at `home`, or None. `size`: of the table."""
    found, _, segment, offset = probe(table, size, object_id, home)
    return None if found == NOWHERE else (segment, offset)


def probe(table: Source, size: int, object_id: bytes, home: int) -> tuple[int, int, int, int]:
    """Return what `search` does, in a table of `size` bytes that is read a few buckets at a time from `home` on."""
    return search(object_id, _runs(table, size, home))


def _runs(table: Source, size: int, home: int) -> Iterator[tuple[int, Buffer]]:
    for start, end in ((home, size), (HEADER_SIZE, home)):
        for position in range(start, end, _PROBE):
            yield position, table.read_at(position, min(_PROBE, end - position))


def search(object_id: bytes, runs: Iterable[tuple[int, Buffer]]) -> tuple[int, int, int, int]:
    """Return where the object's bucket begins, the bucket before it that an insert would use, either NOWHERE when there
    is none, and the object's segment and offset. If there is no object, its segment is the other bucket's.

    `runs`: positions, each with the buckets that lie there, in the order of probing.
    """
    free = NOWHERE
    for position, buckets in runs:
        for key, segment, offset in BUCKET.iter_unpack(buckets):
            if segment == EMPTY:
                return (NOWHERE, position, EMPTY, 0) if free == NOWHERE else (NOWHERE, free, DELETED, 0)
            if segment == DELETED:
                free = position if free == NOWHERE else free
            elif key == object_id:
                return position, free, segment, offset
            position += BUCKET_SIZE  # noqa: PLW2901
    return NOWHERE, free, DELETED, 0


def id_batches(table: Source, start: int = HEADER_SIZE) -> Iterator[tuple[bytes, ...]]:
    """Yield the object ids in the buckets from the position `start` on, many at a time."""
    return map(_ids_of, _chunks(table, start))


def items(table: Source) -> Iterator[tuple[bytes, int, int]]:
    """Yield (object id, segment, offset) of all objects, in the order of the buckets."""
    return chain.from_iterable(map(_items_of, _chunks(table, HEADER_SIZE)))


def count_empty(table: Source, start: int = HEADER_SIZE) -> int:
    """Return the number of EMPTY buckets from the position `start` on."""
    return sum(_marks(chunk, 0).count(0xFF) for chunk in _chunks(table, start))


def count_objects(table: Source) -> int:
    """Return the number of buckets that hold an object."""
    return sum(_used(chunk).count(1) for chunk in _chunks(table, HEADER_SIZE))


def _chunks(table: Source, start: int) -> Iterator[bytes]:
    for position in range(start, table.size, _CHUNK):
        yield bytes(table.read_at(position, _CHUNK))


def _ids_of(chunk: bytes) -> tuple[bytes, ...]:
    return tuple(compress(_ids(len(chunk) // BUCKET_SIZE).unpack(chunk), _used(chunk)))


def _items_of(chunk: bytes) -> Iterator[tuple[bytes, int, int]]:
    return compress(BUCKET.iter_unpack(chunk), _used(chunk))


@lru_cache(2)  # the last piece of a table has a length of its own, whatever clients ask for
def _ids(buckets: int) -> Struct:
    return Struct(f"<{'32s8x' * buckets}")


def _used(chunk: bytes) -> bytes:
    return _marks(chunk, 1).translate(_IS_USED)


def _marks(chunk: bytes, lowest: int) -> bytes:
    """Return a byte for each bucket: ff if all four bytes of its segment are, after `lowest` was set in the lowest."""
    count = len(chunk) // BUCKET_SIZE
    low, *others = (int.from_bytes(chunk[ID_SIZE + byte :: BUCKET_SIZE], "little") for byte in range(4))
    low |= int.from_bytes(bytes([lowest]) * count, "little")
    return (low & others[0] & others[1] & others[2]).to_bytes(count, "little")
