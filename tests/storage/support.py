"""The two places that keep repositories, behind one face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from borg_serve_lib.storage.base import Storage, StorageProvider
from borg_serve_lib.storage.memory import MemoryProvider
from borg_serve_lib.storage.places import FilesystemProvider


class Place(NamedTuple):
    """A provider, and an existing directory of it in which repositories may be made."""

    provider: StorageProvider
    root: str

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def make(self, name: str = "repository") -> Storage:
        return self.provider.create(self.path(name), make_parent_dirs=False)


def on_disk(tmp_path: Path) -> Place:
    return Place(FilesystemProvider(), str(tmp_path))


def in_memory(tmp_path: Path) -> Place:
    return Place(MemoryProvider((str(tmp_path),)), str(tmp_path))


PLACES: dict[str, Callable[[Path], Place]] = {"disk": on_disk, "memory": in_memory}


def fill(storage: Storage, name: str, *parts: bytes) -> None:
    """Write a new file."""
    writer = storage.create(name)
    writer.write(*parts)
    writer.close()


def names(storage: Storage, directory: str = "") -> dict[str, bool]:
    """Return whether each name in `directory` is a directory."""
    return {entry.name: entry.is_directory for entry in storage.entries(directory)}
