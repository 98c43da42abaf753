"""What the dead have left beside lock directory and roster: leases, marks of waiting, half-made lock directories."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial

from .directory import maker_of
from .identity import parse_lock_name
from .leasefiles import LEASE_PREFIX, OBTAINABLE, LeaseFiles
from .owner import Verdict
from .precedence import WAITING_PREFIX, holder_of_mark
from .realdirs import opened_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .identity import Holder
    from .judge import Judge

_PREPARED = ("lock.exclusive.", ".tmp")


class Leftovers:
    """The leftovers in one repository. Removing them is a courtesy: what cannot be removed stays."""

    def __init__(self, files: LeaseFiles, judge: Judge) -> None:
        self._files = files
        self._judge = judge

    def clear(self, keep: frozenset[Holder]) -> None:
        """Remove what dead holders have left, but the leases of those in `keep`, whom lock files still name."""
        names = self._names()
        for name in names:
            if name.startswith(_PREPARED[0]) and name.endswith(_PREPARED[1]):
                self._clear_prepared(f"{self._files.repository}/{name}", name[len(_PREPARED[0]) : -len(_PREPARED[1])])
            else:
                self._if_dead(holder_of_mark(name), os.unlink, f"{self._files.repository}/{name}")
        # Last, because they prove that the others can go.
        for name in names:
            holder = parse_lock_name(name[len(LEASE_PREFIX) :]) if name.startswith(LEASE_PREFIX) else None
            if holder is None or holder in keep:
                continue
            with suppress(OSError), self._files.grip(holder) as state:
                if state in OBTAINABLE:
                    os.unlink(self._files.path_of(holder))

    def forget(self) -> None:
        """Remove the marks of all waiting writers, and all leases that nobody keeps, also those which prove nothing.

        For whoever knows that no owner lives. Those who do lose no more than their precedence.
        """
        for name in self._names():
            with suppress(OSError):
                if name.startswith(WAITING_PREFIX):
                    os.unlink(f"{self._files.repository}/{name}")
                elif name.startswith(LEASE_PREFIX) and (holder := parse_lock_name(name[len(LEASE_PREFIX) :])):
                    self._files.discard(holder)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._files.repository)
        except OSError:
            return []

    def _clear_prepared(self, path: str, name: str) -> None:
        with suppress(OSError):
            with opened_directory(path) as directory:
                lock_names = os.listdir(directory)
                for lock_name in lock_names:
                    remove = partial(os.unlink, dir_fd=directory)
                    self._if_dead(parse_lock_name(lock_name), remove, lock_name)
            if lock_names:
                os.rmdir(path)
            else:
                self._if_dead(maker_of(name), os.rmdir, path)

    def _if_dead(self, holder: Holder | None, remove: Callable[[str], None], path: str) -> None:
        if holder is not None:
            with suppress(OSError), self._judge.certify(holder) as verdict:
                if verdict is Verdict.DEAD:
                    remove(path)
