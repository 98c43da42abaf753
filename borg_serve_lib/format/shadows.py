"""The shadow index of `hints.N`: which segments hold superseded PUTs of an object.

Source: spec, repository-format.md sections 6 and 16.3.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ShadowIndex:
    """Object id -> segments with superseded PUTs of it, each as often as it has such PUTs.

    `entries`: as in the file; what is known of an object may be that no segment has any. Most objects are superseded
    once, and in few different segments: they share a tuple for each segment, which takes 150 bytes for an object, and
    not 280. A list belongs to one object.
    """

    def __init__(self, entries: dict[bytes, Sequence[int]] | None = None) -> None:
        """`entries`: is changed from now on; None for none."""
        self.entries: dict[bytes, Sequence[int]] = {} if entries is None else entries
        self._single: dict[int, tuple[int]] = {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShadowIndex) or self.entries.keys() != other.entries.keys():
            return False
        return all(tuple(segments) == tuple(other.entries[key]) for key, segments in self.entries.items())

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"ShadowIndex({self.entries!r})"

    def get(self, object_id: bytes) -> Sequence[int] | None:
        """Return the segments, None if nothing is known of the object."""
        return self.entries.get(object_id)

    def add(self, object_id: bytes, segment: int) -> None:
        """One more PUT of the object, in `segment`, is superseded."""
        segments = self.entries.get(object_id)
        if not segments:
            self.entries[object_id] = self._single.setdefault(segment, (segment,))
        else:
            self._own(object_id, segments).append(segment)

    def discard(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of the object in `segment` is gone; nothing happens if none is known of."""
        segments = self.entries.get(object_id, ())
        if segment in segments:
            self._own(object_id, segments).remove(segment)

    def forget(self, object_id: bytes) -> None:
        """Nothing is to be known of an object any more, of which something was."""
        del self.entries[object_id]

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        """No PUT in the segments that `is_forgotten` names is known of any more."""
        for object_id, segments in self.entries.items():
            if any(map(is_forgotten, segments)):
                self.entries[object_id] = [segment for segment in segments if not is_forgotten(segment)]

    def forget_unshadowed(self) -> None:
        """Nothing is to be known any more of objects of which no segment has a superseded PUT."""
        for object_id in [object_id for object_id, segments in self.entries.items() if not segments]:
            del self.entries[object_id]

    def _own(self, object_id: bytes, segments: Sequence[int]) -> list[int]:
        """Return the segments of an object as a list of its own."""
        if not isinstance(segments, list):
            segments = self.entries[object_id] = list(segments)
        return segments
