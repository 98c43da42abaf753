"""What a transaction knows about its segments: the content of the hints, and the rules by which it changes.

Source of all rules: spec, repository-format.md sections 6, 11.2, 13 and 16.3.
"""

from __future__ import annotations

from ..format.entry import COMMIT_SIZE, DELETE_SIZE
from ..format.hints import Hints
from ..format.shadows import ShadowIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..buffers import RoomMaker


class TransactionState:
    """Bookkeeping over hints. Nothing in it is ever trusted to be exact: it steers compaction and the quota.

    `written`, `superseded`: bytes of the PUT entries that the transaction has written, and of those it has made
    obsolete; `puts`, `shadowed`: how many these are. `deletes`: objects that it has deleted.
    """

    def __init__(self, hints: Hints) -> None:
        self.hints = hints
        self.written = self.superseded = 0
        self.puts = self.shadowed = self.deletes = 0

    @classmethod
    def empty(cls, make_room: RoomMaker | None) -> TransactionState:
        """Return the state of a repository without segments; `make_room`: for what is too large for memory."""
        shadow_index = ShadowIndex(make_room=make_room)
        return cls(Hints(segments={}, compact={}, storage_quota_use=0, shadow_index=shadow_index))

    @property
    def shrinks(self) -> bool:
        """Whether the transaction makes obsolete at least as much as it writes: it must not fail for want of room."""
        return self.superseded >= self.written

    def put_written(self, segment: int, size: int) -> None:
        """A new object's or a new version's PUT, an entry of `size` bytes, was written to `segment`."""
        self.put_logged(segment)
        self.puts += 1
        self.written += size
        self.hints.storage_quota_use += size

    def put_logged(self, segment: int) -> None:
        """A current PUT was written to `segment`."""
        self.hints.count_puts(segment, 1)

    def delete_logged(self, segment: int) -> None:
        """A DELETE was written to `segment`: all of it can be freed one day."""
        self._entry_without_object(segment, DELETE_SIZE)

    def commit_logged(self, segment: int) -> None:
        """A COMMIT was written to `segment`: all of it can be freed one day."""
        self._entry_without_object(segment, COMMIT_SIZE)

    def _entry_without_object(self, segment: int, size: int) -> None:
        self.hints.count_puts(segment, 0)
        self.free(segment, size)

    def put_superseded(self, object_id: bytes, segment: int, size: int) -> None:
        """The PUT of `object_id` in `segment`, an entry of `size` bytes, is no longer current."""
        self.hints.shadow_index.add(object_id, segment)
        self.put_left(segment)
        self.free(segment, size)
        self.shadowed += 1
        self.superseded += size

    def put_left(self, segment: int) -> None:
        """`segment` holds one current PUT less."""
        self.hints.count_puts(segment, -1)

    def put_removed(self, size: int) -> None:
        """A superseded PUT, an entry of `size` bytes, is about to vanish: the quota counts it no longer."""
        self.hints.storage_quota_use -= size

    def free(self, segment: int, size: int) -> None:
        """Compaction of `segment` would free `size` bytes more."""
        self.hints.count_freeable(segment, size)

    def unshadow(self, object_id: bytes, segment: int) -> None:
        """One superseded PUT of `object_id` in `segment` is about to vanish."""
        self.hints.shadow_index.discard(object_id, segment)

    def forget_segment(self, segment: int) -> int:
        """`segment` is gone; return how many current PUTs were still counted in it."""
        self.hints.compact.pop(segment, None)
        return self.hints.segments.pop(segment, 0)

    def close(self) -> None:
        """Let go of the files that were too large for memory. The state cannot be used any more."""
        self.hints.close()
