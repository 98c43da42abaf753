"""What happens to transactions, and to the small files beside them."""

from __future__ import annotations

from ..reporting import Event, Level
from ..units import format_size


class TransactionCommitted(Event):
    """A transaction is on stable storage. `transaction`: number of its last commit segment. `added`, `overwritten`,
    `deleted`: objects. `bytes_added`: of the PUT entries written; `bytes_superseded`: of those made obsolete.
    `objects`: how many there are now; `bytes_used`: what counts for the quota now; `quota`: in bytes, 0 for none.
    """

    sentence = "committed transaction {transaction} of {path}"
    path: str
    transaction: int
    added: int
    overwritten: int
    deleted: int
    bytes_added: int
    bytes_superseded: int
    objects: int
    bytes_used: int
    quota: int


class UncommittedSegmentsRemoved(Event):
    """Segments that an interrupted transaction had left were deleted."""

    sentence = "removed {count} segment(s) of an uncommitted transaction after segment {transaction}"
    count: int
    transaction: int


class PartialTransactionRemoved(Event):
    """The disk is full: what the transaction had written was deleted at once."""

    level = Level.WARNING
    sentence = "No space left on device, cleaning up partial transaction to free space."


class QuotaStatus(Event):
    """A repository with a quota starts or commits a transaction. Both fields in bytes."""

    level = Level.INFO
    used: int
    quota: int

    def message(self) -> str:
        return f"Storage quota: {format_size(self.used)} out of {format_size(self.quota)} used."


class FreeSpaceUnknown(Event):
    """The file system does not tell its free space; the commit goes on unchecked."""

    level = Level.WARNING
    sentence = "Failed to check free space before committing: {reason}"
    reason: str


class FreeSpaceChecked(Event):
    """The free space was compared with what a commit may need. Both in bytes."""

    required: int
    available: int

    def message(self) -> str:
        return f"check_free_space: required bytes {self.required}, available bytes {self.available}"


class OldConfigLeftOver(Event):
    """An earlier change of the config was interrupted before the old one was erased; that is done now."""

    level = Level.WARNING
    sentence = "Old config file not securely erased on previous config update"


class OldConfigNotErased(Event):
    """The file system has no hard links: the old config could not be kept for erasing."""

    level = Level.WARNING
    sentence = (
        "Failed to securely erase old repository config file (hardlinks not supported). "
        "Old repokey data, if any, might persist on physical storage."
    )


class WriteSkipped(Event):
    """A small file could not be written by a session without lock, which goes on (spec: rpc.md section 3.5)."""

    level = Level.WARNING
    sentence = "{name} was not updated: {reason}"
    name: str
    reason: str
