"""A segment: the magic, then entries to the end of the file. Source: spec, repository-format.md sections 4, 17.3."""

from __future__ import annotations

from enum import Enum

from ..errors import IntegrityError
from ..limits import MAX_ENTRY_SIZE
from .entry import (
    COMMIT,
    COMMIT_ENTRY,
    COMMIT_SIZE,
    DELETE_SIZE,
    HEADER,
    HEADER_SIZE,
    PUT,
    PUT_HEADER_SIZE,
    check_entry_size,
    crc32,
    delete_entry,
    place,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, Protocol

    class Source(Protocol):
        """A file read at positions; fewer bytes than asked for only where it ends."""

        @property
        def size(self) -> int: ...

        def read_at(self, offset: int, length: int) -> bytes: ...


MAGIC: Final = b"BORG_SEG"
ATTIC_MAGIC: Final = b"ATTICSEG"
MAGIC_SIZE: Final = 8
COMMIT_SEGMENT_SIZE: Final = MAGIC_SIZE + COMMIT_SIZE

WINDOW: Final = 1 << 20
"""Bytes read at once; an entry whose data are wanted is read alone if it is larger than an eighth of that."""

_HEAD_WINDOW: Final = 1 << 14
_NO_DATA: Final = memoryview(b"")


class Window:
    """The part of a file that was read last."""

    def __init__(self, source: Source, length: int) -> None:
        self._source = source
        self._length = length
        self.begin = 0
        self.data = b""
        self.view = _NO_DATA

    @property
    def end(self) -> int:
        """Where the part ends in the file."""
        return self.begin + len(self.data)

    def load(self, offset: int, least: int) -> None:
        """Read from `offset` on: at least `least` bytes, if the file has them."""
        self._read(offset, max(self._length, least))

    def is_large(self, size: int) -> bool:
        """Return whether an entry of `size` bytes is read alone."""
        return size > self._length // 8

    def load_entry(self, offset: int, size: int) -> None:
        """Read the entry of `size` bytes at `offset`: a small one with what follows it; of what follows a large one
        the next head only, as most of the next entry would have to be read again.
        """
        self._read(offset, size + PUT_HEADER_SIZE if self.is_large(size) else self._length)

    def load_around(self, offset: int) -> None:
        """Read the head of the entry at `offset`, and as much before it as a DELETE takes."""
        self._read(offset - DELETE_SIZE, DELETE_SIZE + PUT_HEADER_SIZE)

    def _read(self, offset: int, length: int) -> None:
        self.data, self.view = b"", _NO_DATA  # not beside the next one in memory: an entry can be large
        self.data = self._source.read_at(offset, length)
        self.view = memoryview(self.data)
        self.begin = offset


def entries(
    source: Source,
    segment: int,
    start: int = 0,
    *,
    window: int = WINDOW,
    with_data: bool = True,
    whole: bool = False,
    skips: Callable[[bytes, int], bool] | None = None,
    part: Window | None = None,
) -> Iterator[tuple[int, bytes, int, int, memoryview]]:
    """Yield (tag, object id, offset, size, data) of all entries from offset `start`, each checked by its CRC.

    The id of a COMMIT is b''. The data are valid until the next step, and empty unless `with_data`; with `whole` all
    bytes of the entry come in their place. From 0 on the magic is checked as well. `skips`: asked, with object id and
    offset, whether a large PUT may be passed over; of one that is, nothing is checked, and no data come. `part`: what
    was read last of the source; it moves on. Raises IntegrityError at the first damage (section 4.3, iterating); memory
    stays at `window`, with data at the largest entry.
    """
    part = part or Window(source, window)
    offset = start or _behind_magic(part, segment)
    before_data = 0 if whole else PUT_HEADER_SIZE
    while True:
        index = offset - part.begin
        if len(part.data) - index < PUT_HEADER_SIZE:
            part.load(offset, PUT_HEADER_SIZE)
            index = 0
            if not part.data:
                return
            _check_head(part.data, segment, offset)
        crc, size, tag = HEADER.unpack_from(part.data, index)
        if not HEADER_SIZE <= size <= MAX_ENTRY_SIZE:
            check_entry_size(size, HEADER_SIZE, segment, offset)
        if with_data and len(part.data) - index < size:
            object_id = part.data[index + HEADER_SIZE : index + PUT_HEADER_SIZE]
            is_large_put = tag == PUT and part.is_large(size)
            if skips and is_large_put and skips(object_id, offset) and _seems_to_end(part, source, offset + size):
                yield tag, object_id, offset, size, _NO_DATA
                offset += size
                continue
            part.load_entry(offset, size)
            index = 0
        object_id = part.data[index + HEADER_SIZE : index + PUT_HEADER_SIZE]
        actual = crc32(part.view[index + 4 : index + size])
        if len(part.data) - index < size:
            actual = _crc_of_more(part, actual, offset, size, segment)
        if actual != crc:
            raise IntegrityError(f"Segment entry checksum mismatch {place(segment, offset)}")
        if tag >= COMMIT or size < PUT_HEADER_SIZE:
            object_id = _no_object_id(tag, segment, offset)
        data = part.view[index + before_data : index + size] if with_data else _NO_DATA
        yield tag, object_id, offset, size, data
        del data
        offset += size


def headers(
    source: Source, segment: int, start: int = 0, *, window: int = _HEAD_WINDOW
) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield (tag, object id, offset, size) of all entries from offset `start`, without reading their data.

    Raises IntegrityError for a head that cannot be right and for an entry that goes on beyond the file's end.
    """
    part = Window(source, window)
    file_size = source.size
    offset = start or _behind_magic(part, segment)
    while offset < file_size:
        index = offset - part.begin
        if len(part.data) - index < PUT_HEADER_SIZE:
            part.load(offset, PUT_HEADER_SIZE)
            index = 0
            _check_head(part.data, segment, offset)
        _, size, tag = HEADER.unpack_from(part.data, index)
        check_entry_size(size, HEADER_SIZE, segment, offset)
        if offset + size > file_size:
            raise _cut_short(size, file_size - offset, segment, offset)
        object_id = part.data[index + HEADER_SIZE : index + PUT_HEADER_SIZE]
        if tag >= COMMIT or size < PUT_HEADER_SIZE:
            object_id = _no_object_id(tag, segment, offset)
        yield tag, object_id, offset, size
        offset += size


def _crc_of_more(part: Window, crc: int, offset: int, size: int, segment: int) -> int:
    """Read on in an entry that goes on beyond `part`, to its end; return its CRC. `crc`: as far as it was read."""
    while part.end < offset + size:
        part.load(part.end, 1)
        if not part.data:
            raise _cut_short(size, part.begin - offset, segment, offset)
        crc = crc32(part.view[: offset + size - part.begin], crc)
    return crc


def _seems_to_end(part: Window, source: Source, end: int) -> bool:
    """Read what is around `end`; return whether an entry that is passed over may end there.

    Not beyond the file; nor behind a DELETE, which a size that is damaged would pass over as well.
    """
    if end > source.size:
        return False
    part.load_around(end)
    before = part.data[:DELETE_SIZE]
    return before != delete_entry(before[HEADER_SIZE:])


def _behind_magic(part: Window, segment: int) -> int:
    """Check the magic; return where the first entry is."""
    part.load(0, MAGIC_SIZE)
    if part.data[:MAGIC_SIZE] != MAGIC:
        raise IntegrityError(f"Invalid segment magic {place(segment, 0)}")
    return MAGIC_SIZE


def _check_head(data: bytes, segment: int, offset: int) -> None:
    if len(data) < HEADER_SIZE:
        raise IntegrityError(
            f"Invalid segment entry header {place(segment, offset)}: unpack requires a buffer of {HEADER_SIZE} bytes"
        )


def _cut_short(size: int, present: int, segment: int, offset: int) -> IntegrityError:
    expected, got = size - HEADER_SIZE, present - HEADER_SIZE
    return IntegrityError(
        f"Segment entry data short read {place(segment, offset)}: expected {expected}, got {got} bytes"
    )


def _no_object_id(tag: int, segment: int, offset: int) -> bytes:
    """Return the id of a COMMIT. Raises IntegrityError: any other entry should have one of its own."""
    if tag < COMMIT:
        raise IntegrityError(f"Segment entry key short read {place(segment, offset)}")
    if tag > COMMIT:
        raise IntegrityError(f"Invalid segment entry header, did not get acceptable tag {place(segment, offset)}")
    return b""


class Ending(Enum):
    """How a segment ends."""

    COMMITTED = "it is sound, and nothing but COMMITs follows its first one: it ends a transaction (section 4.6)"
    UNCOMMITTED = "with no COMMIT"
    DAMAGED = "with a COMMIT, which counts for nothing as the segment is damaged; or its end cannot be read"


def ending(source: Source, segment: int) -> Ending:
    """Return how a segment ends. Its last bytes decide whether it is read through at all."""
    size = source.size
    if size < COMMIT_SEGMENT_SIZE:
        return Ending.UNCOMMITTED
    try:
        if source.read_at(size - COMMIT_SIZE, COMMIT_SIZE) != COMMIT_ENTRY:
            return Ending.UNCOMMITTED
        committed = False
        for tag, *_ in entries(source, segment, with_data=False):
            if committed and tag != COMMIT:
                return Ending.UNCOMMITTED
            committed = tag == COMMIT
    except IntegrityError:
        return Ending.DAMAGED
    return Ending.COMMITTED if committed else Ending.UNCOMMITTED


def salvage(source: Source, *, window: int = WINDOW) -> Iterator[memoryview]:
    """Yield the sound entries of a damaged segment, whole and in order; what is between them is skipped (17.3).

    Found are the entries that borg's repair finds, but for those with a tag that no borg writes, or with a size that
    does not go with the tag: they count as damage, as they would make every later check fail. The magic is not among
    what is yielded. Each view is valid until the next step.

    The work is linear in the file's size, whatever its bytes. Sound entries are read twice; a damaged byte costs well
    below a tenth of a microsecond; at worst, when each byte was made to be the head of a large entry, about four:
    half an hour for 500 MiB. Memory stays at `window`, one entry, and a thousandth of the file's size.
    """
    from .salvage import sound_entries

    return sound_entries(source, window=window)
