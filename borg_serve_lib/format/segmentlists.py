"""Ascending lists of segments, each as two numbers that a bucket of a table has room for.

These are the only segment of the list and _ONE; or the number of a tuple and _SHARED, as most objects are superseded a
few times, and together with many others; or the first link of a chain, and the last one with _LINKS added.
"""

from __future__ import annotations

from .segmentchains import SegmentChains

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from typing import Final, TypeAlias

    from ..buffers import RoomMaker
    from .segmentchains import Chain

    Place: TypeAlias = tuple[int, int]
    """Where a list is: any two numbers."""

_SHARED: Final = 0
_ONE: Final = 1
_LINKS: Final = 2

NONE: Final = (0, _SHARED)
"""Where the list of no segments is."""

_MOST_IN_TUPLE: Final = 8
_MOST_SHARED: Final = 1 << 14
"""Tuples, at 300 bytes each."""


class SegmentLists:
    """Lists by their places. What returns a list changed lets no other use be made of the one before."""

    def __init__(self, make_room: RoomMaker | None) -> None:
        """`make_room`: for what is too large for memory."""
        self._tuples: list[tuple[int, ...]] = [()]
        self._places: dict[tuple[int, ...], Place] = {(): NONE}
        self._chains = SegmentChains(make_room)

    def close(self) -> None:
        """Let go of the files."""
        self._chains.close()

    def place(self, segments: Iterable[int]) -> Place:
        """Return where a new list of these segments is. Those that are no tuple should ascend: each that does not takes
        as long as the list.
        """
        if isinstance(segments, tuple):
            if len(segments) == 1:
                return segments[0], _ONE
            return self._places.get(segments) or self._few(tuple(sorted(segments)))
        place = NONE
        for segment in segments:
            place = self.with_one(place, segment)
        return place

    def segments(self, place: Place) -> Collection[int]:
        """Return the list; good until it changes."""
        first, last = place
        if last == _ONE:
            return (first,)
        return self._tuples[first] if last == _SHARED else self._chains.segments((first, last - _LINKS))

    def with_one(self, place: Place, segment: int) -> Place:
        """Return the list with `segment` added."""
        first, last = place
        if last >= _LINKS:
            return _place_of(self._chains.add((first, last - _LINKS), segment))
        return self._few(tuple(sorted((*self.segments(place), segment))))

    def without_one(self, place: Place, segment: int) -> Place:
        """Return the list without one `segment`, as it was if it has none."""
        first, last = place
        if last >= _LINKS:
            return _place_of(self._chains.remove((first, last - _LINKS), segment))
        left = [*self.segments(place)]
        if segment not in left:
            return place
        left.remove(segment)
        return self._few(tuple(left))

    def without(self, place: Place, is_unwanted: Callable[[int], bool]) -> Place:
        """Return the list without the segments that are unwanted."""
        first, last = place
        if last >= _LINKS:
            return _place_of(self._chains.remove_all((first, last - _LINKS), is_unwanted))
        if last == _ONE:
            return NONE if is_unwanted(first) else place
        segments = self.segments(place)
        if not any(map(is_unwanted, segments)):
            return place
        return self._few(tuple(segment for segment in segments if not is_unwanted(segment)))

    def _few(self, segments: tuple[int, ...]) -> Place:
        """Return where the list is, of segments that ascend."""
        if len(segments) == 1:
            return segments[0], _ONE
        place = self._places.get(segments)
        if place is not None:
            return place
        if len(segments) <= _MOST_IN_TUPLE and len(self._tuples) < _MOST_SHARED:
            place = self._places[segments] = len(self._tuples), _SHARED
            self._tuples.append(segments)
            return place
        chain = self._chains.new(segments[0])
        for segment in segments[1:]:
            chain = self._chains.add(chain, segment)
        return _place_of(chain)


def _place_of(chain: Chain | None) -> Place:
    return NONE if chain is None else (chain[0], chain[1] + _LINKS)
