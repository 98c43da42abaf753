"""The shadow index of `hints.N`: which segments hold superseded PUTs of an object.

Source: spec, repository-format.md sections 6 and 16.3.
"""

from __future__ import annotations

from itertools import chain, islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final, TypeAlias

    from .shadowtable import ShadowTable

    Batch: TypeAlias = list[tuple[bytes, Sequence[int]]]

MOST_LOOSE: Final = 1 << 14
"""Superseded PUTs kept as Python objects, at 150 to 280 bytes each; beyond that all of them are in a ShadowTable."""

_BATCH: Final = 4096


class ShadowIndex:
    """Object id -> segments with superseded PUTs of it, each as often as it has such PUTs.

    What is known of an object may be that no segment has any. Most objects are superseded once, and in few different
    segments: as long as they are loose they share a tuple for each segment. A list belongs to one object.
    """

    def __init__(self, entries: dict[bytes, Sequence[int]] | None = None, *, most_loose: int = MOST_LOOSE) -> None:
        """`entries`: is changed from now on; None for none."""
        self._most_loose = most_loose
        self._loose: dict[bytes, Sequence[int]] = {} if entries is None else entries
        self._puts = sum(map(len, self._loose.values()))  # how many were put into _loose
        self._single: dict[int, tuple[int]] = {}
        self._table: ShadowTable | None = None

    def __len__(self) -> int:
        """Return of how many objects something is known."""
        return len(self._loose if self._table is None else self._table)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShadowIndex):
            return False
        mine, others = ({key: tuple(segments) for key, segments in each.items()} for each in (self, other))
        return mine == others

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"ShadowIndex({dict(self.items())!r})"

    def get(self, object_id: bytes) -> Sequence[int] | None:
        """Return the segments, None if nothing is known of the object."""
        return self._loose.get(object_id) if self._table is None else self._table.get(object_id)

    def items(self) -> Iterator[tuple[bytes, Sequence[int]]]:
        """Yield each object of which something is known, with its segments; good until the next change."""
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[Batch]:
        """As `items`, many at a time."""
        if self._table is not None:
            return self._table.batches()
        loose = iter(self._loose.items())
        return iter(lambda: list(islice(loose, _BATCH)), [])

    def extend(self, ids: Sequence[bytes], lists: Sequence[Sequence[int]]) -> None:
        """Take in the segments of objects of which nothing is known."""
        self._puts += sum(map(len, lists))
        if self._table is None:
            self._loose.update(zip(ids, lists, strict=True))
            self._settle_if_many()
        else:
            self._table.extend(ids, lists)

    def add(self, object_id: bytes, segment: int) -> None:
        """One more PUT of the object, in `segment`, is superseded."""
        if self._table is not None:
            self._table.add(object_id, segment)
            return
        segments = self._loose.get(object_id)
        if not segments:
            self._loose[object_id] = self._single.setdefault(segment, (segment,))
        else:
            self._own(object_id, segments).append(segment)
        self._puts += 1
        if self._puts > self._most_loose:
            self._settle()

    def discard(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of the object in `segment` is gone; nothing happens if none is known of."""
        if self._table is not None:
            self._table.discard(object_id, segment)
            return
        segments = self._loose.get(object_id, ())
        if segment in segments:
            self._own(object_id, segments).remove(segment)

    def forget(self, object_id: bytes) -> None:
        """Nothing is to be known of an object any more, of which something was."""
        if self._table is not None:
            self._table.forget(object_id)
        else:
            del self._loose[object_id]

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        """No PUT in the segments that `is_forgotten` names is known of any more."""
        if self._table is not None:
            self._table.forget_segments(is_forgotten)
            return
        for object_id, segments in self._loose.items():
            if any(map(is_forgotten, segments)):
                self._loose[object_id] = [segment for segment in segments if not is_forgotten(segment)]

    def forget_unshadowed(self) -> None:
        """Nothing is to be known any more of objects of which no segment has a superseded PUT."""
        if self._table is not None:
            self._table.forget_unshadowed()
            return
        for object_id in [object_id for object_id, segments in self._loose.items() if not segments]:
            del self._loose[object_id]

    def _own(self, object_id: bytes, segments: Sequence[int]) -> list[int]:
        """Return the segments of an object as a list of its own."""
        if not isinstance(segments, list):
            segments = self._loose[object_id] = list(segments)
        return segments

    def _settle_if_many(self) -> None:
        # An object with no segment takes as much as one with one.
        if max(self._puts, len(self._loose)) > self._most_loose:
            self._settle()

    def _settle(self) -> None:
        """Move everything into a table."""
        from .shadowtable import ShadowTable

        self._table = ShadowTable()
        self._table.extend(list(self._loose), list(self._loose.values()))
        self._loose, self._single = {}, {}
