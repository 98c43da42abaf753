"""A storage whose steps are numbered, so that a fault can be put at each of them.

A step is one call that changes something: a write, sync, rename, link, unlink, mkdir, rmdir. `replace` and `destroy`
are made of such steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from borg_serve_lib.buffers import Buffer
from borg_serve_lib.storage.base import (
    DirectoryEntry,
    Patch,
    Reader,
    ScratchFile,
    Storage,
    StorageProvider,
    Writer,
)
from borg_serve_lib.storage.files import storage_error


class Stopped(BaseException):
    """The process ended at a step: nothing it still tries to do has any effect."""


@attrs.define
class Faults:
    """Counts the steps, and does something at one of them.

    `at`: the number of the step, from 1; 0 for none. `stop`: the process ends there, before the step or, with `torn`,
    in the middle of what it writes. `error`: the number of an error of the system, raised at that step, or with
    `lasting` at this and every later one that needs room.
    """

    at: int = 0
    stop: bool = False
    torn: bool = False
    error: int = 0
    lasting: bool = False
    steps: list[str] = attrs.field(factory=list)
    stopped: bool = False

    def step(self, what: str, name: str, *, needs_room: bool = False, tear: Callable[[], object] | None = None) -> None:
        """Count one step and let its fault, if any, happen. `tear`: does half of it."""
        if self.stopped:
            raise Stopped
        self.steps.append(f"{what} {name}")
        count = len(self.steps)
        if not self.at or count < self.at:
            return
        if self.stop:
            if count == self.at:
                if self.torn and tear is not None:
                    tear()
                self.stopped = True
                raise Stopped
        elif count == self.at or (self.lasting and needs_room):
            if tear is not None:
                tear()
            raise storage_error(OSError(self.error, "injected fault"), name)


class FaultyWriter(Writer):
    def __init__(self, faults: Faults, inner: Writer, name: str) -> None:
        self._faults = faults
        self._inner = inner
        self._name = name

    @property
    def position(self) -> int:  # type: ignore[override]
        return self._inner.position

    def write(self, *parts: Buffer) -> None:
        data = b"".join(parts)
        tear = lambda: self._inner.write(data[: len(data) // 2])  # noqa: E731
        self._faults.step("write", self._name, needs_room=True, tear=tear)
        self._inner.write(data)

    def sync(self) -> None:
        self._faults.step("sync", self._name)
        self._inner.sync()

    def close(self) -> None:
        self._inner.close()


class FaultyScratch(ScratchFile):
    def __init__(self, faults: Faults, inner: ScratchFile, name: str) -> None:
        self._faults = faults
        self._inner = inner
        self._name = name

    @property
    def size(self) -> int:
        return self._inner.size

    def read_at(self, offset: int, length: int) -> Buffer:
        return self._inner.read_at(offset, length)

    def write_at(self, offset: int, data: Buffer) -> None:
        tear = lambda: self._inner.write_at(offset, data[: len(data) // 2])  # noqa: E731
        self._faults.step("write at", self._name, needs_room=True, tear=tear)
        self._inner.write_at(offset, data)

    def close(self) -> None:
        self._inner.close()


class FaultyPatch(FaultyScratch, Patch):
    def __init__(self, faults: Faults, inner: Patch, name: str) -> None:
        super().__init__(faults, inner, name)
        self._patch = inner
        self.view = inner.view

    def sync(self) -> None:
        self._faults.step("sync", self._name)
        self._patch.sync()


class FaultyStorage(Storage):
    """Passes everything on to `inner`, past `faults`."""

    def __init__(self, inner: Storage, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self.location = inner.location

    # --- looking

    def entries(self, directory: str = "") -> list[DirectoryEntry]:
        return self._inner.entries(directory)

    def size(self, name: str) -> int | None:
        return self._inner.size(name)

    def link_count(self, name: str) -> int:
        return self._inner.link_count(name)

    def free_space(self) -> int | None:
        return self._inner.free_space()

    # --- reading and writing

    def read(self, name: str, most: int | None = None) -> bytes:
        return self._inner.read(name, most)

    def open_reader(self, name: str) -> Reader:
        return self._inner.open_reader(name)

    def create(self, name: str) -> Writer:
        self._faults.step("create", name, needs_room=True)
        return FaultyWriter(self._faults, self._inner.create(name), name)

    def create_copy(self, source: str, name: str) -> Patch:
        self._faults.step("copy", name, needs_room=True)
        return FaultyPatch(self._faults, self._inner.create_copy(source, name), name)

    def create_scratch(self, parts: Iterable[Buffer]) -> ScratchFile:
        self._faults.step("create scratch", "", needs_room=True)
        return FaultyScratch(self._faults, self._inner.create_scratch(parts), "scratch")

    def append(self, name: str, data: bytes) -> None:
        tear = lambda: self._inner.append(name, data[: len(data) // 2])  # noqa: E731
        self._faults.step("append", name, needs_room=True, tear=tear)
        self._inner.append(name, data)

    def overwrite(self, name: str, data: bytes) -> None:
        tear = lambda: self._inner.overwrite(name, data[: len(data) // 2])  # noqa: E731
        self._faults.step("overwrite", name, tear=tear)
        self._inner.overwrite(name, data)

    # --- names

    def rename(self, old: str, new: str) -> None:
        self._faults.step("rename", new)
        self._inner.rename(old, new)

    def link(self, old: str, new: str) -> None:
        self._faults.step("link", new)
        self._inner.link(old, new)

    def remove(self, name: str) -> None:
        self._faults.step("unlink", name)
        self._inner.remove(name)

    def make_directory(self, name: str) -> None:
        self._faults.step("mkdir", name, needs_room=True)
        self._inner.make_directory(name)

    def remove_directory(self, name: str) -> bool:
        self._faults.step("rmdir", name)
        return self._inner.remove_directory(name)

    def sync_directory(self, name: str = "") -> None:
        self._faults.step("sync directory", name)
        self._inner.sync_directory(name)

    def destroy(self) -> None:
        self.remove("config")
        self._faults.step("remove tree", "")
        self._inner.destroy()

    def close(self) -> None:
        self._inner.close()


class FaultyProvider(StorageProvider):
    """The storages of `inner`, all past the same `faults`."""

    def __init__(self, inner: StorageProvider, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def open(self, path: str) -> Storage:
        return FaultyStorage(self._inner.open(path), self._faults)

    def create(self, path: str, *, make_parent_dirs: bool) -> Storage:
        self._faults.step("mkdir", path)
        return FaultyStorage(self._inner.create(path, make_parent_dirs=make_parent_dirs), self._faults)
