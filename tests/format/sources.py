"""Files to read, in memory."""

from __future__ import annotations


class Bytes:
    """A file with this content; counts the bytes that were read."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.bytes_read = 0

    @property
    def size(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, length: int) -> bytes:
        data = self.content[offset : offset + length]
        self.bytes_read += len(data)
        return data
