"""Whether an index is what the segments say: proved entry by entry, without making another index."""

from __future__ import annotations

from collections.abc import Iterable

from ..buffers import Buffer
from ..errors import IntegrityError
from ..format.entry import DELETE, PUT
from ..format.hashindex import IndexTable
from ..format.heads import unpacked
from ..format.segment import MAGIC_SIZE
from .index import ObjectIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..buffers import RoomMaker


class IndexProof:
    """Is shown the entries of all segments in their order; then `holds` tells whether they say what `index` says.

    They do if every object of the index lies where it says, nothing later is about that object, and every other object
    ends with a DELETE. It takes half the time of making an index and comparing the two, and no room of its own but 40
    to 80 bytes for each object that was put and is yet to be deleted. If these are too many for memory, and there is no
    file for them, it looks at a part of them at a time: then it has to be shown the entries several times.
    """

    def __init__(self, index: ObjectIndex, make_room: RoomMaker | None = None) -> None:
        self._index = index
        self._matching = 0
        self._refuted = False
        self._make_room = make_room
        self._to_be_deleted = IndexTable.new(make_room=make_room)
        self._part = 0, 1  # of the objects that are not in the index: those whose hash modulo the second is the first
        self._other_parts: list[tuple[int, int]] = []

    def show(self, segment: int, pieces: Iterable[Buffer]) -> None:
        """Take the heads of one segment's entries (see format.heads) into account.

        Raises IntegrityError when `pieces` do: some of a damaged segment was shown, and nothing is proved any more.
        """
        try:
            self._show(segment, pieces)
        except IntegrityError:
            self._refuted = True
            raise

    def _show(self, segment: int, pieces: Iterable[Buffer]) -> None:
        get = self._index.get
        offset = MAGIC_SIZE
        matching = 0
        for size, tag, object_id in unpacked(pieces):
            if tag <= DELETE:
                location = get(object_id)
                if location is None:
                    self._show_of_unknown(tag, object_id)
                elif location == (segment, offset):
                    matching += tag == PUT
                elif location < (segment, offset):
                    self._refuted = True
            offset += size
        self._matching += matching

    def _show_of_unknown(self, tag: int, object_id: bytes) -> None:
        number, parts = self._part
        if parts > 1 and hash(object_id) % parts != number:
            return
        table = self._to_be_deleted
        if tag != PUT:
            table.remove(object_id)
            return
        table.set(object_id, 0, 0)
        if table.is_large and table.in_memory:
            self._halve()

    def _halve(self) -> None:
        """Go on with half of the part that is looked at."""
        number, parts = self._part
        self._part = number, 2 * parts
        self._other_parts.append((number + parts, 2 * parts))
        table = self._to_be_deleted
        half = (item for item in table.items() if hash(item[0]) % (2 * parts) == number)
        self._to_be_deleted = IndexTable.filled(len(table) // 2, half, self._make_room)
        table.release()

    def goes_on(self) -> bool:
        """Turn to another part of the objects. Return whether there is one, for which all entries have to be shown
        again.
        """
        if self._refuted or len(self._to_be_deleted) or not self._other_parts:
            return False
        self._part = self._other_parts.pop()
        return True

    def show_again(self, entries: Iterable[tuple[int, bytes, int, int]]) -> None:
        """Take the entries (tag, object id, offset, size) of one segment into account once more.

        Raises IntegrityError when `entries` do: nothing is proved any more.
        """
        try:
            for tag, object_id, *_ in entries:
                if tag <= DELETE and self._index.get(object_id) is None:
                    self._show_of_unknown(tag, object_id)
        except IntegrityError:
            self._refuted = True
            raise

    def holds(self) -> bool:
        """Return whether the index is what the entries shown say."""
        if self._refuted or len(self._to_be_deleted) or self._other_parts:
            return False
        return self._matching == len(self._index) == self._index.table.count_entries()

    def close(self) -> None:
        """Let go of what it took."""
        self._to_be_deleted.release()
