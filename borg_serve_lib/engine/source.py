"""A segment read through, on a disk that may have places which cannot be read any more."""

from __future__ import annotations

import errno

from ..errors import IntegrityError, StorageError
from ..format.entry import place
from ..storage.base import Reader

_BLOCK = 4096
"""Bytes that a disk gives or does not give as a whole."""


class SegmentSource:
    """The bytes of segment `segment`; what the disk cannot read is damage like any other, at its place."""

    def __init__(self, reader: Reader, segment: int) -> None:
        self._reader = reader
        self._segment = segment

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._reader.size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; fewer only where the file ends. Raises IntegrityError, StorageError."""
        try:
            return self._reader.read_at(offset, length)
        except StorageError as error:
            if error.errno != errno.EIO:
                raise
            raise IntegrityError(f"Segment cannot be read {place(self._segment, offset)}: {error.reason}") from None

    def around_holes(self) -> SegmentSource:
        """Return a source of the same bytes that reads zeros where nothing can be read. It shares the file."""
        return _AroundHoles(self._reader, self._segment)

    def __enter__(self) -> SegmentSource:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader.close()


class _AroundHoles(SegmentSource):
    def read_at(self, offset: int, length: int) -> bytes:
        try:
            return super().read_at(offset, length)
        except IntegrityError:
            pass
        parts = []
        end = min(offset + length, self.size)
        while offset < end:
            size = min(_BLOCK - offset % _BLOCK, end - offset)
            try:
                parts.append(super().read_at(offset, size))
            except IntegrityError:
                parts.append(bytes(size))
            offset += size
        return b"".join(parts)
