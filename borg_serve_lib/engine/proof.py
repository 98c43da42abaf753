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
    to 80 bytes for each object that was put and is yet to be deleted.
    """

    def __init__(self, index: ObjectIndex, make_room: RoomMaker | None = None) -> None:
        """`make_room`: for these, when they are too many for memory."""
        self._index = index
        self._matching = 0
        self._refuted = False
        self._to_be_deleted = IndexTable.new(make_room=make_room)

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
        if tag == PUT:
            self._to_be_deleted.set(object_id, 0, 0)
        else:
            self._to_be_deleted.remove(object_id)

    def holds(self) -> bool:
        """Return whether the index is what the entries shown say."""
        if self._refuted or len(self._to_be_deleted):
            return False
        return self._matching == len(self._index) == self._index.table.count_entries()

    def close(self) -> None:
        """Let go of what it took."""
        self._to_be_deleted.release()
