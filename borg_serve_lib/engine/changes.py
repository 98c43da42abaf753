"""What a transaction changes beside a table of the index that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

from ..format.hashindex import IndexTable

Location = tuple[int, int]
"""(segment, offset) of a current PUT."""


class Changes:
    """Object id -> new location, or None for an object that was removed."""

    def __init__(self) -> None:
        self._locations: dict[bytes, Location | None] = {}

    def __len__(self) -> int:
        return len(self._locations)

    def __contains__(self, object_id: bytes) -> bool:
        """Return whether anything changed for an object."""
        return object_id in self._locations

    def get(self, object_id: bytes) -> Location | None:
        """Return where an object is now, of which `in` says that it changed."""
        return self._locations[object_id]

    def __setitem__(self, object_id: bytes, location: Location | None) -> None:
        """Record where an object is now; None: it was removed."""
        self._locations[object_id] = location

    def placed(self) -> Iterator[tuple[bytes, Location]]:
        """Yield each object that was put or moved, with its location, in an order that holds until the next change."""
        for object_id, location in self._locations.items():
            if location is not None:
                yield object_id, location

    def apply_to(self, table: IndexTable) -> None:
        """Make the changes in `table`."""
        for object_id, location in self._locations.items():
            if location is None:
                table.remove(object_id)
        for object_id, location in self.placed():
            table.set(object_id, *location)
