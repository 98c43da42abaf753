"""The segments of many objects' superseded PUTs, in 46 to 53 bytes for each object beside its segments."""

from __future__ import annotations

from .idrows import NOWHERE, IdRows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class ShadowTable:
    """As a dict of object id -> segments.

    An object that was removed keeps its row, and so its place in the order, in case that it comes again.
    """

    def __init__(self) -> None:
        self._rows = IdRows()
        self._values: list[Sequence[int] | None] = []  # None: the row's object was removed
        self._removed = 0

    def __len__(self) -> int:
        return len(self._values) - self._removed

    def get(self, object_id: bytes) -> Sequence[int] | None:
        """Return the segments, None if there is no such object."""
        row = self._rows.find(object_id)
        return None if row == NOWHERE else self._values[row]

    def __setitem__(self, object_id: bytes, segments: Sequence[int]) -> None:
        row = self._rows.find(object_id)
        if row == NOWHERE:
            self._rows.add(object_id)
            self._values.append(segments)
        else:
            self._removed -= self._values[row] is None
            self._values[row] = segments

    def __delitem__(self, object_id: bytes) -> None:
        self._values[self._rows.find(object_id)] = None
        self._removed += 1

    def extend(self, ids: Sequence[bytes], lists: Iterable[Sequence[int]]) -> None:
        """Add objects that are not there yet."""
        self._rows.extend(ids)
        self._values.extend(lists)

    def remove_empty(self) -> None:
        """Remove the objects without any segment."""
        self._values = [segments or None for segments in self._values]
        self._removed = self._values.count(None)

    def values(self) -> Iterator[Sequence[int]]:
        """Yield the segments of all objects that have any."""
        return filter(None, self._values)

    def items(self) -> Iterator[tuple[bytes, Sequence[int]]]:
        """Yield the objects with their segments; none may be added meanwhile."""
        both = zip(self._rows, self._values, strict=True)
        return ((object_id, segments) for object_id, segments in both if segments is not None)
