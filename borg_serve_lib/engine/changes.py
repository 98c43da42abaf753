"""What a transaction changes beside a table of the index that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ..format.hashindex import IndexTable

Location = tuple[int, int]
"""(segment, offset) of a current PUT."""

MOST_LOOSE = 1 << 16
"""Changes kept as Python objects, at about 230 bytes each; beyond that they move into tables of 40 to 80 bytes each."""

_NOWHERE = (0, 0)


class Changes:
    """Object id -> new location, or None for an object that was removed."""

    def __init__(self, most_loose: int = MOST_LOOSE) -> None:
        self._most_loose = most_loose
        self._loose: dict[bytes, Location | None] = {}
        self._placed: IndexTable | None = None
        self._removed: IndexTable | None = None

    def __bool__(self) -> bool:
        return bool(self._loose) or self._placed is not None

    def __contains__(self, object_id: bytes) -> bool:
        """Return whether anything changed for an object."""
        if object_id in self._loose:
            return True
        if self._placed is None or self._removed is None:
            return False
        return self._placed.get(object_id) is not None or self._removed.get(object_id) is not None

    def get(self, object_id: bytes) -> Location | None:
        """Return where an object is now, of which `in` says that it changed."""
        if object_id in self._loose:
            return self._loose[object_id]
        return None if self._placed is None else self._placed.get(object_id)

    def __setitem__(self, object_id: bytes, location: Location | None) -> None:
        """Record where an object is now; None: it was removed."""
        loose = self._loose
        loose[object_id] = location
        if len(loose) > self._most_loose:
            self._settle()

    def _settle(self) -> None:
        """Move the loose changes into the tables."""
        placed, removed = self._placed or IndexTable.new(), self._removed or IndexTable.new()
        self._placed, self._removed = placed, removed
        for object_id, location in self._loose.items():
            if location is None:
                placed.remove(object_id)
                removed.set(object_id, *_NOWHERE)
            else:
                removed.remove(object_id)
                placed.set(object_id, *location)
        self._loose = {}

    def placed(self) -> Iterator[tuple[bytes, Location]]:
        """Yield each object that was put or moved, with its location, in an order that holds until the next change."""
        loose = self._loose
        for object_id, segment, offset in () if self._placed is None else self._placed.items():
            if object_id not in loose:
                yield object_id, (segment, offset)
        for object_id, location in loose.items():
            if location is not None:
                yield object_id, location

    def apply_to(self, table: IndexTable) -> None:
        """Make the changes in `table`."""
        settled = () if self._removed is None else self._removed.ids()
        loose = (object_id for object_id, location in self._loose.items() if location is None)
        for object_id in chain(settled, loose):
            table.remove(object_id)
        for object_id, location in self.placed():
            table.set(object_id, *location)
