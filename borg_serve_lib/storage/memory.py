"""The twin in memory: repositories without a disk, for tests; stricter than a disk.

It knows what was synced: `crash` takes away all that was not, as a power failure may.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from ..errors import (
    AlreadyExists,
    DoesNotExist,
    FileExists,
    FileMissing,
    NoSpace,
    ParentPathDoesNotExist,
    PathAlreadyExists,
    StorageError,
)
from ..format.config import is_left_by_creation
from .base import Buffer, DirectoryEntry, Patch, Reader, Storage, StorageProvider, Writer, demand_small


class _File:
    """Content, and what of it is on stable storage (None: not even that the file exists)."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.durable: bytes | None = None
        self.links = 1

    def sync(self) -> None:
        self.durable = bytes(self.content)


class MemoryReader(Reader):
    """An open file."""

    def __init__(self, file: _File, name: str) -> None:
        self._file: _File | None = file
        self._name = name
        self._view: memoryview | None = None

    def _opened(self) -> _File:
        if self._file is None:
            raise _closed(self._name)
        return self._file

    @property
    def size(self) -> int:
        return len(self._opened().content)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._opened().content[offset : offset + length])

    def map(self) -> memoryview:
        if self._view is None:
            self._view = memoryview(bytes(self._opened().content))
        return self._view

    def will_need(self, offset: int, length: int) -> None:
        """Everything is there."""

    def close(self) -> None:
        self._file = None
        if self._view is not None:
            self._view.release()


class MemoryWriter(Writer):
    """A new file."""

    def __init__(self, storage: MemoryStorage, file: _File, name: str) -> None:
        self._storage = storage
        self._file: _File | None = file
        self._name = name
        self.position = len(file.content)

    def _opened(self) -> _File:
        if self._file is None:
            raise _closed(self._name)
        return self._file

    def write(self, *parts: Buffer) -> None:
        file = self._opened()
        data = b"".join(parts)
        room = self._storage.room()
        if room is not None and len(data) > room:
            file.content += data[:room]
            self.position += room
            raise NoSpace(errno.ENOSPC, "No space left on device", self._name)
        file.content += data
        self.position += len(data)

    def sync(self) -> None:
        self._opened().sync()

    def close(self) -> None:
        self._file = None


