"""The reporting port: everything worth telling about a session goes through it.

An event is a frozen value; the events themselves are in `events/`, grouped so that a session loads only what it tells.
`level`, `topic` (borg's logger name) and `sentence` are class data, so that a log line, an audit log and a metric are
made from the same value. Library code calls `reporter.report(event)` and never logs.
Wording is free except where noted; no client parses it (spec: rpc.md section 7.5).
"""

from __future__ import annotations

from enum import IntEnum

from .values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import ClassVar


class Level(IntEnum):
    """Severity of an event, with the numbers of Python's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40
    CRITICAL = 50


class Event(Value):
    """Something that happened; subclasses declare what there is to know of it as fields."""

    level: ClassVar[Level] = Level.DEBUG
    topic: ClassVar[str] = "borg.repository"
    sentence: ClassVar[str] = ""

    def message(self) -> str:
        """Return the event as one line of English."""
        return self.sentence.format(**self.__dict__)


class Reporter:
    """Takes events; this one forgets them. Subclass it and override `report`, which must not raise."""

    def report(self, event: Event) -> None:
        """Take one event."""


class FanOut(Reporter):
    """Passes each event on to several reporters, in order."""

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def report(self, event: Event) -> None:
        for reporter in self._reporters:
            reporter.report(event)
