"""Room on the disk of a repository for what a session needs only itself, and is too large for memory."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StorageError
from ..storage.base import Storage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..buffers import Buffer, Room

_ROOM_TO_LEAVE = 8
"""Times the wanted room that have to be free: it is the segments and the index that the disk is for."""


class Scratch:
    """Files without names in the directory of a repository; where there are none to be had, memory has to do."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def make_room(self, size: int, parts: Iterable[Buffer]) -> Room | None:
        """Return a file of `size` bytes, all `parts`, that is gone when it is closed; None if there is no room for it,
        or nothing may be written.
        """
        try:
            available = self._storage.free_space()
            if available is not None and available < _ROOM_TO_LEAVE * size:
                return None
            return self._storage.create_scratch(parts)
        except StorageError:
            return None
