"""What a transaction changes beside a table of the index that stays as it is."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator

from ..format.hashindex import IndexTable
from ..format.idrows import NOWHERE, IdRows

Location = tuple[int, int]
"""(segment, offset) of a current PUT."""

MOST_LOOSE = 1 << 16
"""Changes kept as Python objects, at about 230 bytes each; beyond that all of them are in rows of 46 to 52 bytes."""

_REGION = 16 << 20
"""Bytes of a table in which changes are made one after the other, if they are many."""

_MOST_REGIONS = 128
_REMOVED = 0xFFFFFFFF
"""In the place of a segment: the object was removed."""


class Changes:
    """Object id -> new location, or None for an object that was removed."""

    def __init__(self, most_loose: int = MOST_LOOSE, *, on_many: Callable[[], object] = lambda: None) -> None:
        """`on_many`: called once, when the changes are more than `most_loose`."""
        self._most_loose = most_loose
        self._on_many = on_many
        self._loose: dict[bytes, Location | None] = {}
        self._settled: _ChangeRows | None = None

    def __bool__(self) -> bool:
        return bool(self._loose) or self._settled is not None

    def __contains__(self, object_id: bytes) -> bool:
        """Return whether anything changed for an object."""
        return object_id in self._loose if self._settled is None else object_id in self._settled

    def get(self, object_id: bytes) -> Location | None:
        """Return where an object is now, of which `in` says that it changed."""
        return self._loose[object_id] if self._settled is None else self._settled.get(object_id)

    def __setitem__(self, object_id: bytes, location: Location | None) -> None:
        """Record where an object is now; None: it was removed."""
        if self._settled is not None:
            self._settled.set(object_id, location)
            return
        loose = self._loose
        loose[object_id] = location
        if len(loose) > self._most_loose:
            self._settled = _ChangeRows()
            for each, place in loose.items():
                self._settled.set(each, place)
            self._loose = {}
            self._on_many()

    def _items(self) -> Iterator[tuple[bytes, Location | None]]:
        return iter(self._loose.items()) if self._settled is None else self._settled.items()

    def placed(self) -> Iterator[tuple[bytes, Location]]:
        """Yield each object that was put or moved, with its location, in an order that holds until the next change."""
        for object_id, location in self._items():
            if location is not None:
                yield object_id, location

    def apply_to(self, table: IndexTable, let_go: Callable[[], object] = lambda: None) -> None:
        """Make the changes in `table`. `let_go`: gives back the memory that looking into it takes."""
        if self._settled is not None:
            self._settled.apply_to(table, let_go)
            return
        for object_id, location in self._loose.items():
            if location is None:
                table.remove(object_id)
        for object_id, location in self.placed():
            table.set(object_id, *location)


class _ChangeRows:
    """As a dict of object id -> location or None, in little memory."""

    def __init__(self) -> None:
        self._ids = IdRows()
        self._segments = array("I")
        self._offsets = array("I")

    def __contains__(self, object_id: bytes) -> bool:
        return self._ids.find(object_id) != NOWHERE

    def get(self, object_id: bytes) -> Location | None:
        row = self._ids.find(object_id)
        if row == NOWHERE or self._segments[row] == _REMOVED:
            return None
        return self._segments[row], self._offsets[row]

    def set(self, object_id: bytes, location: Location | None) -> None:
        segment, offset = location or (_REMOVED, 0)
        row = self._ids.find(object_id)
        if row == NOWHERE:
            self._ids.add(object_id)
            self._segments.append(segment)
            self._offsets.append(offset)
        else:
            self._segments[row], self._offsets[row] = segment, offset

    def apply_to(self, table: IndexTable, let_go: Callable[[], object]) -> None:
        """Remove what was removed, then set the others; region after region of the table, each let go of then."""
        regions = min(table.size // _REGION + 1, _MOST_REGIONS)
        buckets = table.buckets
        steps = bytearray(table.home(object_id) * regions // buckets for object_id in self._ids)
        for row, segment in enumerate(self._segments):
            if segment != _REMOVED:
                steps[row] += regions
        for step in range(2 * regions):
            row = steps.find(step)
            while row != NOWHERE:
                object_id = self._ids[row]
                if self._segments[row] == _REMOVED:
                    table.remove(object_id)
                else:
                    table.set(object_id, self._segments[row], self._offsets[row])
                row = steps.find(step, row + 1)
            let_go()

    def items(self) -> Iterator[tuple[bytes, Location | None]]:
        for object_id, segment, offset in zip(self._ids, self._segments, self._offsets, strict=True):
            yield object_id, None if segment == _REMOVED else (segment, offset)
