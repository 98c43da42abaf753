"""The segments of many objects' superseded PUTs, in memory or in files.

An object is in a table as that of the index, at 53 bytes or more; what that tells of it is its only segment, or where
the chain of its segments begins and ends. Each segment of a chain takes 12 bytes, however often the object was
superseded in it. What happens most is done at the ends of a chain: PUTs are superseded in the order in which they were
written, and compaction removes them in the same.
"""

from __future__ import annotations

from itertools import islice

from .hashindex import IndexTable
from .segmentchains import END, SegmentChains
from .shadows import MOST_IN_TUPLE, NO_SEGMENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final, TypeAlias

    from ..buffers import RoomMaker
    from .shadows import Shadows

    _Place: TypeAlias = tuple[int, int]
    """What the table tells of an object: its only segment and _ONE; or the first link of a chain, and the last after
    _LINKS; or _UNSHADOWED.
    """

_NONE: Final = 0
_ONE: Final = 1
_LINKS: Final = 2
_UNSHADOWED: Final = (0, _NONE)

_MOST_REMOVED: Final = 1 << 16
"""Objects removed between two passes over a table."""


class ShadowTable:
    """As ShadowIndex."""

    def __init__(self, count: int, entries: Iterable[tuple[bytes, Iterable[int]]], make_room: RoomMaker | None) -> None:
        """Begin with the `count` entries, each of another object. `make_room`: for what is too large for memory."""
        self._chains = SegmentChains(make_room)
        try:
            self._table = IndexTable.filled(count, self._placed(entries), make_room)
        except BaseException:
            self._chains.close()
            raise

    def _placed(self, entries: Iterable[tuple[bytes, Iterable[int]]]) -> Iterator[tuple[bytes, int, int]]:
        for object_id, segments in entries:
            if isinstance(segments, tuple) and len(segments) == 1:
                yield object_id, segments[0], _ONE
                continue
            place = _UNSHADOWED
            for segment in segments:
                place = self._with(place, segment)
            yield object_id, *place

    def close(self) -> None:
        self._table.release()
        self._chains.close()

    def __len__(self) -> int:
        return len(self._table)

    def items(self) -> Iterator[Shadows]:
        for object_id, first, last in self._table.items():
            if last == _ONE:
                yield object_id, (first,)
            elif last == _NONE:
                yield object_id, ()
            else:
                segments = _Segments(self._chains, first)
                few = tuple(islice(segments, MOST_IN_TUPLE + 1))
                yield object_id, few if len(few) <= MOST_IN_TUPLE else segments

    def lowest(self, object_id: bytes) -> int | None:
        place = self._table.get(object_id)
        if place is None:
            return None
        first, last = place
        if last >= _LINKS:
            return self._chains[first][0]
        return first if last == _ONE else NO_SEGMENT

    def note(self, object_id: bytes) -> None:
        if self._table.get(object_id) is None:
            self._table.set(object_id, *_UNSHADOWED)

    def add(self, object_id: bytes, segment: int) -> None:
        before = self._table.set(object_id, segment, _ONE)
        if before is not None and before != _UNSHADOWED:
            self._table.set(object_id, *self._with(before, segment))

    def _with(self, place: _Place, segment: int) -> _Place:
        """Return what tells of one PUT more, in `segment`."""
        chains = self._chains
        first, last = place
        if last == _NONE:
            return segment, _ONE
        if last == _ONE:
            link = chains.append(first, 1, END)
            return self._with((link, link + _LINKS), segment)
        end = last - _LINKS
        highest, puts, _ = chains[end]
        if segment == highest:
            chains[end] = segment, puts + 1, END
        elif segment > highest:
            link = chains.append(segment, 1, END)
            chains[end] = highest, puts, link
            last = link + _LINKS
        else:
            before, link = chains.find(first, segment)
            other, puts, following = chains[link]
            if other == segment:
                chains[link] = segment, puts + 1, following
            else:
                first = chains.follow(before, chains.append(segment, 1, link), otherwise=first)
        return first, last

    def discard(self, object_id: bytes, segment: int) -> None:
        place = self._table.get(object_id) or _UNSHADOWED
        first, last = place
        if place == (segment, _ONE):
            self._table.set(object_id, *_UNSHADOWED)
        if last < _LINKS:
            return
        before, link = self._chains.find(first, segment)
        if link == END:
            return
        other, puts, following = self._chains[link]
        if other == segment and puts > 1:
            self._chains[link] = segment, puts - 1, following
        elif other == segment:
            self._table.set(object_id, *self._without(place, before, following))

    def _without(self, place: _Place, before: int, following: int) -> _Place:
        """Return what tells of a chain without the link between `before` and `following`, each END if there is none."""
        first, last = place
        if before == following == END:
            return _UNSHADOWED
        first = self._chains.follow(before, following, otherwise=first)
        return first, last if following != END else before + _LINKS

    def forget(self, object_id: bytes) -> None:
        self._table.remove(object_id)

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        for object_id, first, last in self._table.items():  # those that are there stay where they are
            if last == _ONE and is_forgotten(first):
                self._table.set(object_id, *_UNSHADOWED)
            elif last >= _LINKS:
                place = self._without_segments((first, last), is_forgotten)
                if place != (first, last):
                    self._table.set(object_id, *place)

    def _without_segments(self, place: _Place, is_forgotten: Callable[[int], bool]) -> _Place:
        before, link = END, place[0]
        while link != END:
            segment, _, following = self._chains[link]
            if is_forgotten(segment):
                place = self._without(place, before, following)
            else:
                before = link
            link = following
        return place

    def forget_unshadowed(self) -> None:
        while unshadowed := list(islice(self._unshadowed(), _MOST_REMOVED)):
            for object_id in unshadowed:
                self._table.remove(object_id)

    def _unshadowed(self) -> Iterator[bytes]:
        return (object_id for object_id, _, last in self._table.items() if last == _NONE)


class _Segments:
    """The segments of a chain, ascending, each as often as it has PUTs; read when they are asked for."""

    def __init__(self, chains: SegmentChains, first: int) -> None:
        self._chains = chains
        self._first = first

    def __len__(self) -> int:
        return sum(puts for _, puts in self._chains.links(self._first))

    def __iter__(self) -> Iterator[int]:
        for segment, puts in self._chains.links(self._first):
            for _ in range(puts):
                yield segment

    def __contains__(self, segment: object) -> bool:
        return any(segment == other for other, _ in self._chains.links(self._first))
