"""Where repositories in the file system are found and made.

Source: spec, repository-format.md section 1, rpc.md section 3.1.
"""

from __future__ import annotations

import os
import stat

from ..errors import (
    AlreadyExists,
    DoesNotExist,
    InvalidRepository,
    ParentPathDoesNotExist,
    PathAlreadyExists,
    PathPermissionDenied,
    StorageError,
)
from ..format.config import is_left_by_creation, is_repository_readme
from .base import StorageProvider
from .files import storage_error
from .filesystem import DIRECTORY_MODE, FilesystemStorage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

_README_LOOKED_AT: Final = 100


class FilesystemProvider(StorageProvider):
    """Finds and makes repositories in the file system."""

    def __init__(self, trees: Sequence[str] = ("/",)) -> None:
        """`trees`: absolute paths free of symlinks. Whether a new repository would lie in another one is not looked for
        above them; that it lies below them is for the path policy to see to.
        """
        self._trees = trees

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
            self._demand_free_path(path)
            if make_parent_dirs:
                os.makedirs(os.path.dirname(path), DIRECTORY_MODE, exist_ok=True)
            if not os.path.isdir(path):
                os.mkdir(path, DIRECTORY_MODE)
        except FileNotFoundError:
            raise ParentPathDoesNotExist(path) from None
        except PermissionError:
            raise PathPermissionDenied(path) from None
        except NotADirectoryError:
            raise PathAlreadyExists(path) from None
        except OSError as error:
            raise storage_error(error, "") from None
        return FilesystemStorage(path)

    def _demand_free_path(self, path: str) -> None:
        """Raise AlreadyExists or PathAlreadyExists, or an OSError, if no repository can be made at `path`."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISDIR(status.st_mode):
                raise PathAlreadyExists(path)
            if not _is_empty_or_unfinished(path):
                raise (AlreadyExists if _is_repository(path) else PathAlreadyExists)(path)
        for parent in self._parents(path):
            if _is_repository(parent):
                raise AlreadyExists(parent)

    def _parents(self, path: str) -> Iterator[str]:
        """Yield the directories above `path` that lie in a tree or are one, the nearest first."""
        while path not in self._trees and path != "/":
            path = os.path.dirname(path)
            yield path


def _is_empty_or_unfinished(path: str) -> bool:
    """Return whether nothing is there but what a creation that was cut short leaves: borg's users have to remove it."""
    names = os.listdir(path)
    return not names or (
        all(map(is_left_by_creation, names)) and ("data" not in names or not os.listdir(f"{path}/data"))
    )


def _is_repository(path: str) -> bool:
    try:
        return is_repository_readme(FilesystemStorage(path).head("README", _README_LOOKED_AT))
    except StorageError:
        return False