class MemoryPatch(Patch):
    """A copied file that is changed in place; the changes are in the file when it is synced or closed."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self._buffer = bytearray(file.content)
        self.view = memoryview(self._buffer)
        self._closed = False

    @property
    def size(self) -> int:
        return len(self._buffer)

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self.view[offset : offset + length])

    def write_at(self, offset: int, data: Buffer) -> None:
        self.view[offset : offset + len(data)] = data

    def sync(self) -> None:
        self._file.content[:] = self._buffer
        self._file.sync()

    def close(self) -> None:
        if not self._closed:
            self._file.content[:] = self._buffer
            self.view.release()
            self._closed = True


class MemoryStorage(Storage):
    """A repository directory. `capacity`: bytes that all files together may have, None for no limit."""

    def __init__(self, provider: MemoryProvider, path: str, capacity: int | None = None) -> None:
        self.location = path
        self.capacity = capacity
        self._provider = provider
        self._files: dict[str, _File] = {}
        self._directories = {""}
        self._durable_names: dict[str, _File | None] = {"": None}
        """Names that survive a crash: files, and directories as None."""

    # --- crashing

    def crash(self, *, names: bool = True, content: bool = True) -> None:
        """Lose what was not synced, as a power failure may: `names` in directories, `content` of files, or both."""
        if names:
            self._lose_names()
        if content:
            for file in self._files.values():
                file.content = bytearray(file.durable or b"")

    def _lose_names(self) -> None:
        self._files = {}
        self._directories = {""}
        for name, file in sorted(self._durable_names.items(), key=lambda item: item[0].count("/")):
            if os.path.dirname(name) not in self._directories:
                continue
            if file is None:
                self._directories.add(name)
            else:
                self._files[name] = file

    # --- looking

    def entries(self, directory: str = "") -> list[DirectoryEntry]:
        if directory not in self._directories:
            raise _missing(directory)
        files = [DirectoryEntry(os.path.basename(n), False) for n in self._files if os.path.dirname(n) == directory]
        directories = [
            DirectoryEntry(os.path.basename(n), True)
            for n in self._directories
            if n and os.path.dirname(n) == directory
        ]
        return files + directories

    def names(self) -> set[str]:
        """Return all names in the repository, those in directories with them."""
        return {*self._files, *self._directories} - {""}

    def size(self, name: str) -> int | None:
        file = self._files.get(name)
        return None if file is None else len(file.content)

    def link_count(self, name: str) -> int:
        return self._file(name).links

    def free_space(self) -> int | None:
        return 1 << 40 if self.capacity is None else self.room()

    def room(self) -> int | None:
        """Bytes that may still be written, None without a limit."""
        if self.capacity is None:
            return None
        return max(0, self.capacity - self._used())

    def leave(self, free: int) -> None:
        """Set the capacity so that `free` bytes are left."""
        self.capacity = self._used() + free

    def _used(self) -> int:
        return sum(len(file.content) for file in {id(file): file for file in self._files.values()}.values())

    def _file(self, name: str) -> _File:
        if name not in self._files:
            raise _missing(name)
        return self._files[name]

    # --- reading and writing

    def read(self, name: str, most: int | None = None) -> bytes:
        content = self._file(name).content
        demand_small(len(content), most, name)
        return bytes(content)

    def open_reader(self, name: str) -> MemoryReader:
        return MemoryReader(self._file(name), name)

    def create(self, name: str) -> MemoryWriter:
        if name in self._files or name in self._directories:
            raise FileExists(errno.EEXIST, "File exists", name)
        if os.path.dirname(name) not in self._directories:
            raise _missing(name)
        file = self._files[name] = _File()
        return MemoryWriter(self, file, name)

    def create_copy(self, source: str, name: str) -> MemoryPatch:
        content = self.read(source)
        self.remove(name)
        writer = self.create(name)
        try:
            writer.write(content)
        except NoSpace:
            self.remove(name)
            raise
        return MemoryPatch(self._file(name))

    def create_scratch(self, parts: Iterable[Buffer]) -> MemoryPatch:
        file = _File()
        MemoryWriter(self, file, "").write(*parts)
        return MemoryPatch(file)

    def append(self, name: str, data: bytes) -> None:
        writer = MemoryWriter(self, self._files[name], name) if name in self._files else self.create(name)
        writer.write(data)

    def overwrite(self, name: str, data: bytes) -> None:
        file = self._file(name)
        file.content[: len(data)] = data
        file.sync()

    # --- names

    def rename(self, old: str, new: str) -> None:
        file = self._file(old)
        if os.path.dirname(new) not in self._directories:
            raise _missing(new)
        self.remove(new)
        self._files[new] = file
        del self._files[old]

    def link(self, old: str, new: str) -> None:
        file = self._file(old)
        if new in self._files:
            raise FileExists(errno.EEXIST, "File exists", new)
        file.links += 1
        self._files[new] = file

    def remove(self, name: str) -> None:
        file = self._files.pop(name, None)
        if file is not None:
            file.links -= 1

    def make_directory(self, name: str) -> None:
        if name in self._files:
            return
        if os.path.dirname(name) not in self._directories:
            raise _missing(name)
        self._directories.add(name)

    def remove_directory(self, name: str) -> bool:
        if name in self._directories:
            if self.entries(name):
                return False
            self._directories.remove(name)
        return True

    def sync_directory(self, name: str = "") -> None:
        if name not in self._directories:
            raise _missing(name)
        durable = self._durable_names
        for known in [known for known in durable if known and os.path.dirname(known) == name]:
            if known not in self._files and known not in self._directories:
                del durable[known]
        for entry in self.entries(name):
            full = f"{name}/{entry.name}" if name else entry.name
            durable[full] = None if entry.is_directory else self._files[full]

    def destroy(self) -> None:
        self._provider.forget(self.location)
        self._files.clear()
        self._directories = {""}

    def close(self) -> None:
        """Nothing is held open."""


class MemoryProvider(StorageProvider):
    """Keeps repositories by path, as long as it lives. Parent directories exist when they were made or are `/`.

    `directories`: the paths that exist to begin with. `capacity`: of each repository, in bytes.
    """

    def __init__(self, directories: tuple[str, ...] = (), capacity: int | None = None) -> None:
        self._storages: dict[str, MemoryStorage] = {}
        self._directories = set(directories)
        self._capacity = capacity

    def open(self, path: str) -> MemoryStorage:
        if path not in self._storages:
            raise DoesNotExist(path)
        return self._storages[path]

    def create(self, path: str, *, make_parent_dirs: bool) -> MemoryStorage:
        if path in self._storages and all(is_left_by_creation(name) for name in self._storages[path].names()):
            return self._storages[path]
        for place in _upwards(path):
            if place in self._storages:
                raise AlreadyExists(place)
        if any(known.startswith(f"{path}/") for known in (*self._storages, *self._directories)):
            raise PathAlreadyExists(path)
        parent = os.path.dirname(path)
        if parent != "/" and parent not in self._directories and self._directories and not make_parent_dirs:
            raise ParentPathDoesNotExist(path)
        self._directories.update(_upwards(parent))
        storage = self._storages[path] = MemoryStorage(self, path, self._capacity)
        return storage

    def forget(self, path: str) -> None:
        """Remove the repository at `path`."""
        self._storages.pop(path, None)


def _upwards(path: str) -> list[str]:
    places = []
    while path != "/":
        places.append(path)
        path = os.path.dirname(path)
    return places


def _missing(name: str) -> StorageError:
    return FileMissing(errno.ENOENT, "No such file or directory", name)


def _closed(name: str) -> StorageError:
    return StorageError(errno.EBADF, "used after it was closed", name)
