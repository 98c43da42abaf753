"""Confining a server process to what its restrictions allow."""

from __future__ import annotations

import os

from ..errors import ConfinementImpossible
from .base import Allowance, Confinement
from .interpreter import interpreter_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def confine_process(confinement: Confinement, trees: Sequence[str], *, writable: bool, strictly: bool) -> Sequence[str]:
    """Give up all access to files outside `trees`, but to what Python needs to run; return what is left of the trees.

    `trees`: resolved paths, existing or not. For one that does not exist the nearest directory above it is left, since
    nothing can be allowed for a path alone; if `strictly`, that is refused. `writable`: whether they may be changed.
    Raises ConfinementImpossible.
    """
    reachable = reachable_trees(trees, strictly=strictly)
    allowances = [Allowance(path, writable) for path in reachable]
    readable = interpreter_files(not_above=reachable)
    confinement.confine([*allowances, *(Allowance(path, writable=False) for path in readable)])
    return reachable


def reachable_trees(trees: Sequence[str], *, strictly: bool) -> list[str]:
    """Return what confine_process leaves of `trees`. Raises ConfinementImpossible."""
    reachable = [_existing(tree, strictly) for tree in trees]
    if "/" in reachable:
        raise ConfinementImpossible("clients are allowed everything, so there is nothing to confine the server to")
    return reachable


def _existing(tree: str, strictly: bool) -> str:
    path = tree
    while not os.path.exists(path):
        path = os.path.dirname(path)
    if strictly and path != tree:
        raise ConfinementImpossible(f"{tree} does not exist, and only what does can be allowed; make that directory")
    return path
