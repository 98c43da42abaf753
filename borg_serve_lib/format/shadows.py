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

MOST_LOOSE: Final = 1 << 16
"""Objects kept in a dict, which is quicker, at 150 bytes each; beyond that all of them are in a table."""

_MOST_IN_TUPLE: Final = 8
_MOST_SHARED: Final = 1 << 14
_BATCH: Final = 1024


class ShadowIndex:
    """Object id -> segments with superseded PUTs of it, each as often as it has such PUTs.

    What is known of an object may be that no segment has any. Most objects are superseded a few times, and in few
    different segments: they share tuples. A list belongs to one object.
    """

    def __init__(self, entries: dict[bytes, Sequence[int]] | None = None, *, most_loose: int = MOST_LOOSE) -> None:
        """`entries`: is changed from now on; None for none."""
        self._entries: dict[bytes, Sequence[int]] | ShadowTable = {} if entries is None else entries
        self._most_loose = most_loose
        self._shared: dict[tuple[int, ...], tuple[int, ...]] = {}

    def __len__(self) -> int:
        """Return of how many objects something is known."""
        return len(self._entries)

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
        return self._entries.get(object_id)

    def items(self) -> Iterator[tuple[bytes, Sequence[int]]]:
        """Yield each object of which something is known, with its segments; good until the next change."""
        return iter(self._entries.items())

    def batches(self) -> Iterator[Batch]:
        """As `items`, many at a time."""
        items = self.items()
        return iter(lambda: list(islice(items, _BATCH)), [])

    def extend(self, ids: Sequence[bytes], lists: Sequence[tuple[int, ...]]) -> None:
        """Take in the segments of objects of which nothing is known."""
        kept = map(self._kept, lists)
        if isinstance(self._entries, dict):
            self._entries.update(zip(ids, kept, strict=True))
            if len(self._entries) > self._most_loose:
                self._settle(self._entries)
        else:
            self._entries.extend(ids, kept)

    def add(self, object_id: bytes, segment: int) -> None:
        """One more PUT of the object, in `segment`, is superseded."""
        entries = self._entries
        segments = entries.get(object_id)
        if not segments:
            single = (segment,)  # as `_kept`, in fewer calls: this is the usual case
            entries[object_id] = self._shared.setdefault(single, single)
            if isinstance(entries, dict) and len(entries) > self._most_loose:
                self._settle(entries)
        elif isinstance(segments, list):
            (shared,) = self._kept((segment,))  # one number for all, and not 28 bytes for each
            segments.append(shared)
        else:
            entries[object_id] = self._kept((*segments, segment))

    def discard(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of the object in `segment` is gone; nothing happens if none is known of."""
        segments = self._entries.get(object_id) or ()
        if segment not in segments:
            return
        if isinstance(segments, list):
            segments.remove(segment)
        else:
            place = segments.index(segment)
            self._entries[object_id] = self._kept((*segments[:place], *segments[place + 1 :]))

    def forget(self, object_id: bytes) -> None:
        """Nothing is to be known of an object any more, of which something was."""
        del self._entries[object_id]

    def forget_segments(self, is_forgotten: Callable[[int], bool]) -> None:
        """No PUT in the segments that `is_forgotten` names is known of any more."""
        if not any(map(is_forgotten, set(chain.from_iterable(self._entries.values())))):
            return
        for object_id, segments in self.items():
            if any(map(is_forgotten, segments)):
                self._entries[object_id] = self._kept(tuple(each for each in segments if not is_forgotten(each)))

    def forget_unshadowed(self) -> None:
        """Nothing is to be known any more of objects of which no segment has a superseded PUT."""
        if isinstance(self._entries, dict):
            self._entries = {object_id: segments for object_id, segments in self._entries.items() if segments}
        else:
            self._entries.remove_empty()

    def _kept(self, segments: tuple[int, ...]) -> Sequence[int]:
        """Return the tuple that all objects with these segments have, or a list if they are many."""
        if len(segments) > _MOST_IN_TUPLE:
            return list(segments)
        if len(self._shared) > _MOST_SHARED:
            self._shared.clear()
        return self._shared.setdefault(segments, segments)

    def _settle(self, entries: dict[bytes, Sequence[int]]) -> None:
        """Move everything into a table: it is too much for a dict."""
        from .shadowtable import ShadowTable

        self._entries = ShadowTable()
        self._entries.extend(list(entries), entries.values())
