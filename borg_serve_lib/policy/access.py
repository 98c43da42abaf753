"""What a client may do with a repository it may reach: one decision per call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum

from ..values import Value


class Verb(Enum):
    """What a call does, as far as rights are concerned."""

    LIST = "list"
    GET = "get"
    PUT = "put"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    KEY_READ = "key-read"
    KEY_WRITE = "key-write"
    CHECK = "check"
    REPAIR = "repair"
    COMPACT = "compact"
    BREAK_LOCK = "break-lock"
    CREATE = "create"
    DESTROY = "destroy"


class Decision(Value):
    """Whether a call may go on; if not, `reason` is what the client is told: one line."""

    allowed: bool
    reason: str = ""


ALLOWED = Decision(True)


class AccessPolicy(ABC):
    """Decides what one connection may do. Subclass it to bring your own rules."""

    looks_at_objects: bool = False
    """Whether it matters what is known of an object: then OVERWRITE is told from PUT, and what this session has put
    itself counts as PUT whatever is done with it; a first key counts as PUT, too. If not, looking that up is saved.
    """

    @abstractmethod
    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
        """Return whether `verb` is allowed. `object_id`: the 32 bytes of the object it is about, where there is one.

        It is asked for each call, so it must be quick; it must not raise.
        """


class AllOf(AccessPolicy):
    """What all of several policies allow; the first that does not gives the reason."""

    def __init__(self, *policies: AccessPolicy) -> None:
        self._policies = policies
        self.looks_at_objects = any(policy.looks_at_objects for policy in policies)

    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
        for policy in self._policies:
            decision = policy.decide(verb, object_id)
            if not decision.allowed:
                return decision
        return ALLOWED


class AllowAll(AccessPolicy):
    """Everything is allowed, as with `borg serve`."""

    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:  # noqa: ARG002 - the port's signature
        return ALLOWED
