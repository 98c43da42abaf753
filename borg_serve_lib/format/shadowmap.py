"""The segments of more objects' superseded PUTs than memory is for, in a map of bytes that lies elsewhere."""

from __future__ import annotations

from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Protocol, TypeAlias

    class BytesMap(Protocol):
        """As a dict; `items` come in the order of the keys, and values may be changed meanwhile; `extend` leaves keys
        that are there as they are.
        """

        def __len__(self) -> int: ...

        def get(self, key: bytes) -> bytes | None: ...

        def __setitem__(self, key: bytes, value: bytes) -> None: ...

        def __delitem__(self, key: bytes) -> None: ...

        def extend(self, items: Iterable[tuple[bytes, bytes]]) -> None: ...

        def items(self) -> Iterator[tuple[bytes, bytes]]: ...

    MapMaker: TypeAlias = Callable[[], BytesMap | None]
    """Makes an empty map outside of memory; None where there is none to be had."""


class ShadowMap:
    """As a dict of object id -> segments, in the order of the ids. All methods raise StorageError."""

    def __init__(self, segments: BytesMap) -> None:
        self._map = segments

    def __len__(self) -> int:
        return len(self._map)

    def get(self, object_id: bytes) -> Sequence[int] | None:
        """Return the segments, None if there is no such object."""
        found = self._map.get(object_id)
        return None if found is None else _unpacked(found)

    def __setitem__(self, object_id: bytes, segments: Sequence[int]) -> None:
        self._map[object_id] = _packed(segments)

    def __delitem__(self, object_id: bytes) -> None:
        del self._map[object_id]

    def extend(self, ids: Iterable[bytes], lists: Iterable[Sequence[int]]) -> None:
        """Add objects that are not there yet."""
        self._map.extend(zip(ids, map(_packed, lists), strict=True))

    def remove_empty(self) -> None:
        """Remove the objects without any segment."""
        for object_id, segments in self._map.items():
            if not segments:
                del self._map[object_id]

    def values(self) -> Iterator[Sequence[int]]:
        """Yield the segments of all objects that have any."""
        return (_unpacked(segments) for _, segments in self._map.items() if segments)

    def items(self) -> Iterator[tuple[bytes, Sequence[int]]]:
        """Yield the objects with their segments; these may be changed meanwhile."""
        return ((object_id, _unpacked(segments)) for object_id, segments in self._map.items())


def _packed(segments: Sequence[int]) -> bytes:
    return array("I", segments).tobytes()


def _unpacked(segments: bytes) -> tuple[int, ...]:
    return tuple(array("I", segments))
