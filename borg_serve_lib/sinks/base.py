"""A sink: a reporter that makes a record of each event and puts it somewhere."""

from __future__ import annotations

import time
from abc import abstractmethod

from ..reporting import Event, Peer, Reporter
from .record import record_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .record import Record


class Sink(Reporter):
    """Takes the events of any number of sessions, in any thread, and never raises because of one.

    `for_peer` returns a reporter whose records name the session; `Server` asks for it.
    """

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds since 1970."""
        self._now = now

    def report(self, event: Event) -> None:
        self.take(event, Peer())

    def for_peer(self, peer: Peer) -> Reporter:
        return _OfPeer(self, peer)

    def take(self, event: Event, peer: Peer) -> None:
        """Write the record of an event in the session of `peer`, if it is one to be recorded."""
        if event.is_recorded:
            self.write(record_of(event, peer, self._now()))

    @abstractmethod
    def write(self, record: Record) -> None:
        """Put one record where it belongs. It must not raise, and not wait for anybody."""

    def close(self) -> None:
        """Finish what was begun. Nothing is written afterwards."""


class _OfPeer(Reporter):
    def __init__(self, sink: Sink, peer: Peer) -> None:
        self._sink = sink
        self._peer = peer

    def report(self, event: Event) -> None:
        self._sink.take(event, self._peer)
