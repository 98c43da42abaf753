"""The storage ports: what the engine needs from the place where a repository's files live.

Names are relative to the repository directory, with `/` between parts: `config`, `index.17`, `data/0/3`; the directory
itself is `""`. Every method raises StorageError (FileMissing, FileExists, NotPermitted, NoSpace where they fit) and
nothing else; the error's `name` is the name that was asked for. Faults are injected at this port.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable

from ..buffers import Buffer
from ..errors import FileExists, NotPermitted, StorageError
from ..values import Value

__all__ = [
    "NO_HARD_LINKS",
    "Buffer",
    "DirectoryEntry",
    "Patch",
    "Reader",
    "ScratchFile",
    "Storage",
    "StorageProvider",
    "Writer",
    "demand_small",
    "random_suffix",
]

NO_HARD_LINKS = frozenset(
    {errno.EMLINK, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EIO}
)
"""Reasons not to have a hard link that are no reason to give up (spec: repository-format.md section 3.3)."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"


class DirectoryEntry(Value):
    """One name in a directory."""

    name: str
    is_directory: bool


class Reader(ABC):
    """One open file, read at positions. It goes on to see the file after the file was removed."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes in the file now."""

    @abstractmethod
    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`; fewer only where the file ends."""

    @abstractmethod
    def map(self) -> memoryview:
        """Return the whole file as a read-only view without reading it; valid until `close`."""

    def let_go(self) -> None:  # noqa: B027  # where nothing is mapped there is nothing to let go of
        """Give back the memory that looking into `map` has taken; the view stays valid. Never fails."""

    @abstractmethod
    def will_need(self, offset: int, length: int) -> None:
        """Announce that these bytes will be read soon. Never fails."""

    @abstractmethod
    def close(self) -> None:
        """Release the file. Closing twice is fine."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Writer(ABC):
    """One new file, written from its beginning to its end. Readers see what was written at once."""

    position: int
    """Bytes written so far."""

    @abstractmethod
    def write(self, *parts: Buffer) -> None:
        """Append all parts, as one operation where the system can. All of it is written, or StorageError raised."""

    @abstractmethod
    def sync(self) -> None:
        """Return when all that was written is on stable storage."""

    @abstractmethod
    def close(self) -> None:
        """Release the file without syncing. Closing twice is fine."""


class ScratchFile(ABC):
    """A file of fixed size that is changed in place."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes in the file."""

    @abstractmethod
    def read_at(self, offset: int, length: int) -> Buffer:
        """Return `length` bytes from `offset`, fewer only where the file ends; however much is read and written, this
        process's memory does not grow by it.
        """

    @abstractmethod
    def write_at(self, offset: int, data: Buffer) -> None:
        """Write `data`, which lies within the file."""

    @abstractmethod
    def close(self) -> None:
        """Release the file without syncing. Closing twice is fine."""


class Patch(ScratchFile):
    """A new file that can be changed through a writable view as well."""

    view: memoryview
    """The whole file; valid until `close`."""

    @abstractmethod
    def sync(self) -> None:
        """Return when the content is on stable storage."""


class Storage(ABC):
    """The files of one repository."""

    location: str
    """Where it is, as clients and logs may name it: the absolute path of the directory."""

    # --- looking

    @abstractmethod
    def entries(self, directory: str = "") -> list[DirectoryEntry]:
        """Return what is in `directory`, in any order."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the bytes in the file `name`, or None when there is no such regular file."""

    @abstractmethod
    def link_count(self, name: str) -> int:
        """Return how many names the file `name` has."""

    @abstractmethod
    def free_space(self) -> int | None:
        """Return the bytes an unprivileged user may still write, or None when the system does not tell."""

    # --- reading and writing

    @abstractmethod
    def read(self, name: str, most: int | None = None) -> bytes:
        """Return the whole file `name`. If it has more than `most` bytes: StorageError with EFBIG."""

    @abstractmethod
    def open_reader(self, name: str) -> Reader:
        """Open the existing file `name` for reading at positions."""

    @abstractmethod
    def create(self, name: str) -> Writer:
        """Create the new file `name`. An existing one is FileExists and stays as it is."""

    @abstractmethod
    def create_copy(self, source: str, name: str) -> Patch:
        """Create `name` (an old file of that name is replaced) as a copy of `source` made inside the system."""

    def create_scratch(self, parts: Iterable[Buffer]) -> ScratchFile:  # noqa: ARG002 - what has none needs nothing of it
        """Return a file that has no name and is gone when it is closed, filled with all `parts`.

        NotPermitted where no such file can be had.
        """
        raise NotPermitted(errno.ENOTSUP, "no files without a name", "")

    @abstractmethod
    def append(self, name: str, data: bytes) -> None:
        """Append `data` to `name`, which is created when missing. Not synced."""

    @abstractmethod
    def overwrite(self, name: str, data: bytes) -> None:
        """Write `data` over the beginning of the existing file `name` in place, and sync."""

    def replace(self, name: str, data: bytes, *, must_be_new: bool = False) -> None:
        """Put `data` in the place of `name` at once and durably: a synced temporary file
        `name-XXXXXXXX.tmp`, sync of the directory, rename, sync of the directory (spec: repository-format.md
        sections 3.3 and 19). On an error the old file stays and the temporary one is removed.

        `must_be_new`: an existing file is FileExists and stays as it is.
        """
        temporary = f"{name}-{random_suffix()}.tmp"
        directory = name.rpartition("/")[0]
        writer = self.create(temporary)
        try:
            try:
                writer.write(data)
                writer.sync()
            finally:
                writer.close()
            self.sync_directory(directory)
            (self._rename_to_new if must_be_new else self.rename)(temporary, name)
        except BaseException:
            self.remove(temporary)
            raise
        self.sync_directory(directory)

    def _rename_to_new(self, old: str, new: str) -> None:
        try:
            self.link(old, new)
        except StorageError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            if self.size(new) is not None:
                raise FileExists(errno.EEXIST, "File exists", new) from None
            self.rename(old, new)
        else:
            self.remove(old)

    # --- names

    @abstractmethod
    def rename(self, old: str, new: str) -> None:
        """Give the file `old` the name `new`, whose own file, if any, is gone."""

    @abstractmethod
    def link(self, old: str, new: str) -> None:
        """Give the file `old` the further, new name `new` (a hard link)."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove the file `name`; a missing one is fine. On a full disk the file is emptied first where that is
        what lets the system remove it, unless it has further names (spec: repository-format.md section 16.4).
        """

    @abstractmethod
    def make_directory(self, name: str) -> None:
        """Make the directory `name`; an existing one is fine."""

    @abstractmethod
    def remove_directory(self, name: str) -> bool:
        """Remove the directory `name` if it is empty; return whether it is gone."""

    @abstractmethod
    def sync_directory(self, name: str = "") -> None:
        """Return when the names in the directory `name` are on stable storage."""

    @abstractmethod
    def destroy(self) -> None:
        """Remove the repository directory and all in it, `config` first (spec: repository-format.md section 1)."""

    @abstractmethod
    def close(self) -> None:
        """Release what the storage itself holds open. Closing twice is fine."""


class StorageProvider(ABC):
    """The place where repositories are found and made."""

    @abstractmethod
    def open(self, path: str) -> Storage:
        """Return the storage of the repository directory at the absolute `path`. Nothing in it is looked at.

        Raises DoesNotExist, InvalidRepository (not a directory), PathPermissionDenied.
        """

    @abstractmethod
    def create(self, path: str, *, make_parent_dirs: bool) -> Storage:
        """Return the storage of a new, empty repository directory at the absolute `path`.

        Raises AlreadyExists (a repository is there, or in a parent directory), PathAlreadyExists,
        ParentPathDoesNotExist, PathPermissionDenied (spec: repository-format.md section 1, rpc.md section 3.1).
        """


def random_suffix() -> str:
    """Return a part of a name that no file has."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(8))


def demand_small(size: int, most: int | None, name: str) -> None:
    """Raise StorageError with EFBIG if the file `name` of `size` bytes has more than `most`; None allows any size."""
    if most is not None and size > most:
        raise StorageError(errno.EFBIG, f"larger than {most} bytes", name)
