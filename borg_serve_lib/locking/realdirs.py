"""Directories beside a repository's own files, never through a symbolic link: who may write to a repository may have
put one there that leads out of it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def opened_directory(path: str) -> Iterator[int]:
    """Return a context with a descriptor of a directory, for listdir and dir_fd. Raises OSError for all else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
