"""A host with rules and records of its own: nothing is deleted outside office hours, and nothing at all of customers
whose account is frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from borg_serve_lib import AccessPolicy, Decision, Event, Reporter, Verb
from borg_serve_lib.events.session import CallRefused
from borg_serve_lib.events.transactions import TransactionCommitted

OFFICE_HOURS = range(8, 18)
DESTRUCTIVE = {Verb.DELETE, Verb.DESTROY, Verb.COMPACT, Verb.KEY_WRITE}


class HousePolicy(AccessPolicy):
    """Decides for one customer. `now`: local time; `frozen`: the customers who may only read."""

    # Taking back what the session itself has put (old checkpoints, a manifest written anew) is no deleting.
    looks_at_objects = True

    def __init__(self, customer: str, frozen: set[str], now: Callable[[], datetime] = datetime.now) -> None:
        self._customer = customer
        self._frozen = frozen
        self._now = now

    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
        if self._customer in self._frozen and verb not in (Verb.LIST, Verb.GET, Verb.KEY_READ, Verb.CHECK):
            return Decision(False, "your account is frozen: restoring works, backing up does not; please call us")
        if verb in DESTRUCTIVE and self._now().hour not in OFFICE_HOURS:
            return Decision(False, "deleting is possible from 8 to 18 o'clock only")
        return Decision(True)


class Ledger(Reporter):
    """Adds up what a customer has stored, and remembers what was refused."""

    def __init__(self) -> None:
        self.stored = 0
        self.refusals: list[str] = []

    def report(self, event: Event) -> None:
        if isinstance(event, TransactionCommitted):
            self.stored += event.bytes_added
        elif isinstance(event, CallRefused):
            self.refusals.append(f"{event.method}: {event.reason}")
