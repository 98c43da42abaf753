"""The segments of many objects' superseded PUTs: 53 bytes and more for each object, in memory or in a file."""

from __future__ import annotations

from itertools import islice

from .hashindex import IndexTable
from .segmentlists import NONE, SegmentLists
from .shadows import NO_SEGMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from ..buffers import RoomMaker
    from .shadows import Shadows

_MOST_REMOVED: Final = 1 << 16
"""Objects removed between two passes over the table."""


class ShadowTable:
    """As ShadowIndex. A table as that of the index tells where the list of an object's segments is."""

    def __init__(self, count: int, entries: Iterable[tuple[bytes, Iterable[int]]], make_room: RoomMaker | None) -> None:
        """Begin with the `count` entries, each of another object. `make_room`: for what is too large for memory."""
        self._lists = SegmentLists(make_room)
        place = self._lists.place
        try:
            placed = ((object_id, *place(segments)) for object_id, segments in entries)
            self._table = IndexTable.filled(count, placed, make_room)
        except BaseException:
            self._lists.close()
            raise

    def close(self) -> None:
        self._table.release()
        self._lists.close()

    def __len__(self) -> int:
        return len(self._table)

    def items(self) -> Iterator[Shadows]:
        segments = self._lists.segments
        return ((object_id, segments((first, last))) for object_id, first, last in self._table.items())

    def lowest(self, object_id: bytes) -> int | None:
        place = self._table.get(object_id)
        return None if place is None else self._lists.lowest(place, otherwise=NO_SEGMENT)

    def note(self, object_id: bytes) -> None:
        if self._table.get(object_id) is None:
            self._table.set(object_id, *NONE)

    def add(self, object_id: bytes, segment: int) -> None:
        only = self._lists.place((segment,))
        before = self._table.set(object_id, *only)
        if before is not None:
            self._set(object_id, only, self._lists.with_one(before, segment))

    def discard(self, object_id: bytes, segment: int) -> None:
        place = self._table.get(object_id)
        if place is not None:
            self._set(object_id, place, self._lists.without_one(place, segment))

    def forget(self, object_id: bytes) -> None:
        self._table.remove(object_id)

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        for object_id, first, last in self._table.items():  # of which no other moves when one is set
            self._set(object_id, (first, last), self._lists.without((first, last), is_forgotten))

    def _set(self, object_id: bytes, before: tuple[int, int], place: tuple[int, int]) -> None:
        if place != before:
            self._table.set(object_id, *place)

    def forget_unshadowed(self) -> None:
        while unshadowed := list(islice(self._unshadowed(), _MOST_REMOVED)):
            for object_id in unshadowed:
                self._table.remove(object_id)

    def _unshadowed(self) -> Iterator[bytes]:
        return (object_id for object_id, first, last in self._table.items() if (first, last) == NONE)
