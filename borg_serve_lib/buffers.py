"""What counts as bytes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol, TypeAlias

    class Source(Protocol):
        """A file read at positions; fewer bytes than asked for only where it ends."""

        @property
        def size(self) -> int: ...

        def read_at(self, offset: int, length: int) -> Buffer: ...

    class Room(Source, Protocol):
        """A file of fixed size that is changed in place."""

        def write_at(self, offset: int, data: Buffer) -> None: ...

        def close(self) -> None: ...

    RoomMaker: TypeAlias = Callable[[int, Iterable["Buffer"]], Room | None]
    """Makes room of so many bytes, filled with these, outside of memory; None where there is none to be had."""


Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes: read, never kept beyond the call that takes them."""


class InMemory:
    """Data in memory, read like a file, without a copy. `size`: in bytes."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> memoryview:
        """Return the `length` bytes from `offset` on, as far as they are there."""
        return self._data[offset : offset + length]
