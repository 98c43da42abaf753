"""Recovery, compaction and check, with their progress.

The sentences of check are those of spec section 17 (repository-format.md): admins look for them.
"""

from __future__ import annotations

from ..reporting import Event, Level
from ..units import format_size


class Progress(Event):
    """A long operation has come a step further.

    `operation`: borg's message id, one of `repository.check`, `repository.compact_segments`,
    `repository.replay_segments`; `current` counts from 1 to `total`; `text` is what a person is shown.
    """

    level = Level.INFO
    topic = "borg.output.progress"
    is_recorded = False
    sentence = "{text}"
    operation: str
    current: int
    total: int
    text: str


class ProgressFinished(Event):
    """A long operation has ended; nothing more is shown of it."""

    level = Level.INFO
    topic = "borg.output.progress"
    is_recorded = False
    operation: str


class IndexDamaged(Event):
    """The index is missing or does not hold; it is rebuilt from the segments."""

    level = Level.WARNING
    sentence = "Repository index missing or corrupted, trying to recover from: {reason}"
    reason: str


class IndexNotWritten(Event):
    """The index could not be written; the next session that needs it has to make it anew from the segments."""

    level = Level.WARNING
    sentence = "The index could not be written, it will have to be rebuilt: {reason}"
    reason: str


class OldIndexGaveWay(Event):
    """The disk is so full that index and hints were removed to make room; they are made anew from the segments."""

    level = Level.WARNING
    sentence = "The disk is full, index and hints were removed to make room: {reason}"
    reason: str


class CompactionPostponed(Event):
    """There was no room to move what is still needed of a segment; a later compaction will. `size`: bytes to move."""

    level = Level.WARNING
    sentence = "Not enough free space to compact segment {segment} (required: {size} bytes), it was left as it is."
    segment: int
    size: int


class HintsDamaged(Event):
    """The hints are missing or do not hold; they are rebuilt from the segments."""

    level = Level.WARNING
    sentence = "Repository hints file missing or corrupted, trying to recover: {reason}"
    reason: str


class IntegrityDataUnusable(Event):
    """The integrity file cannot vouch for a file. `reason` says why, and what follows."""

    level = Level.WARNING
    sentence = "{reason}"
    reason: str


class CommitDamaged(Event):
    """The COMMIT of the last transaction is damaged, but index and integrity data prove that it was committed."""

    level = Level.WARNING
    sentence = "The COMMIT in segment {segment} is damaged, but the index proves that the transaction was committed."
    segment: int


class CommitRestored(Event):
    """A damaged COMMIT was written anew."""

    level = Level.WARNING
    sentence = "The COMMIT in segment {segment} was written anew."
    segment: int


class TransactionsLost(Event):
    """The index speaks of a later transaction than the last one the segments hold whole."""

    level = Level.WARNING
    sentence = (
        "The commit of transaction {indexed} is damaged: the repository is read as of transaction {committed}. Make a "
        "copy of the repository before anything is written to it, if you need the later one."
    )
    committed: int
    indexed: int


class ReplayStarted(Event):
    """The index is older than the segments: their entries are read again."""

    level = Level.WARNING
    sentence = "Replaying segments. Please wait, this can take a while..."


class CompactionFinished(Event):
    """Compaction is done. `freed`: bytes by which the quota use sank."""

    level = Level.INFO
    freed: int

    def message(self) -> str:
        return f"compaction freed about {format_size(self.freed)} repository space."


class CompactedSegmentMissing(Event):
    """The hints list a segment that does not exist."""

    level = Level.WARNING
    sentence = "segment {segment} not found, but listed in compaction data"
    segment: int


class ReferenceCountWrong(Event):
    """After all its current PUTs were moved, the hints still count some in a segment."""

    level = Level.WARNING
    sentence = "Corrupted segment reference count {count} (expected 0) for segment {segment} - corrupted index or hints"
    segment: int
    count: int


class DamagedSegmentKept(Event):
    """Compaction met damage: what is whole before that was copied, the segment itself stays for a repair."""

    level = Level.WARNING
    sentence = "segment {segment} is damaged and cannot be compacted; please run borg check --repair"
    segment: int


class CheckStarted(Event):
    """A check begins."""

    level = Level.INFO
    sentence = "Starting repository check"


class CheckFailed(Event):
    """A finding of check, in words."""

    level = Level.ERROR
    sentence = "{finding}"
    finding: str


class CheckNote(Event):
    """A step of check, in words."""

    level = Level.INFO
    is_recorded = False
    sentence = "{text}"
    text: str


class CheckDetail(Event):
    """A detail of check for whoever debugs it, in words."""

    is_recorded = False
    sentence = "{text}"
    text: str


class CheckFinished(Event):
    """Check is done and all is well, `repaired` if it was not before. `mode`: `full` or `partial`."""

    level = Level.INFO
    mode: str
    repaired: bool

    def message(self) -> str:
        outcome = "errors found and repaired" if self.repaired else "no problems found"
        return f"Finished {self.mode} repository check, {outcome}."


class CheckFinishedWithErrors(Event):
    """Check is done and has found errors. `mode`: `full` or `partial`."""

    level = Level.ERROR
    sentence = "Finished {mode} repository check, errors found."
    mode: str
