"""A sink: a reporter that makes a record of each event and puts it somewhere."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import Counter

from ..limits import MAX_RECORDS_OF_A_KIND
from ..reporting import Event, Peer, Reporter
from .record import event_name, record_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from .record import Record

_ALWAYS: Final = ("session-opened", "session-closed", "transaction-committed")
"""Kinds of which each is recorded: two that come once, and one that costs its client more than the host."""
_ENDS: Final = ("session-closed", "check-finished", "check-finished-with-errors")


class Sink(Reporter):
    """Takes the events of any number of sessions, in any thread, and never raises because of one.

    `for_peer` returns a reporter whose records name the session; `Server` asks for it. Of each kind of event a session
    has MAX_RECORDS_OF_A_KIND records, and one that counts the others.
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
    """The records of one session: of each kind no more than a disk can bear, however often a client repeats itself.

    What is left out is counted by kind, and told before the end of the session or of a check.
    """

    def __init__(self, sink: Sink, peer: Peer) -> None:
        self._sink = sink
        self._peer = peer
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def report(self, event: Event) -> None:
        if not event.is_recorded:
            return
        name = event_name(type(event))
        if name not in _ALWAYS:
            with self._lock:
                self._counts[name] += 1
                if self._counts[name] > MAX_RECORDS_OF_A_KIND:
                    return
        if name in _ENDS:
            self._tell_what_was_left_out()
        self._sink.take(event, self._peer)

    def _tell_what_was_left_out(self) -> None:
        most = MAX_RECORDS_OF_A_KIND
        with self._lock:
            counts = {name: count - most for name, count in self._counts.items() if count > most}
            self._counts.subtract(counts)
        if counts:
            from ..events.session import EventsOmitted

            self._sink.take(EventsOmitted(counts), self._peer)
