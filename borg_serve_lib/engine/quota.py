"""The storage quota, and why a full one is no dead end.

Every PUT counts until compaction removes it, so that a client that is to free room has to write first: `borg delete`
and `borg compact` both begin with a new manifest. Native borg refuses that (spec: repository-format.md section 18.2).
Here a transaction that makes obsolete at least as much as it writes may go beyond a quota that is used up, and its
commit compacts at once, so that it ends with no more in use than it began with.
"""

from __future__ import annotations

from ..limits import MAX_ENTRY_SIZE
from .state import TransactionState

_SLACK = 2 * MAX_ENTRY_SIZE
"""Bytes that such a transaction may be ahead of itself: it is a client's word that more is to be deleted."""


def admits(quota: int, state: TransactionState, entry_size: int, old_size: int, *, compacts: bool) -> bool:
    """Return whether a PUT entry of `entry_size` bytes, for an object whose entry had `old_size` (0: none), may be
    written. `quota`: bytes, 0 for none. `compacts`: the repository is not append-only.
    """
    used = state.hints.storage_quota_use + entry_size
    if not quota or used <= quota:
        return True
    if not compacts:
        return False
    written = state.written + entry_size
    at_beginning = state.hints.storage_quota_use - state.written
    shrinks = state.superseded + old_size >= written
    return shrinks and used <= max(quota, at_beginning) + _SLACK


def is_exceeded(quota: int, state: TransactionState) -> bool:
    """Return whether more is in use than `quota` allows (0: no quota)."""
    return 0 < quota < state.hints.storage_quota_use
