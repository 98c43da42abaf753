"""Many object ids in little memory: 38 to 44 bytes for each, where a dict takes 130."""

from __future__ import annotations

from array import array
from itertools import chain
from struct import Struct

from ..errors import InvalidArgument
from ..limits import ID_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Final

NOWHERE: Final = -1

_ID: Final = Struct(f"{ID_SIZE}s")
_LEAST_SLOTS: Final = 1 << 10
_BATCH: Final = 4096
_MOST_SCANS: Final = 16
"""Ids looked for by reading all of them, until a table is made that tells the row: as long as that takes."""


class IdRows:
    """Object ids, each in a row of its own, in the order in which they came: row numbers go from 0 without a gap.

    What belongs to an id is kept by others, in arrays with an item for each row. No id ever leaves.
    """

    def __init__(self) -> None:
        self._ids = bytearray()
        # Open addressing with linear probing: row + 1 of the id, 0 where there is none. Python's own hash is seeded
        # anew in each process, so that nobody can choose ids that collide. Without slots nothing was looked for yet.
        self._slots = array("I")
        self._scans = 0
        self._asked: bytes | None = None  # the id found last, which is often the next one too, and its row
        self._answer = NOWHERE

    def __len__(self) -> int:
        return len(self._ids) // ID_SIZE

    def __getitem__(self, row: int) -> bytes:
        return bytes(self._ids[row * ID_SIZE : (row + 1) * ID_SIZE])

    def find(self, object_id: bytes) -> int:
        """Return the row of an id, NOWHERE if it has none."""
        if object_id is not self._asked:
            self._answer = self._find(object_id)
            self._asked = object_id
        return self._answer

    def _find(self, object_id: bytes) -> int:
        if len(object_id) != ID_SIZE:
            return NOWHERE
        if not self._slots:
            if self._scans < _MOST_SCANS:
                return self._scan(object_id)
            self._make_slots()
        slots, is_at = self._slots, self._ids.startswith
        mask = len(slots) - 1
        place = hash(object_id) & mask
        while row := slots[place]:
            if is_at(object_id, (row - 1) * ID_SIZE):
                return row - 1
            place = (place + 1) & mask
        return NOWHERE

    def _scan(self, object_id: bytes) -> int:
        self._scans += 1
        found = self._ids.find(object_id)
        # Ids are chosen by clients: one may lie across two rows.
        while found % ID_SIZE and found != NOWHERE:
            found = self._ids.find(object_id, found + 1)
        return found if found == NOWHERE else found // ID_SIZE

    def add(self, object_id: bytes) -> int:
        """Give the next row to an id that has none; return it. Raises InvalidArgument."""
        if len(object_id) != ID_SIZE:
            raise InvalidArgument(f"an object id has {ID_SIZE} bytes, not {len(object_id)}")
        self._ids += object_id
        row = len(self) - 1
        if self._slots:
            if _too_full(row + 1, len(self._slots)):
                self._make_slots()
            else:
                _enter(self._slots, ((object_id,),), row)
        self._asked, self._answer = object_id, row
        return row

    def extend(self, object_ids: Sequence[bytes]) -> None:
        """Give the next rows to ids of the right size that have none."""
        self._ids += b"".join(object_ids)
        self._slots = array("I")
        self._asked = None

    def _make_slots(self) -> None:
        size = _LEAST_SLOTS
        while _too_full(len(self), size):
            size *= 2
        self._slots = array("I")  # the old ones go before the new ones come
        self._slots = slots = array("I", bytes(4)) * size
        _enter(slots, _ID.iter_unpack(self._ids), 0)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the ids in the order of their rows."""
        return chain.from_iterable(self.part(start, start + _BATCH) for start in range(0, len(self), _BATCH))

    def part(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the ids in the rows from `start` to before `end`, as they are now."""
        return chain.from_iterable(_ID.iter_unpack(self._ids[start * ID_SIZE : end * ID_SIZE]))


def _too_full(rows: int, slots: int) -> bool:
    return 3 * rows >= 2 * slots


def _enter(slots: array[int], ids: Iterable[tuple[bytes]], row: int) -> None:
    """Let the slots tell the rows of the ids, of which the first is `row`."""
    mask = len(slots) - 1
    for entry, (object_id,) in enumerate(ids, row + 1):
        place = hash(object_id) & mask
        while slots[place]:
            place = (place + 1) & mask
        slots[place] = entry
