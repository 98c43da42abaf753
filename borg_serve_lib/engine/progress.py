"""How far a long operation is, told in steps."""

from __future__ import annotations

from ..reporting import Reporter


class ProgressMeter:
    """Counts the parts of a long operation and reports whenever another `step` percent are done.

    `operation`: borg's message id; `text`: a format string that takes the percentage (spec: repository-format.md
    section 17.2, rpc.md section 7.3).
    """

    def __init__(self, reporter: Reporter, operation: str, text: str, *, total: int, step: float) -> None:
        self._reporter = reporter
        self._operation = operation
        self._text = text
        self._total = total
        self._step = step
        self._current = 0
        self._next = 0.0

    def advance(self) -> None:
        """The next part is being worked on: what is told is how much was done before it, as borg does."""
        percent = self._current * 100 / self._total
        self._current += 1
        if percent < self._next:
            return
        from ..events.maintenance import Progress

        self._next += self._step
        text = self._text.format(percent)
        self._reporter.report(Progress(self._operation, self._current, self._total, text))

    def finish(self) -> None:
        """The operation has ended, with or without success."""
        from ..events.maintenance import ProgressFinished

        self._reporter.report(ProgressFinished(self._operation))
