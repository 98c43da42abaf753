"""Where each object is: the table of the last transaction, mapped in place, and what changed since.

Source: spec, repository-format.md section 5; design: a lookup in the mapped file costs nothing at opening, and a
transaction keeps only its own changes in memory, or in a copy of the table on the disk if they are many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

from ..errors import UnknownMarker
from ..format.hashindex import IndexTable
from ..storage.base import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..buffers import RoomMaker

Location = tuple[int, int]
"""(segment, offset) of a current PUT."""

MOST_CHANGES = 1 << 16
"""Changes kept beside a table; for more of them the table is copied and the copy changed."""

_CHANGE_SIZE = 230
"""Bytes of memory that a change beside a table takes, about."""

_BATCH = 4096


class ObjectIndex:
    """Object id -> location.

    Either over a table in a file, which is left as it is (changes lie beside it until they are written), or over a
    table of its own, which is changed directly: in memory, or in a file without a name. `source_name`: the name of the
    file that is left as it is.
    """

    def __init__(
        self,
        table: IndexTable,
        reader: Reader | None = None,
        source_name: str = "",
        verify: Callable[[bool], None] | None = None,
        make_room: RoomMaker | None = None,
    ) -> None:
        """`verify`: makes sure that the file is what was written, None if that is known; it is told whether the index
        is to be changed. `make_room`: for a table of its own that is too large for memory.
        """
        self.source_name = source_name
        self._table = table
        self._reader = reader
        self._verify = verify
        self._make_room = make_room
        self._changes: dict[bytes, Location | None] = {}  # None: the object was removed
        self._most_changes = MOST_CHANGES
        self._length = len(table)

    @classmethod
    def empty(cls, make_room: RoomMaker | None = None) -> ObjectIndex:
        """Return an index without objects, with a table of its own."""
        return cls(IndexTable.new(make_room=make_room))

    @property
    def owns_table(self) -> bool:
        """Whether the table itself takes the changes."""
        return self._reader is None

    @property
    def table(self) -> IndexTable:
        """The table, without the changes beside it."""
        return self._table

    @property
    def buckets(self) -> int:
        """Buckets of the table."""
        return self._table.buckets

    def __len__(self) -> int:
        return len(self._table) if self.owns_table else self._length

    def get(self, object_id: bytes) -> Location | None:
        """Return the location of an object, or None."""
        if object_id in self._changes:
            return self._changes[object_id]
        return self._table.get(object_id)

    def set(self, object_id: bytes, location: Location) -> Location | None:
        """Record the location of an object, new or moved; return where it was."""
        if self._reader is None:
            return self._table.set(object_id, *location)
        old = self.get(object_id)
        self.put(object_id, location, is_new=old is None)
        return old

    def put(self, object_id: bytes, location: Location, *, is_new: bool) -> None:
        """As `set`, for those who know whether the object is there: looking for it again would take 1 us."""
        if self._reader is None:
            self._table.set(object_id, *location)
            return
        self._length += is_new
        self._change(object_id, location)

    def remove(self, object_id: bytes) -> None:
        """Forget an object that is in the index."""
        if self.owns_table:
            self._table.remove(object_id)
            return
        self._length -= 1
        self._change(object_id, None)

    def _change(self, object_id: bytes, location: Location | None) -> None:
        self._changes[object_id] = location
        if len(self._changes) > self._most_changes:
            self._leave_file()

    def id_batches(self, after: bytes | None = None) -> Iterator[tuple[bytes, ...]]:
        """Yield all object ids, or those after the id `after`, many at a time, in an order that holds until the next
        change. Raises UnknownMarker at once.
        """
        if after is not None and self.get(after) is None:
            raise UnknownMarker("marker not found")
        if after is None or self._table.get(after) is not None:
            return chain(map(self._without_removed, self._table.id_batches(after)), in_batches(self._added()))
        place = next(number for number, object_id in enumerate(self._added()) if object_id == after)
        return in_batches(islice(self._added(), place + 1, None))

    def _without_removed(self, ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
        changes = self._changes
        if not changes:
            return ids
        return tuple(each for each in ids if changes.get(each, each) is not None)

    def _added(self) -> Iterator[bytes]:
        for object_id, _ in self._placed():
            if self._table.get(object_id) is None:
                yield object_id

    def _placed(self) -> Iterator[tuple[bytes, Location]]:
        """Yield each object that was put or moved, with its location, in an order that holds until the next change."""
        for object_id, location in self._changes.items():
            if location is not None:
                yield object_id, location

    def items(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield (object id, segment, offset) of all objects, in any order."""
        changes = self._changes
        if not changes:
            return self._table.items()
        unchanged = (item for item in self._table.items() if item[0] not in changes)
        changed = ((object_id, *location) for object_id, location in self._placed())
        return chain(unchanged, changed)

    def verify(self, *, to_change: bool = False) -> None:
        """Make sure once that the file under the index is what was written. `to_change`: what changes of it need to
        know is read as well. Raises FileIntegrityError, StorageError.
        """
        if self._verify is not None:
            self._verify(to_change)
            self._verify = None

    @property
    def verified(self) -> bool:
        """Whether a miss in the index can be believed."""
        return self._verify is None

    def move_to_memory(self) -> None:
        """Take table and changes into memory and let go of all files, which may be removed then."""
        if self._reader is not None:
            self._reader.let_go()
        elif self._table.in_memory:
            return
        self._go_on_with(self._table.copy_in_memory())

    def _leave_file(self) -> None:
        """Go on with a copy of the table that has the changes in it; as long as a large one finds no room on the disk,
        and the changes take less memory, with more changes.
        """
        assert self._reader is not None  # a table of its own has no changes beside it  # noqa: S101
        self._reader.let_go()
        table: IndexTable | None
        if not self._table.is_large or len(self._changes) * _CHANGE_SIZE > self._table.size:
            table = self._table.copy_in_memory(self._make_room)
        else:
            table = None if self._make_room is None else self._table.copy_in_file(self._make_room)
        if table is None:
            self._most_changes *= 2
        else:
            self._go_on_with(table)

    def _go_on_with(self, table: IndexTable) -> None:
        try:
            self.apply_to(table)
        except BaseException:
            table.release()
            raise
        self.close()
        self._table, self._reader, self._changes = table, None, {}

    def apply_to(self, table: IndexTable) -> None:
        """Make the changes in `table`, a copy of this index's own."""
        for object_id, location in self._changes.items():
            if location is None:
                table.remove(object_id)
        for object_id, location in self._placed():
            table.set(object_id, *location)

    def close(self) -> None:
        """Let go of all files."""
        self._table.release()
        if self._reader is not None:
            self._reader.close()


def in_batches(ids: Iterator[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Yield the ids many at a time."""
    return iter(lambda: tuple(islice(ids, _BATCH)), ())
