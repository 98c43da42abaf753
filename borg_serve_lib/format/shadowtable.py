"""The superseded PUTs of many objects in little memory: 50 to 56 bytes for an object that has one, 8 for each more."""

from __future__ import annotations

from array import array
from itertools import chain

from .idrows import NOWHERE, IdRows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Final

    from .shadows import Batch

_NONE: Final = 0xFFFFFFFF
"""In the place of a node: no PUT is known of."""

_FORGOTTEN: Final = 0xFFFFFFFE
"""In the place of a node: nothing is known of the object."""

_BATCH: Final = 4096


class ShadowTable:
    """Object id -> segments with superseded PUTs of it, as in the shadow index.

    Each PUT is a node with its segment and the next node; those of an object form a ring, of which the object's row
    has the last one. An object that was forgotten keeps its row.
    """

    def __init__(self) -> None:
        self._rows = IdRows()
        self._last = array("I")
        self._segments = array("I")
        self._next = array("I")
        self._forgotten = 0

    def __len__(self) -> int:
        """Return of how many objects something is known."""
        return len(self._rows) - self._forgotten

    def extend(self, ids: Sequence[bytes], lists: Sequence[Sequence[int]]) -> None:
        """Take in what is known of objects of which nothing was."""
        first = len(self._segments)
        self._rows.extend(ids)
        if set(map(len, lists)) == {1}:
            own = range(first, first + len(lists))
            self._segments.extend(chain.from_iterable(lists))
            self._next.extend(own)
            self._last.extend(own)
        else:
            self._last.extend(map(self._ring, lists))

    def _ring(self, segments: Iterable[int]) -> int:
        """Make nodes for `segments`; return the last one."""
        first = len(self._segments)
        self._segments.extend(segments)
        end = len(self._segments)
        if end == first:
            return _NONE
        self._next.extend(range(first + 1, end))
        self._next.append(first)
        return end - 1

    def _ring_of(self, last: int) -> tuple[int, ...]:
        """Return the segments of a ring, of which `last` is the last node."""
        if last >= _FORGOTTEN:
            return ()
        nodes, following = [], self._next
        node = last
        while True:
            node = following[node]
            nodes.append(self._segments[node])
            if node == last:
                return tuple(nodes)

    def get(self, object_id: bytes) -> tuple[int, ...] | None:
        """Return the segments, None if nothing is known of the object."""
        row = self._rows.find(object_id)
        if row == NOWHERE or self._last[row] == _FORGOTTEN:
            return None
        return self._ring_of(self._last[row])

    def add(self, object_id: bytes, segment: int) -> None:
        """One more PUT of the object, in `segment`, is superseded."""
        row = self._rows.find(object_id)
        if row == NOWHERE:
            self._rows.add(object_id)
            self._last.append(self._ring((segment,)))
            return
        last, node = self._last[row], self._ring((segment,))
        if last < _FORGOTTEN:
            self._next[node], self._next[last] = self._next[last], node
        self._forgotten -= last == _FORGOTTEN
        self._last[row] = node

    def discard(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of the object in `segment` is gone; nothing happens if none is known of."""
        row = self._rows.find(object_id)
        last = _NONE if row == NOWHERE else self._last[row]
        if last >= _FORGOTTEN:
            return
        before, node = last, self._next[last]
        while self._segments[node] != segment:
            if node == last:
                return
            before, node = node, self._next[node]
        self._next[before] = self._next[node]
        if node == last:
            self._last[row] = _NONE if node == before else before

    def forget(self, object_id: bytes) -> None:
        """Nothing is to be known of an object any more, of which something was."""
        self._forget_row(self._rows.find(object_id))

    def _forget_row(self, row: int) -> None:
        self._last[row] = _FORGOTTEN
        self._forgotten += 1

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        """No PUT in the segments that `is_forgotten` names is known of any more."""
        if not any(map(is_forgotten, set(self._segments))):
            return
        for row, last in enumerate(self._last):
            segments = self._ring_of(last)
            if any(map(is_forgotten, segments)):
                self._last[row] = self._ring(segment for segment in segments if not is_forgotten(segment))

    def forget_unshadowed(self) -> None:
        """Nothing is to be known any more of objects of which no segment has a superseded PUT."""
        for row, last in enumerate(self._last):
            if last == _NONE:
                self._forget_row(row)

    def batches(self) -> Iterator[Batch]:
        """Yield each object of which something is known, with its segments, many at a time; good until the next change.

        An object comes where it was first heard of.
        """
        for start in range(0, len(self._rows), _BATCH):
            last = self._last[start : start + _BATCH]
            ids = self._rows.part(start, start + _BATCH)
            if max(last) < _FORGOTTEN and all(map(int.__eq__, map(self._next.__getitem__, last), last)):
                yield list(zip(ids, zip(map(self._segments.__getitem__, last))))  # noqa: B905
            else:
                yield [
                    (object_id, self._ring_of(node))
                    for object_id, node in zip(ids, last, strict=True)
                    if node != _FORGOTTEN
                ]
