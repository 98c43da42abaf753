"""Storage of which nothing can be changed, wherever it is."""

from __future__ import annotations

import errno

from ..errors import NotPermitted
from .base import Buffer, DirectoryEntry, Patch, Reader, ScratchFile, Storage, StorageProvider, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn


def _refuse(name: str) -> NoReturn:
    raise NotPermitted(errno.EROFS, "this server only reads", name)


class ReadOnlyStorage(Storage):
    """Reads from `inner`; everything else is NotPermitted."""

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.location = inner.location

    def entries(self, directory: str = "") -> list[DirectoryEntry]:
        return self._inner.entries(directory)

    def size(self, name: str) -> int | None:
        return self._inner.size(name)

    def link_count(self, name: str) -> int:
        return self._inner.link_count(name)

    def free_space(self) -> int | None:
        return self._inner.free_space()

    def read(self, name: str, most: int | None = None) -> bytes:
        return self._inner.read(name, most)

    def open_reader(self, name: str) -> Reader:
        return self._inner.open_reader(name)

    def create(self, name: str) -> Writer:
        _refuse(name)

    def create_copy(self, source: str, name: str) -> Patch:  # noqa: ARG002 - the port's signature
        _refuse(name)

    def create_scratch(self, parts: Iterable[Buffer]) -> ScratchFile:  # noqa: ARG002
        _refuse("")

    def append(self, name: str, data: bytes) -> None:  # noqa: ARG002
        _refuse(name)

    def overwrite(self, name: str, data: bytes) -> None:  # noqa: ARG002
        _refuse(name)

    def rename(self, old: str, new: str) -> None:  # noqa: ARG002
        _refuse(old)

    def link(self, old: str, new: str) -> None:  # noqa: ARG002
        _refuse(old)

    def remove(self, name: str) -> None:
        _refuse(name)

    def make_directory(self, name: str) -> None:
        _refuse(name)

    def remove_directory(self, name: str) -> bool:
        _refuse(name)

    def sync_directory(self, name: str = "") -> None:
        _refuse(name)

    def destroy(self) -> None:
        _refuse("")

    def close(self) -> None:
        self._inner.close()


class ReadOnlyProvider(StorageProvider):
    """The repositories of `inner`, for reading only."""

    def __init__(self, inner: StorageProvider) -> None:
        self._inner = inner

    def open(self, path: str) -> Storage:
        return ReadOnlyStorage(self._inner.open(path))

    def create(self, path: str, *, make_parent_dirs: bool) -> Storage:  # noqa: ARG002
        _refuse(path)
