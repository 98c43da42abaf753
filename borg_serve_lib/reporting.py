"""The reporting port: everything worth telling about a session goes through it.

An event is a frozen value; the events themselves are in `events/`, grouped so that a session loads only what it tells.
What they have in common is class data, so that a log line, an audit log and a metric are made from the same value.
Library code calls `reporter.report(event)` and never logs.
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
    """Something that happened; subclasses declare what there is to know of it as fields.

    `level`, `topic` (borg's logger name), `sentence`: of its line in a log. `host_only`: whether the client must not
    hear of it. `is_recorded`: whether it belongs into the host's records; steps and details do not, nor do its
    `unrecorded_fields`.
    """

    level: ClassVar[Level] = Level.DEBUG
    topic: ClassVar[str] = "borg.repository"
    sentence: ClassVar[str] = ""
    host_only: ClassVar[bool] = False
    is_recorded: ClassVar[bool] = True
    unrecorded_fields: ClassVar[tuple[str, ...]] = ()

    def message(self) -> str:
        """Return the event as one line of English."""
        return self.sentence.format(**self.__dict__)


class Peer(Value):
    """Whom a session serves. `session`: a name of its own for each session; `user`: the account; `address`: where the
    client is; `client`: what the host calls it. Each is "" where it is not known.
    """

    session: str = ""
    user: str = ""
    address: str = ""
    client: str = ""


class Reporter:
    """Takes events; this one forgets them. Subclass it and override `report`, which must not raise."""

    def report(self, event: Event) -> None:
        """Take one event."""

    def for_peer(self, peer: Peer) -> Reporter:  # noqa: ARG002 - for those who tell sessions apart
        """Return what takes the events of one session; by default they all go to the same reporter."""
        return self


class FanOut(Reporter):
    """Passes each event on to several reporters, in order."""

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def report(self, event: Event) -> None:
        for reporter in self._reporters:
            reporter.report(event)

    def for_peer(self, peer: Peer) -> FanOut:
        return FanOut([reporter.for_peer(peer) for reporter in self._reporters])
