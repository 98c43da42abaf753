"""The files that spare reading the segments: index.N, hints.N and integrity.N of transaction N.

They are caches: whatever is wrong with them is raised here as FileIntegrityError or FileMissing and cured by replaying
segments (recovery.py). Source: spec, repository-format.md sections 5 to 7, 12.3 and 14.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ..buffers import Buffer, InMemory
from ..errors import BorgServeError, FileIntegrityError, FileMissing, NoSpace, StorageError
from ..format import hintsfile, integrity
from ..format.hashindex import NOT_COUNTED, IndexTable
from ..format.hints import Hints
from ..limits import MAX_SMALL_FILE_SIZE, MAX_UNVERIFIED_HINTS_SIZE
from ..reporting import Reporter
from ..storage.base import Reader, Storage
from .index import ObjectIndex
from .scratch import Scratch

_INDEX_NAME = re.compile(r"index\.([0-9]+)", re.ASCII)
_KINDS = ("index.", "hints.", "integrity.")


class CacheFiles:
    """The cache files of one repository."""

    def __init__(
        self, storage: Storage, reporter: Reporter, *, require_lock: Callable[[], object] = lambda: None
    ) -> None:
        """`require_lock`: raises unless the lock allows to write; it is asked before files are written or removed."""
        self._storage = storage
        self._require_lock = require_lock
        self._reporter = reporter
        self._own: tuple[int, int] | None = None  # transaction of the index written last, and its EMPTY buckets
        self.scratch = Scratch(storage)

    def index_transaction(self) -> int | None:
        """Return the highest N of a non-empty index.N, or None."""
        names = (_INDEX_NAME.fullmatch(entry.name) for entry in self._storage.entries())
        for number in sorted((int(match[1]) for match in names if match), reverse=True):
            if self._storage.size(f"index.{number}"):
                return number
        return None

    # --- reading

    def open_index(self, transaction: int) -> ObjectIndex:
        """Open index.N in place: no more than its header is read and checked. One that was written here counts as
        verified.

        Raises FileIntegrityError, StorageError.
        """
        name = f"index.{transaction}"
        own, empty = self._own or (None, NOT_COUNTED)
        reader = self._storage.open_reader(name)
        try:
            table = IndexTable.load(reader.map(), writable=False, source=reader)
        except BaseException:
            reader.close()
            raise
        if own == transaction:
            table.empty = empty
            verify = None
        else:
            verify = lambda to_change: self._verify_index(transaction, reader, table, to_change)  # noqa: E731
        return ObjectIndex(table, reader, name, verify, self.scratch.make_room)

    def forget(self) -> None:
        """Take no index for one written here: somebody else may have written since."""
        self._own = None

    def _verify_index(self, transaction: int, reader: Reader, table: IndexTable, to_change: bool) -> None:
        # Read, not mapped: of a place that a disk cannot read an error comes back, and no signal.
        digests = self._integrity(transaction).index
        if digests is None:
            return
        name = f"index.{transaction}"
        if not to_change:
            digests.verify_index(name, reader)
            return
        from ..format.hashscan import count_empty

        empty = 0

        def count(buckets: Buffer) -> None:
            nonlocal empty
            empty += count_empty(InMemory(buckets), 0)

        digests.verify_index(name, reader, count)
        table.empty = empty

    def read_hints(self, transaction: int) -> Hints:
        """Return the verified content of hints.N, without what it says of later segments. The caller closes it.

        Raises FileIntegrityError, StorageError.
        """
        name = f"hints.{transaction}"
        digests = self._integrity(transaction).hints
        with self._storage.open_reader(name) as reader:
            if digests is not None:
                digests.verify_hints(name, reader)
            elif reader.size > MAX_UNVERIFIED_HINTS_SIZE:
                raise FileIntegrityError(f"{name}: too large to be read without a digest")
            hints = hintsfile.decode(reader, self.scratch.make_room)
        try:
            hints.without_later_segments(transaction)
        except BaseException:
            hints.close()
            raise
        return hints

    def vouched_segments(self, transaction: int, *, after: int) -> set[int]:
        """Return the segments above `after` in which index.N has objects.

        Raises FileIntegrityError or StorageError unless index.N is what its digests in integrity.N say.
        """
        if self._integrity(transaction).index is None:
            raise FileIntegrityError(f"index.{transaction}: nothing vouches for it")
        index = self.open_index(transaction)
        try:
            index.verify()
            return {segment for _, segment, _ in index.items() if segment > after}
        finally:
            index.close()

    def _integrity(self, transaction: int) -> integrity.IntegrityData:
        """Return what integrity.N vouches for; a missing one vouches for nothing and forbids nothing."""
        try:
            data = integrity.decode(self._storage.read(f"integrity.{transaction}", MAX_SMALL_FILE_SIZE))
        except FileMissing:
            return integrity.IntegrityData(hints=None, index=None, notes=())
        if data.notes:
            from ..events.maintenance import IntegrityDataUnusable

            for note in data.notes:
                self._reporter.report(IntegrityDataUnusable(f"integrity.{transaction}: {note}"))
        return data

    # --- writing

    def write(self, transaction: int, index: ObjectIndex, hints: Hints) -> None:
        """Write the three files of transaction N durably and remove those of all others.

        The order is that of spec section 12.3: at each moment a crash leaves one whole set, old or new. Only when
        the disk has no room for both, the old one goes first: the segments hold the transaction already.
        """
        self._require_lock()
        try:
            self._write_beside(transaction, index, hints)
        except NoSpace as error:
            self.give_way(index, error)
            try:
                self._write_beside(transaction, index, hints)
            except NoSpace:
                self.remove()
                raise

    def give_way(self, index: ObjectIndex, cause: BorgServeError) -> None:
        """Take `index` into memory and remove all cache files for the room they have."""
        from ..events.maintenance import OldIndexGaveWay

        index.move_to_memory()
        self.remove()
        self._reporter.report(OldIndexGaveWay(str(cause)))

    def _write_beside(self, transaction: int, index: ObjectIndex, hints: Hints) -> None:
        storage = self._storage
        index_name, hints_name, integrity_name = (f"{kind}{transaction}" for kind in _KINDS)
        hints_digests = integrity.HintsDigests(hints_name)
        self._write_temporary(hints_name, hints_digests.following(hintsfile.encode(hints)))
        index_digests, empty = self._write_index(index_name, index)
        self._write_temporary(integrity_name, [integrity.encode(hints_digests.at_the_end(), index_digests)])
        storage.rename(f"{integrity_name}.tmp", integrity_name)
        storage.sync_directory()
        storage.rename(f"{hints_name}.tmp", hints_name)
        storage.rename(f"{index_name}.tmp", index_name)
        storage.sync_directory()
        self._own = transaction, empty
        self._remove_others(transaction)

    def _write_temporary(self, name: str, pieces: Iterable[Buffer]) -> None:
        storage = self._storage
        storage.remove(f"{name}.tmp")
        writer = storage.create(f"{name}.tmp")
        try:
            for piece in pieces:
                writer.write(piece)
            writer.sync()
        finally:
            writer.close()

    def _write_index(self, name: str, index: ObjectIndex) -> tuple[dict[str, str], int]:
        """Write the index with its changes; return its digests, and the number of its EMPTY buckets."""
        if index.owns_table:
            return self._write_table(name, index.table)
        # Copied inside the system, and the copy changed.
        patch = self._storage.create_copy(index.source_name, f"{name}.tmp")
        try:
            table = IndexTable.load(
                patch.view, writable=True, empty=index.table.empty, room=patch, make_room=self.scratch.make_room
            )
            try:
                index.apply_to(table)
                if not table.relocated:
                    table.write_header()
                    digests = integrity.index_digests(name, patch)
                    patch.sync()
                    return digests, table.empty
                # It needed another number of buckets and has left the file.
                return self._write_table(name, table)
            finally:
                table.release()
        finally:
            patch.close()

    def _write_table(self, name: str, table: IndexTable) -> tuple[dict[str, str], int]:
        self._write_temporary(name, table.pieces())
        return integrity.index_digests(name, table), table.empty

    def _remove_others(self, transaction: int) -> None:
        self._remove(lambda name: not name.endswith(f".{transaction}"))

    def remove(self) -> None:
        """Remove all cache files, the index first and for sure."""
        self._require_lock()
        # Native borg fails over an index that is behind and has no hints; without an index it replays all segments.
        self._remove(lambda name: name.startswith(_KINDS[0]))
        self._storage.sync_directory()
        self._remove(lambda _: True)

    def _remove(self, is_unwanted: Callable[[str], bool]) -> None:
        for entry in self._storage.entries():
            if entry.name.startswith(_KINDS) and not entry.is_directory and is_unwanted(entry.name):
                self._storage.remove(entry.name)


CACHE_ERRORS = (FileIntegrityError, StorageError)
"""What opening or verifying a cache file raises when the file cannot be used."""
