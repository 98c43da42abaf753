"""Repositories in directories of the file system.

Source: spec, repository-format.md sections 1, 3.3, 16.4 and 19.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import (
    AlreadyExists,
    DoesNotExist,
    FileExists,
    FileMissing,
    InvalidRepository,
    NoSpace,
    NotPermitted,
    ParentPathDoesNotExist,
    PathAlreadyExists,
    PathPermissionDenied,
    StorageError,
)
from .base import Buffer, DirectoryEntry, Patch, Reader, Storage, StorageProvider, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from typing import Final

_ERRORS: Final = {
    errno.ENOENT: FileMissing,
    errno.EEXIST: FileExists,
    errno.EACCES: NotPermitted,
    errno.EPERM: NotPermitted,
    errno.EROFS: NotPermitted,
    errno.ENOSPC: NoSpace,
    errno.EDQUOT: NoSpace,
}

_README_LOOKED_AT: Final = 100
_COPY_LENGTH: Final = 1 << 30
_BLOCK: Final = 1 << 20
_FILE_MODE: Final = 0o666
_DIRECTORY_MODE: Final = 0o777


def storage_error(error: OSError, name: str) -> StorageError:
    """Return our error for one of the system's, about the file `name` of a repository."""
    number = error.errno or 0
    return _ERRORS.get(number, StorageError)(number, error.strerror or type(error).__name__, name)


class FilesystemReader(Reader):
    """An open file."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._map: mmap.mmap | None = None
        self._view: memoryview | None = None

    @property
    def size(self) -> int:
        try:
            return os.fstat(self._descriptor).st_size
        except OSError as error:
            raise storage_error(error, self._name) from None

    def read_at(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor, length, offset)
            while 0 < len(data) < length:
                more = os.pread(self._descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise storage_error(error, self._name) from None
        return data

    def map(self) -> memoryview:
        import mmap

        if self._view is None:
            try:
                if not self.size:
                    return memoryview(b"")
                self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
            except OSError as error:
                raise storage_error(error, self._name) from None
            self._view = memoryview(self._map)
        return self._view

    def will_need(self, offset: int, length: int) -> None:
        _advise(self._descriptor, offset, length, "POSIX_FADV_WILLNEED")

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._view is not None:
            self._view.release()
        if self._map is not None:
            self._map.close()
        os.close(self._descriptor)
        self._descriptor = -1


class FilesystemWriter(Writer):
    """A new file. Each write is one system call, and readers see it at once."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self.position = 0

    def write(self, *parts: Buffer) -> None:
        try:
            written = os.writev(self._descriptor, parts)
        except OSError as error:
            raise storage_error(error, self._name) from None
        size = sum(map(len, parts))
        self.position += written
        if written < size:
            self._write_rest(parts, written)

    def _write_rest(self, parts: tuple[Buffer, ...], written: int) -> None:
        """Go on after a write that was cut short by a signal or a full disk: the next one tells which."""
        for part in parts:
            rest = memoryview(part)[written:]
            written = max(0, written - len(part))
            while rest:
                try:
                    count = os.write(self._descriptor, rest)
                except OSError as error:
                    raise storage_error(error, self._name) from None
                self.position += count
                rest = rest[count:]

    def sync(self) -> None:
        _sync_data(self._descriptor, self._name)
        _advise(self._descriptor, 0, 0, "POSIX_FADV_DONTNEED")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class FilesystemPatch(Patch):
    """A copied file in memory that the system writes back."""

    def __init__(self, descriptor: int, name: str) -> None:
        import mmap

        self._descriptor = descriptor
        self._name = name
        self._map = mmap.mmap(descriptor, 0)
        self.view = memoryview(self._map)

    def sync(self) -> None:
        try:
            self._map.flush()
            os.fsync(self._descriptor)
        except OSError as error:
            raise storage_error(error, self._name) from None

    def close(self) -> None:
        if self._descriptor >= 0:
            self.view.release()
            self._map.close()
            os.close(self._descriptor)
            self._descriptor = -1


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

    def read(self, name: str) -> bytes:
        with self.open_reader(name) as reader:
            return reader.read_at(0, reader.size)

    def open_reader(self, name: str) -> FilesystemReader:
        return FilesystemReader(self._open(name, os.O_RDONLY), name)

    def create(self, name: str) -> FilesystemWriter:
        return FilesystemWriter(self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), name)

    def _open(self, name: str, flags: int) -> int:
        try:
            return os.open(self._path(name), flags | os.O_CLOEXEC, _FILE_MODE)
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
            os.mkdir(self._path(name), _DIRECTORY_MODE)
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
            raise storage_error(error, os.path.relpath(error.filename or self.location, self.location)) from None

    def close(self) -> None:
        """Nothing is held open."""


class FilesystemProvider(StorageProvider):
    """Finds and makes repositories in the file system."""

    def open(self, path: str) -> FilesystemStorage:
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise DoesNotExist(path) from None
        except PermissionError:
            raise PathPermissionDenied(path) from None
        except OSError as error:
            raise storage_error(error, "") from None
        if not stat.S_ISDIR(status.st_mode):
            raise InvalidRepository(path)
        return FilesystemStorage(path)

    def create(self, path: str, *, make_parent_dirs: bool) -> FilesystemStorage:
        try:
            _demand_free_path(path)
            if make_parent_dirs:
                os.makedirs(os.path.dirname(path), _DIRECTORY_MODE, exist_ok=True)
            if not os.path.isdir(path):
                os.mkdir(path, _DIRECTORY_MODE)
        except FileNotFoundError:
            raise ParentPathDoesNotExist(path) from None
        except PermissionError:
            raise PathPermissionDenied(path) from None
        except NotADirectoryError:
            raise PathAlreadyExists(path) from None
        except OSError as error:
            raise storage_error(error, "") from None
        return FilesystemStorage(path)


def _demand_free_path(path: str) -> None:
    """Raise AlreadyExists or PathAlreadyExists, or an OSError, if no repository can be made at `path`."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        pass
    else:
        if _is_repository(path):
            raise AlreadyExists(path)
        if not stat.S_ISDIR(status.st_mode) or os.listdir(path):
            raise PathAlreadyExists(path)
    parent = os.path.dirname(path)
    while parent != path:
        if _is_repository(parent):
            raise AlreadyExists(parent)
        path, parent = parent, os.path.dirname(parent)


def _is_repository(path: str) -> bool:
    from ..format.config import is_repository_readme

    try:
        with open(f"{path}/README", "rb") as readme:
            return is_repository_readme(readme.read(_README_LOOKED_AT))
    except OSError:
        return False


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


def _sync_data(descriptor: int, name: str) -> None:
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise storage_error(error, name) from None


def _advise(descriptor: int, offset: int, length: int, advice: str) -> None:
    """Tell the system what will be needed; it may not care."""
    try:
        os.posix_fadvise(descriptor, offset, length, getattr(os, advice))
    except (OSError, AttributeError):
        return
