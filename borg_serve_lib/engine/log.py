"""The segments of a repository as one log: where entries are appended, read and removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..buffers import Buffer
from ..errors import FileMissing, IntegrityError, InvalidRepositoryConfig
from ..format import entry as entries_format
from ..format import segment as segment_format
from ..format.segment import Ending
from ..limits import MANIFEST_ID, MAX_SEGMENT_NUMBER
from ..storage.base import Reader, Storage, Writer
from ..values import Value
from .source import SegmentSource

_OPEN_READERS = 64
_MISSING = "a segment file is missing, please run borg check --repair"
_MOST_GUESSED = 8192
"""Bytes read at most for an object of unknown size: small objects come with one system call, larger ones with two."""

_SLOW = 0.0002
"""Seconds. A read that takes longer has had to wait for a disk: of what the system has in memory 8 KiB take 1 us."""


class LogEnd(Value):
    """What a log ends with; each is None if there is none.

    `newest`: the highest segment number. `committed`: that of a committed segment (spec: section 4.6). `damaged`: that
    of a segment above it that ends with a COMMIT but is damaged. Nothing that was interrupted leaves such a one, since
    a COMMIT is written when all before it is safe: it was committed, and damaged later.
    """

    newest: int | None
    committed: int | None
    damaged: int | None


class SegmentLog:
    """The numbered segment files below `data/`, written one after the other (spec: repository-format.md section 4).

    `segment`: number of the segment that is open, or of the one that will be opened next. `reads_slowly`: whether the
    object read last had to come from the disk.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        segments_per_dir: int,
        max_segment_size: int,
        require_lock: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`require_lock`: raises unless the lock allows to write; it is asked before each segment that is begun,
        replaced or removed, since the lock may be broken at any time. `clock`: seconds, ascending.
        """
        self._storage = storage
        self._require_lock = require_lock
        self._clock = clock
        self._guess = _MOST_GUESSED
        self.reads_slowly = True
        self._segments_per_dir = segments_per_dir
        self._max_segment_size = max_segment_size
        self._writer: Writer | None = None
        self._readers: dict[int, Reader] = {}
        self.segment = 0

    # --- which segments there are

    def name(self, segment: int) -> str:
        """Return the file name of a segment within the repository."""
        return f"data/{segment // self._segments_per_dir}/{segment}"

    def size(self, segment: int) -> int:
        """Return the bytes in the segment's file; 0 for one that is missing or was emptied: both count as deleted."""
        return self._storage.size(self.name(segment)) or 0

    def segments(self, after: int = -1, through: int | None = None) -> Iterator[int]:
        """Yield the numbers of the existing segment files that are above `after` and at most `through`, ascending.

        Each directory is looked at when its turn comes. Source: spec, repository-format.md section 4.4.
        """
        for directory in self._directories():
            if directory < (after + 1) // self._segments_per_dir:
                continue
            if through is not None and directory > through // self._segments_per_dir:
                return
            for segment in self._files(directory):
                if segment > after and (through is None or segment <= through):
                    yield segment

    def segments_from_top(self) -> Iterator[int]:
        """Yield the numbers of all existing segment files, descending."""
        for directory in reversed(self._directories()):
            yield from reversed(self._files(directory))

    def _directories(self) -> list[int]:
        return sorted(
            int(entry.name) for entry in self._storage.entries("data") if entry.is_directory and _is_number(entry.name)
        )

    def _files(self, directory: int) -> list[int]:
        names = self._storage.entries(f"data/{directory}")
        files = sorted(int(entry.name) for entry in names if not entry.is_directory and _is_number(entry.name))
        if files and files[-1] > MAX_SEGMENT_NUMBER:
            raise IntegrityError(f"data/{directory}/{files[-1]} has a number that no segment can have; move it away")
        for segment in files[:1] + files[-1:]:
            if segment // self._segments_per_dir != directory:
                # Or each would be looked for where it is not, and a repair would find it missing.
                reason = f"segments_per_dir = {self._segments_per_dir}, but segment {segment} is in data/{directory}"
                raise InvalidRepositoryConfig(self._storage.location, reason)
        return files

    def last_segment(self) -> int | None:
        """Return the highest segment number, or None when there is no segment."""
        return next(self.segments_from_top(), None)

    def end(self) -> LogEnd:
        """Return what the log ends with, seen from its top."""
        newest = damaged = None
        for segment in self.segments_from_top():
            newest = segment if newest is None else newest
            with self.source(segment) as source:
                ending = segment_format.ending(source, segment)
            if ending is Ending.COMMITTED:
                return LogEnd(newest, segment, damaged)
            if ending is Ending.DAMAGED and damaged is None:
                damaged = segment
        return LogEnd(newest, None, damaged)

    def last_commit(self) -> int | None:
        """Return the highest number of a committed segment: the transaction that the files hold."""
        return self.end().committed

    # --- reading

    def source(self, segment: int) -> SegmentSource:
        """Open a segment for reading it through; the caller closes it."""
        return SegmentSource(self._storage.open_reader(self.name(segment)), segment)

    def read_put(self, object_id: bytes, segment: int, offset: int) -> memoryview:
        """Return the data of the PUT of `object_id` at this place, verified.

        Raises IntegrityError, FileMissing, StorageError.
        """
        reader = self._readers.get(segment) or self._open_reader(segment)
        begun = self._clock()
        entry = reader.read_at(offset, self._guess)
        self.reads_slowly = self._clock() - begun > _SLOW
        crc, size = entries_format.put_head(entry, object_id, segment, offset)
        if size > len(entry):
            entry = reader.read_at(offset, size)
        # The next one is often about as large: four times less than this to copy, for objects of 1 KiB.
        self._guess = min(_MOST_GUESSED, 2 * size)
        return entries_format.put_data(entry, crc, size, segment, offset)

    def put_size(self, object_id: bytes, segment: int, offset: int) -> int:
        """Return the size in bytes of the PUT entry of `object_id` at this place; its data are not looked at."""
        reader = self._readers.get(segment) or self._open_reader(segment)
        return entries_format.put_head(
            reader.read_at(offset, entries_format.PUT_HEADER_SIZE), object_id, segment, offset
        )[1]

    def announce(self, segment: int, offset: int) -> None:
        """Let the system read ahead at this place. Never fails."""
        try:
            reader = self._readers.get(segment) or self._open_reader(segment)
        except FileMissing:
            return
        reader.will_need(offset, _MOST_GUESSED)

    def _open_reader(self, segment: int) -> Reader:
        if len(self._readers) >= _OPEN_READERS:
            oldest = next(iter(self._readers))
            self._readers.pop(oldest).close()
        try:
            reader = self._readers[segment] = self._storage.open_reader(self.name(segment))
        except FileMissing as error:
            raise FileMissing(error.errno, _MISSING, error.name) from None
        return reader

    # --- writing

    def continue_at(self, segment: int) -> None:
        """Write to segment `segment` next; what the open segment holds stays as it is, uncommitted."""
        self.abandon_segment()
        self.segment = segment

    def needs_new_segment(self, object_id: bytes) -> bool:
        """Return whether an entry of `object_id` has to leave the open segment: it is full, or the entry is the
        manifest's, which begins segments of its own (spec: repository-format.md section 4.5).
        """
        return object_id == MANIFEST_ID or (self._writer is not None and self._writer.position > self._max_segment_size)

    def put(self, object_id: bytes, *parts: Buffer) -> tuple[int, int]:
        """Append a PUT made of `parts`: its header, see put_header, and its data, or both in one; return its (segment,
        offset).
        """
        writer = self._writer_for(object_id)
        offset = writer.position
        writer.write(*parts)
        return self.segment, offset

    def delete(self, object_id: bytes) -> int:
        """Append a DELETE; return its segment."""
        self._writer_for(object_id).write(entries_format.delete_entry(object_id))
        return self.segment

    def commit(self) -> int:
        """Append a COMMIT in a segment of its own, all on stable storage on return; return its segment."""
        self.close_segment()
        return self._finish_with_commit(self._open_segment())

    def commit_in_place(self) -> int:
        """Append a COMMIT to the open segment, or to a new one if none is open, and close it; return its segment.

        All is on stable storage on return. Source: spec, repository-format.md section 4.5, intermediate COMMIT.
        """
        writer = self._writer or self._open_segment()
        writer.sync()
        return self._finish_with_commit(writer)

    def _finish_with_commit(self, writer: Writer) -> int:
        segment = self.segment
        writer.write(entries_format.COMMIT_ENTRY)
        self.close_segment()
        return segment

    def close_segment(self) -> None:
        """Put the open segment, if any, on stable storage and end it."""
        if self._writer is None:
            return
        self._writer.sync()
        self.abandon_segment()
        self._storage.sync_directory(f"data/{self.segment // self._segments_per_dir}")
        self.segment += 1

    def abandon_segment(self) -> None:
        """Let go of the open segment, if any, without making sure of it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _writer_for(self, object_id: bytes) -> Writer:
        writer = self._writer
        if writer is not None and not self.needs_new_segment(object_id):
            return writer
        self.close_segment()
        return self._open_segment()

    def _open_segment(self) -> Writer:
        self._require_lock()
        directory = self.segment // self._segments_per_dir
        try:
            writer = self._storage.create(self.name(self.segment))
        except FileMissing:
            self._storage.make_directory(f"data/{directory}")
            self._storage.sync_directory("data")
            writer = self._storage.create(self.name(self.segment))
        self._forget(self.segment)
        writer.write(segment_format.MAGIC)
        self._writer = writer
        return writer

    # --- removing

    def remove(self, segment: int) -> None:
        """Delete a segment's file; a missing one is fine."""
        self._require_lock()
        self._forget(segment)
        self._storage.remove(self.name(segment))

    def remove_after(self, segment: int) -> int:
        """Delete all segments above `segment`, the highest first; return how many there were."""
        count = 0
        for number in self.segments_from_top():
            if number <= segment:
                break
            self.remove(number)
            count += 1
        return count

    def remove_empty_directories(self) -> None:
        """Remove the directories below `data/` that no longer hold a segment (spec: section 16.4)."""
        removed = [self._storage.remove_directory(f"data/{directory}") for directory in self._directories()]
        if any(removed):
            self._storage.sync_directory("data")

    def rewrite(self, segment: int, parts: Iterator[memoryview]) -> None:
        """Put a new file made of the magic and `parts` in the place of a segment, at once and durably."""
        name = self.name(segment)
        temporary = f"{name}.tmp"
        self._storage.remove(temporary)
        writer = self._storage.create(temporary)
        try:
            writer.write(segment_format.MAGIC)
            for part in parts:
                writer.write(part)
            writer.sync()
            writer.close()
            self._forget(segment)
            self._require_lock()
            self._storage.rename(temporary, name)
        except BaseException:
            writer.close()
            self._storage.remove(temporary)
            raise
        self._storage.sync_directory(f"data/{segment // self._segments_per_dir}")

    def _forget(self, segment: int) -> None:
        reader = self._readers.pop(segment, None)
        if reader is not None:
            reader.close()

    def close(self) -> None:
        """Let go of all open files. What was written since the last commit stays, uncommitted."""
        self.abandon_segment()
        while self._readers:
            self._readers.popitem()[1].close()


def _is_number(name: str) -> bool:
    """Return whether a segment or a directory of segments can have this name: `00` is nobody's."""
    return name.isascii() and name.isdecimal() and str(int(name)) == name
