"""The last COMMIT, and what proves that there was one when it is damaged.

Borg forgets a transaction whose COMMIT has rotted, and the next writer deletes it (spec: repository-format.md section
10). But index.N is written after the COMMIT of transaction N: where it is whole, N was committed.
"""

from __future__ import annotations

from ..errors import CheckNeeded
from ..format.entry import COMMIT_ENTRY
from ..format.segment import COMMIT_SEGMENT_SIZE
from ..reporting import Reporter
from ..storage.base import Storage
from .caches import CACHE_ERRORS, CacheFiles
from .log import SegmentLog


class LastCommit:
    """`damaged`: the segment of the last COMMIT if that is damaged, as far as was looked, else None."""

    def __init__(self, storage: Storage, log: SegmentLog, caches: CacheFiles, reporter: Reporter) -> None:
        self._storage = storage
        self._log = log
        self._caches = caches
        self._reporter = reporter
        self.damaged: int | None = None

    def is_proved(self, transaction: int, committed: int) -> bool:
        """Return whether `transaction`, of which there is an index but no sound COMMIT, was committed: the index is
        whole, and the segments are there: the COMMIT's own, and those in which the index has objects after the last
        sound COMMIT, `committed`. Who goes back to an earlier transaction removes them by hand.
        """
        if self.damaged == transaction:
            return True
        if not self._log.size(transaction):
            return False
        try:
            later = self._caches.vouched_segments(transaction, after=committed)
        except CACHE_ERRORS:
            return False
        if not all(self._log.size(segment) for segment in later):
            return False
        from ..events.maintenance import CommitDamaged

        self._reporter.report(CommitDamaged(transaction))
        self.damaged = transaction
        return True

    def restore(self) -> None:
        """Write the damaged COMMIT, if any, anew; its segment cannot have held anything else, or a check is needed.

        Raises CheckNeeded, StorageError.
        """
        if self.damaged is None:
            return
        if self._log.size(self.damaged) > COMMIT_SEGMENT_SIZE:
            raise CheckNeeded(self._storage.location)
        from ..events.maintenance import CommitRestored

        self._log.rewrite(self.damaged, iter([memoryview(COMMIT_ENTRY)]))
        self._reporter.report(CommitRestored(self.damaged))
        self.damaged = None
