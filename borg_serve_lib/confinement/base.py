"""The port: a way to give up what this process may do with files."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Allowance(Value):
    """What remains allowed. `path`: a file, or a directory and all below it; absolute. `writable`: or only read."""

    path: str
    writable: bool


class Confinement(ABC):
    """Confines the process that calls it, and all processes and threads that it starts, for good."""

    @abstractmethod
    def demand_possible(self) -> None:
        """Raise ConfinementImpossible if this machine cannot do it at all."""

    @abstractmethod
    def confine(self, allowances: Sequence[Allowance]) -> None:
        """Give up all access to files but `allowances`; what is open already stays usable.

        To be called while the process has one thread, since others may go on as before. An allowance whose path does
        not exist allows nothing. Raises ConfinementImpossible, with nothing given up.
        """
