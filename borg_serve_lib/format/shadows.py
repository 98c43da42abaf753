"""The shadow index of `hints.N`: which segments hold superseded PUTs of an object.

Source: spec, repository-format.md sections 6 and 16.3.
"""

from __future__ import annotations

from itertools import islice

from ..limits import MAX_SEGMENT_NUMBER
from .segmentlists import NONE, SegmentLists

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Final

    from ..buffers import RoomMaker
    from .hashindex import IndexTable
    from .segmentlists import Place

NO_SEGMENT: Final = MAX_SEGMENT_NUMBER + 1
"""Above all segments: where the lowest of no segments is."""

MOST_LOOSE: Final = 1 << 16
"""Objects whose lists are found by a dict, which is quicker, at 150 bytes each; of more they are by a table, at 53."""

_LEAST_SHARED: Final = 1 << 10
"""Places that are kept to be shared although no object may have them any more."""

_MOST_REMOVED: Final = 1 << 16
"""Objects removed between two passes over a table."""


class ShadowIndex:
    """Object id -> segments with superseded PUTs of it, ascending, each as often as it has such PUTs.

    What is known of an object may be that no segment has any. What is large need not be in memory: whoever is done with
    the index closes it.
    """

    def __init__(
        self, entries: Iterable[tuple[bytes, Iterable[int]]] = (), *, make_room: RoomMaker | None = None
    ) -> None:
        """Begin with the entries, each of another object. `make_room`: for what is too large for memory."""
        self._lists = SegmentLists(make_room)
        self._places: _PlacesInDict | IndexTable = _PlacesInDict()
        self._make_room = make_room
        try:
            for entry in self._placed(entries):
                self._set(*entry)
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_many(
        cls, count: int, entries: Iterable[tuple[bytes, Iterable[int]]], make_room: RoomMaker | None = None
    ) -> ShadowIndex:
        """Return the index of `count` entries, each of another object."""
        if count <= MOST_LOOSE:
            return cls(entries, make_room=make_room)
        index = cls(make_room=make_room)
        try:
            index._use_table(count, index._placed(entries))
        except BaseException:
            index.close()
            raise
        return index

    def _placed(self, entries: Iterable[tuple[bytes, Iterable[int]]]) -> Iterator[tuple[bytes, int, int]]:
        place = self._lists.place
        return ((object_id, *place(segments)) for object_id, segments in entries)

    def close(self) -> None:
        """Let go of the files that were too large for memory. The index cannot be used any more."""
        self._places.release()
        self._lists.close()

    def __len__(self) -> int:
        """Return of how many objects something is known."""
        return len(self._places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShadowIndex):
            return False
        mine, others = ({key: tuple(segments) for key, segments in each.items()} for each in (self, other))
        return mine == others

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"ShadowIndex({[(key, tuple(segments)) for key, segments in self.items()]!r})"

    def items(self) -> Iterator[tuple[bytes, Collection[int]]]:
        """Yield each object of which something is known, with its segments; good until the next change."""
        segments = self._lists.segments
        return ((object_id, segments((first, last))) for object_id, first, last in self._places.items())

    def lowest(self, object_id: bytes) -> int | None:
        """Return the lowest segment with a superseded PUT of the object, NO_SEGMENT if none has any; None if nothing is
        known of the object.
        """
        place = self._places.get(object_id)
        return None if place is None else next(iter(self._lists.segments(place)), NO_SEGMENT)

    def add(self, object_id: bytes, segment: int) -> None:
        """One more PUT of the object, in `segment`, is superseded."""
        only = self._lists.place((segment,))
        before = self._set(object_id, *only)  # without a look before: most are superseded for the first time
        if before is not None:
            self._exchange(object_id, only, self._lists.with_one(before, segment))

    def discard(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of the object in `segment` is gone; nothing happens if none is known of."""
        place = self._places.get(object_id)
        if place is not None:
            self._exchange(object_id, place, self._lists.without_one(place, segment))

    def forget(self, object_id: bytes) -> None:
        """Nothing is to be known of an object any more, of which something was."""
        self._places.remove(object_id)

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        """No PUT in the segments that `is_forgotten` names is known of any more."""
        for object_id, first, last in self._places.items():  # of which no other moves when one is exchanged
            self._exchange(object_id, (first, last), self._lists.without((first, last), is_forgotten))

    def forget_unshadowed(self) -> None:
        """Nothing is to be known any more of objects of which no segment has a superseded PUT."""
        while unshadowed := list(islice(self._unshadowed(), _MOST_REMOVED)):
            for object_id in unshadowed:
                self._places.remove(object_id)

    def _unshadowed(self) -> Iterator[bytes]:
        return (object_id for object_id, first, last in self._places.items() if (first, last) == NONE)

    def _exchange(self, object_id: bytes, before: Place, place: Place) -> None:
        if place != before:
            self._places.set(object_id, *place)

    def _set(self, object_id: bytes, first: int, last: int) -> Place | None:
        """Record where the list of an object is; return where it was."""
        before = self._places.set(object_id, first, last)
        if isinstance(self._places, _PlacesInDict) and len(self._places) > MOST_LOOSE:
            self._use_table(len(self._places), self._places.items())
        return before

    def _use_table(self, count: int, items: Iterable[tuple[bytes, int, int]]) -> None:
        from .hashindex import IndexTable

        self._places = IndexTable.filled(count, items, self._make_room)


class _PlacesInDict:
    """As IndexTable, for a few objects. Equal places are one tuple."""

    def __init__(self) -> None:
        self._places: dict[bytes, Place] = {}
        self._shared: dict[Place, Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    def items(self) -> Iterator[tuple[bytes, int, int]]:
        return ((object_id, *place) for object_id, place in self._places.items())

    def get(self, object_id: bytes) -> Place | None:
        return self._places.get(object_id)

    def set(self, object_id: bytes, first: int, last: int) -> Place | None:
        before = self._places.get(object_id)
        place = (first, last)
        self._places[object_id] = self._shared.setdefault(place, place)
        if len(self._shared) > 2 * len(self._places) + _LEAST_SHARED:
            self._shared = {each: each for each in self._places.values()}
        return before

    def remove(self, object_id: bytes) -> None:
        del self._places[object_id]

    def release(self) -> None:
        self._places = {}
