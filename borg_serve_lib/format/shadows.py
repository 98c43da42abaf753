"""The shadow index of `hints.N`: which segments hold superseded PUTs of an object.

Source: spec, repository-format.md sections 6 and 16.3.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from ..limits import MAX_SEGMENT_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from typing import Final, TypeAlias

    from ..buffers import RoomMaker
    from .shadowtable import ShadowTable

    Shadows: TypeAlias = tuple[bytes, Collection[int]]
    """An object, and the segments with superseded PUTs of it, ascending."""

NO_SEGMENT: Final = MAX_SEGMENT_NUMBER + 1
"""Above all segments: where the lowest of no segments is."""

MOST_LOOSE: Final = 1 << 16
"""Superseded PUTs kept in a dict, which is quicker, at 150 bytes each; beyond that all of them are in a table."""

_MOST_IN_TUPLE: Final = 8
_MOST_SHARED: Final = 1 << 14


class ShadowIndex:
    """Object id -> segments with superseded PUTs of it, ascending, each as often as it has such PUTs.

    What is known of an object may be that no segment has any. A few objects are in a dict, many in a table that need
    not be in memory: whoever is done with the index closes it.
    """

    def __init__(
        self, entries: Iterable[tuple[bytes, Iterable[int]]] = (), *, make_room: RoomMaker | None = None
    ) -> None:
        """Begin with the entries, each of another object. `make_room`: for a table that is too large for memory."""
        self._loose = _LooseShadows()
        self._table: ShadowTable | None = None
        self._make_room = make_room
        try:
            for object_id, segments in entries:
                self.note(object_id)
                for segment in segments:
                    self.add(object_id, segment)
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
        from .shadowtable import ShadowTable

        index = cls(make_room=make_room)
        index._table = ShadowTable(count, entries, make_room)
        return index

    @property
    def _held(self) -> _LooseShadows | ShadowTable:
        return self._loose if self._table is None else self._table

    def __len__(self) -> int:
        """Return of how many objects something is known."""
        return len(self._held)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShadowIndex):
            return False
        mine, others = ({key: tuple(segments) for key, segments in each.items()} for each in (self, other))
        return mine == others

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"ShadowIndex({[(key, tuple(segments)) for key, segments in self.items()]!r})"

    def items(self) -> Iterator[Shadows]:
        """Yield each object of which something is known, with its segments; good until the next change."""
        return self._held.items()

    def lowest(self, object_id: bytes) -> int | None:
        """Return the lowest segment with a superseded PUT of the object, NO_SEGMENT if none has any; None if nothing is
        known of the object.
        """
        return self._held.lowest(object_id)

    def note(self, object_id: bytes) -> None:
        """An object of which nothing is known becomes known for having no superseded PUT."""
        self._held.note(object_id)

    def add(self, object_id: bytes, segment: int) -> None:
        """One more PUT of the object, in `segment`, is superseded."""
        if self._table is not None:
            self._table.add(object_id, segment)
        else:
            self._loose.add(object_id, segment)
            if self._loose.puts > MOST_LOOSE:
                self._settle()

    def discard(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of the object in `segment` is gone; nothing happens if none is known of."""
        self._held.discard(object_id, segment)

    def forget(self, object_id: bytes) -> None:
        """Nothing is to be known of an object any more, of which something was."""
        self._held.forget(object_id)

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        """No PUT in the segments that `is_forgotten` names is known of any more."""
        self._held.forget_segments(is_forgotten)

    def forget_unshadowed(self) -> None:
        """Nothing is to be known any more of objects of which no segment has a superseded PUT."""
        self._held.forget_unshadowed()

    def close(self) -> None:
        """Let go of the files that were too large for memory. The index cannot be used any more."""
        if self._table is not None:
            self._table.close()

    def _settle(self) -> None:
        """Move everything into a table: it is too much for a dict."""
        from .shadowtable import ShadowTable

        loose, self._loose = self._loose, _LooseShadows()
        self._table = ShadowTable(len(loose), loose.items(), self._make_room)


class _LooseShadows:
    """In a dict. Most objects are superseded a few times, and in few different segments: they share tuples. A list
    belongs to one object. `puts`: how many were added.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, Sequence[int]] = {}
        self._shared: dict[tuple[int, ...], tuple[int, ...]] = {}
        self.puts = 0

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterator[tuple[bytes, Sequence[int]]]:
        return iter(self._entries.items())

    def lowest(self, object_id: bytes) -> int | None:
        segments = self._entries.get(object_id)
        if segments is None:
            return None
        return segments[0] if segments else NO_SEGMENT

    def note(self, object_id: bytes) -> None:
        self._entries.setdefault(object_id, ())

    def add(self, object_id: bytes, segment: int) -> None:
        self.puts += 1
        segments = self._entries.get(object_id)
        if not segments:
            single = (segment,)  # as `_kept`, in fewer calls: this is the usual case
            self._entries[object_id] = self._shared.setdefault(single, single)
        elif isinstance(segments, list):
            insort(segments, segment)
        else:
            self._entries[object_id] = self._kept(tuple(sorted((*segments, segment))))

    def discard(self, object_id: bytes, segment: int) -> None:
        segments = self._entries.get(object_id) or ()
        place = bisect_left(segments, segment)
        if place == len(segments) or segments[place] != segment:
            return
        if isinstance(segments, list):
            del segments[place]
        else:
            self._entries[object_id] = self._kept((*segments[:place], *segments[place + 1 :]))

    def forget(self, object_id: bytes) -> None:
        del self._entries[object_id]

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        for object_id, segments in self._entries.items():
            if any(map(is_forgotten, segments)):
                self._entries[object_id] = self._kept(tuple(each for each in segments if not is_forgotten(each)))

    def forget_unshadowed(self) -> None:
        self._entries = {object_id: segments for object_id, segments in self._entries.items() if segments}

    def _kept(self, segments: tuple[int, ...]) -> Sequence[int]:
        """Return the tuple that all objects with these segments have, or a list if they are many."""
        if len(segments) > _MOST_IN_TUPLE:
            return list(segments)
        if len(self._shared) > _MOST_SHARED:
            self._shared.clear()
        return self._shared.setdefault(segments, segments)
