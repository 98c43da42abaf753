"""What the locks of one process hold: the part that borg's lock files cannot say.

They name host and process. A process that finds its own name in a lock directory takes it for its own, and all its
readers share one entry in the roster; a server of several connections in one process has to know which lock is meant.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Claims:
    """The locks of this process, by the path of what they hold.

    Safe among threads without a mutex: every step is one atomic operation of a dict or set. A mutex would stay locked
    for good if a signal handler raised an exception at the wrong moment.
    """

    def __init__(self, pid: Callable[[], int]) -> None:
        """`pid`: returns the id of this process; in a child made by fork, nothing is claimed."""
        self._pid = pid
        self._of = pid()
        # Of the claimants of a lock directory, in the order they came, the first has it.
        self._claimants: dict[str, dict[object, None]] = {}
        self._readers: dict[str, set[object]] = {}
        self._numbers: dict[str, dict[int, object]] = {}

    def claim(self, path: str, claimant: object) -> bool:
        """Claim the lock directory `path`; return whether `claimant` has it now. If not, the claim is void."""
        self._forget_the_parents()
        self._claimants.setdefault(path, {})[claimant] = None
        if self.owner(path) is claimant:
            return True
        self.drop(path, claimant)
        return False

    def owner(self, path: str) -> object:
        """Return who has the lock directory `path`, None if nobody."""
        self._forget_the_parents()
        return next(iter(list(self._claimants.get(path, ()))), None)

    def drop(self, path: str, claimant: object) -> None:
        """Give up the claim of `claimant` to the lock directory `path`, if it has one."""
        self._claimants.get(path, {}).pop(claimant, None)

    def sign_on(self, path: str, reader: object) -> None:
        """Count `reader` among those that the process's entry in the roster of `path` stands for."""
        self._forget_the_parents()
        self._readers.setdefault(path, set()).add(reader)

    def sign_off(self, path: str, reader: object) -> None:
        """Count `reader` no longer; the entry itself may still be there."""
        self._readers.get(path, set()).discard(reader)

    def sign_all_off(self, path: str) -> None:
        """Count no reader any longer: the roster of `path` was removed, whoever was in it."""
        self._readers.get(path, set()).clear()

    def readers(self, path: str) -> frozenset[object]:
        """Return the readers that the process's entry in the roster of `path` stands for."""
        self._forget_the_parents()
        return frozenset(self._readers.get(path, ()))

    def has_entry(self, path: str) -> bool:
        """Return whether an entry with the process's name in the roster of `path` is of this process's making."""
        self._forget_the_parents()
        return path in self._readers

    def number(self, path: str, waiting: object) -> int:
        """Return a number, the lowest from 0, that only `waiting` has of those that wait for the lock of `path`."""
        self._forget_the_parents()
        numbers = self._numbers.setdefault(path, {})
        number = next((number for number, owner in list(numbers.items()) if owner is waiting), 0)
        while numbers.setdefault(number, waiting) is not waiting:
            number += 1
        return number

    def free_number(self, path: str, waiting: object) -> None:
        """Give the number of `waiting` to others, if it has one."""
        numbers = self._numbers.get(path, {})
        for number, owner in list(numbers.items()):
            if owner is waiting:
                numbers.pop(number, None)

    def _forget_the_parents(self) -> None:
        pid = self._pid()
        if pid != self._of:
            self._of, self._claimants, self._readers, self._numbers = pid, {}, {}, {}

    def entry_removed(self, path: str) -> None:
        """Note that the process has no entry in the roster of `path` any more. The lock directory must be held."""
        self._readers.pop(path, None)
