"""Files without names, in memory."""

from __future__ import annotations

from collections.abc import Iterable

from borg_serve_lib.buffers import Buffer
from borg_serve_lib.format.hashindex import IndexTable


class Rooms:
    """Files without names. `made`: all of them, the open ones and the closed ones."""

    def __init__(self) -> None:
        self.made: list[Room] = []

    def make(self, size: int, parts: Iterable[Buffer]) -> Room:
        self.made.append(Room(b"".join(parts)))
        assert self.made[-1].size == size
        return self.made[-1]

    def moved(self, table: IndexTable) -> IndexTable:
        copy = table.copy_in_file(self.make)
        assert copy is not None
        table.release()
        return copy


class Room:
    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.size = len(content)
        self.closed = False

    def read_at(self, offset: int, length: int) -> bytes:
        assert not self.closed
        return bytes(self.content[offset : offset + length])

    def write_at(self, offset: int, data: Buffer) -> None:
        assert not self.closed
        assert offset + len(data) <= self.size
        self.content[offset : offset + len(data)] = data

    def close(self) -> None:
        self.closed = True
