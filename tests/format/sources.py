"""Files to read, in memory."""

from __future__ import annotations


class Bytes:
    """A file with this content; counts the bytes that were read, and remembers the most at once."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.bytes_read = 0
        self.largest_read = 0

    @property
    def size(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, length: int) -> bytes:
        data = self.content[offset : offset + length]
        self.bytes_read += len(data)
        self.largest_read = max(self.largest_read, length)
        return data
