"""What `hints.N` tells: how much of each segment is in use. Source: spec, repository-format.md section 6."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Final

    from .shadows import ShadowIndex

MOST_IN_DICT: Final = 1 << 15
"""Segments whose numbers are in a dict, which is quicker."""


class Hints:
    """What is known of the segments; steers compaction and the quota, is never exact.

    `segments`: segment -> number of current PUTs in it. `compact`: segment -> freeable bytes. `storage_quota_use`:
    bytes. `shadow_index`: see ShadowIndex. `unsized`: segments that hints of version 1 list as compactable without
    saying by how much; `compact` lacks them. Whoever is done with the hints closes them.
    """

    __slots__ = ("compact", "segments", "shadow_index", "storage_quota_use", "unsized")

    segments: MutableMapping[int, int]
    compact: MutableMapping[int, int]

    def __init__(
        self,
        segments: MutableMapping[int, int],
        compact: MutableMapping[int, int],
        storage_quota_use: int,
        shadow_index: ShadowIndex,
        unsized: tuple[int, ...] = (),
    ) -> None:
        self.segments = segments
        self.compact = compact
        self.storage_quota_use = storage_quota_use
        self.shadow_index = shadow_index
        self.unsized = unsized

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hints) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # hints change

    def __repr__(self) -> str:
        return f"Hints({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def set_puts(self, segment: int, puts: int) -> None:
        """A segment holds so many current PUTs."""
        self.segments[segment] = puts
        self.segments = settled(self.segments)

    def set_freeable(self, segment: int, size: int) -> None:
        """Compaction of a segment would free so many bytes."""
        self.compact[segment] = size
        self.compact = settled(self.compact)

    def count_puts(self, segment: int, more: int) -> None:
        """A segment holds so many current PUTs more; it may be one that nothing is known of."""
        if segment in self.segments:
            self.segments[segment] += more
        else:
            self.set_puts(segment, more)

    def count_freeable(self, segment: int, more: int) -> None:
        """Compaction of a segment would free so many bytes more; it may be one that nothing is known of."""
        if segment in self.compact:
            self.compact[segment] += more
        else:
            self.set_freeable(segment, more)

    def without_later_segments(self, transaction: int) -> None:
        """Drop the segments after `transaction` from the shadow index."""
        self.shadow_index.forget_segments(transaction.__lt__)

    def close(self) -> None:
        """Let go of the files that were too large for memory. The hints cannot be used any more."""
        self.shadow_index.close()


def settled(numbers: MutableMapping[int, int]) -> MutableMapping[int, int]:
    """Return the numbers of segments, in less memory if they are many."""
    if not isinstance(numbers, dict) or len(numbers) <= MOST_IN_DICT:
        return numbers
    from .segmentnumbers import SegmentNumbers

    return SegmentNumbers(sorted(numbers.items()))
