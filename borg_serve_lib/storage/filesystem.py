"""Repositories in directories of the file system.

Source: spec, repository-format.md sections 3.3, 16.4 and 19.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import StorageError
from .base import Buffer, DirectoryEntry, Storage, demand_small, random_suffix
from .files import FilesystemPatch, FilesystemReader, FilesystemScratch, FilesystemWriter, storage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

_COPY_LENGTH: Final = 1 << 30
_BLOCK: Final = 1 << 20
_FILE_MODE: Final = 0o666
_KEPT_BY_ITS_PARENT: Final = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EROFS)
DIRECTORY_MODE: Final = 0o777


class FilesystemStorage(Storage):
    """A repository directory. `location`: its absolute path."""

    def __init__(self, path: str) -> None:
        self.location = path

    def _path(self, name: str) -> str:
        return f"{self.location}/{name}" if name else self.location

    # --- looking

    def entries(self, directory: str = "") -> list[DirectoryEntry]:
        try:
            with os.scandir(self._path(directory)) as found:
                return [DirectoryEntry(entry.name, entry.is_dir()) for entry in found]
        except OSError as error:
            raise storage_error(error, directory) from None

    def size(self, name: str) -> int | None:
        try:
            status = os.stat(self._path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, name) from None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def link_count(self, name: str) -> int:
        try:
            return os.stat(self._path(name)).st_nlink
        except OSError as error:
            raise storage_error(error, name) from None

    def free_space(self) -> int | None:
        try:
            status = os.statvfs(self.location)
        except OSError as error:
            raise storage_error(error, "") from None
        return status.f_bavail * status.f_frsize

    # --- reading and writing

    def read(self, name: str, most: int | None = None) -> bytes:
        with self.open_reader(name) as reader:
            demand_small(reader.size, most, name)
            return reader.read_at(0, reader.size)

    def head(self, name: str, length: int) -> bytes:
        """Return at most the first `length` bytes of a file. Raises StorageError."""
        with self.open_reader(name) as reader:
            return reader.read_at(0, length)

    def open_reader(self, name: str) -> FilesystemReader:
        descriptor = self._open(name, os.O_RDONLY)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(errno.EINVAL, "not a regular file", name)
        return FilesystemReader(descriptor, name)

    def create(self, name: str) -> FilesystemWriter:
        return FilesystemWriter(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), name)

    def _open(self, name: str, flags: int) -> int:
        try:
            # Without O_NONBLOCK a pipe in the place of a file would be waited for.
            return os.open(self._path(name), flags | os.O_CLOEXEC | os.O_NONBLOCK, _FILE_MODE)
        except OSError as error:
            raise storage_error(error, name) from None

    def create_copy(self, source: str, name: str) -> FilesystemPatch:
        self.remove(name)
        origin = self._open(source, os.O_RDONLY)
        try:
            target = self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                _copy(origin, target)
                # Every block is the copy's own from here on: writing to the mapping cannot run out of space.
                os.posix_fallocate(target, 0, os.fstat(target).st_size)
                return FilesystemPatch(target, name)
            except OSError as error:
                os.close(target)
                self.remove(name)
                raise storage_error(error, name) from None
        finally:
            os.close(origin)

    def create_scratch(self, parts: Iterable[Buffer]) -> FilesystemScratch:
        name = "scratch"
        descriptor = self._open_unnamed()
        try:
            # Written, not only made that long: what is written over it later needs no room.
            writer = FilesystemWriter(descriptor, name)
            for part in parts:
                writer.write(part)
            return FilesystemScratch(descriptor, name)
        except BaseException:
            os.close(descriptor)
            raise

    def _open_unnamed(self) -> int:
        try:
            return os.open(self.location, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except (OSError, AttributeError):  # not on every file system, nor on every system
            name = _scratch_name()
            descriptor = self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                self.remove(name)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def append(self, name: str, data: bytes) -> None:
        self._write_to(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, data)

    def overwrite(self, name: str, data: bytes) -> None:
        self._write_to(name, os.O_WRONLY, data, sync=True)

    def _write_to(self, name: str, flags: int, data: bytes, *, sync: bool = False) -> None:
        writer = FilesystemWriter(self._open(name, flags), name)
        try:
            writer.write(data)
            if sync:
                writer.sync()
        finally:
            writer.close()

    # --- names

    def rename(self, old: str, new: str) -> None:
        try:
            os.replace(self._path(old), self._path(new))
        except OSError as error:
            raise storage_error(error, old) from None

    def link(self, old: str, new: str) -> None:
        try:
            os.link(self._path(old), self._path(new))
        except OSError as error:
            raise storage_error(error, old) from None

    def remove(self, name: str) -> None:
        path = self._path(name)
        try:
            try:
                os.unlink(path)
            except OSError as error:
                if error.errno != errno.ENOSPC or os.stat(path).st_nlink > 1:
                    raise
                # File systems that write anew what they change (btrfs) need room even to unlink.
                os.truncate(path, 0)
                os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, name) from None

    def make_directory(self, name: str) -> None:
        try:
            os.mkdir(self._path(name), DIRECTORY_MODE)
        except FileExistsError:
            return
        except OSError as error:
            raise storage_error(error, name) from None

    def remove_directory(self, name: str) -> bool:
        try:
            os.rmdir(self._path(name))
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            if error.errno != errno.ENOENT:
                raise storage_error(error, name) from None
        return True

    def sync_directory(self, name: str = "") -> None:
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            # EINVAL: the file system knows no such thing.
            if error.errno != errno.EINVAL:
                raise storage_error(error, name) from None

    def destroy(self) -> None:
        import shutil

        # Without its config it is no repository any more, whatever happens to the rest.
        self.remove("config")
        try:
            shutil.rmtree(self.location)
        except OSError as error:
            name = os.path.relpath(error.filename or self.location, self.location)
            # An empty directory may stay: a mount point, or what a confined process may change the content of alone.
            if name == "." and error.errno in _KEPT_BY_ITS_PARENT and not os.listdir(self.location):
                return
            raise storage_error(error, name) from None

    def close(self) -> None:
        """Nothing is held open."""


def _scratch_name() -> str:
    """Return the name of a file that the next commit removes if it is left: an index that is none."""
    return f"index.{random_suffix()}.tmp"


def _copy(origin: int, target: int) -> None:
    """Copy a file inside the kernel, where possible without moving a byte."""
    try:
        while os.copy_file_range(origin, target, _COPY_LENGTH):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        while block := os.read(origin, _BLOCK):
            view = memoryview(block)
            while view:
                view = view[os.write(target, view) :]
