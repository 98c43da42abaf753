"""The modes of `--permissions`: which of them allows what, in one table.

The names are those of Borg 2. What this session has put itself may be read, replaced and taken back by whoever may put:
clients do so with the checkpoints of a backup.
"""

from __future__ import annotations

from ..errors import UsageError
from ..limits import MANIFEST_ID
from .access import ALLOWED, AccessPolicy, AllowAll, Decision, Verb
from .option_values import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ALL: Final = "all"
NO_DELETE: Final = "no-delete"
WRITE_ONLY: Final = "write-only"
READ_ONLY: Final = "read-only"
MODES: Final = (ALL, NO_DELETE, WRITE_ONLY, READ_ONLY)

_ALLOWED_IN: Final[dict[Verb, tuple[str, ...]]] = {
    Verb.LIST: (NO_DELETE, READ_ONLY),
    Verb.GET: (NO_DELETE, READ_ONLY),
    Verb.PUT: (NO_DELETE, WRITE_ONLY),
    Verb.OVERWRITE: (),
    Verb.DELETE: (),
    Verb.KEY_READ: (NO_DELETE, WRITE_ONLY, READ_ONLY),
    Verb.KEY_WRITE: (),
    Verb.CHECK: (NO_DELETE, READ_ONLY),
    Verb.REPAIR: (),
    Verb.COMPACT: (),
    Verb.BREAK_LOCK: (),
    Verb.CREATE: (NO_DELETE, WRITE_ONLY),
    Verb.DESTROY: (),
}
"""Verb -> modes other than `all` that allow it."""

_MANIFEST_ALLOWED_IN: Final[dict[Verb, tuple[str, ...]]] = {
    # Each backup reads the list of archives and writes it anew.
    Verb.GET: (WRITE_ONLY,),
    Verb.OVERWRITE: (NO_DELETE, WRITE_ONLY),
}

_MEANING: Final = {
    Verb.LIST: "listing objects",
    Verb.GET: "reading backed up data",
    Verb.PUT: "writing",
    Verb.OVERWRITE: "replacing data of earlier backups",
    Verb.DELETE: "deleting",
    Verb.KEY_READ: "reading the key",
    Verb.KEY_WRITE: "replacing the key",
    Verb.CHECK: "checking",
    Verb.REPAIR: "repairing",
    Verb.COMPACT: "compacting",
    Verb.BREAK_LOCK: "breaking locks",
    Verb.CREATE: "creating repositories",
    Verb.DESTROY: "deleting the repository",
}


class Permissions(AccessPolicy):
    """The policy of one mode other than `all`."""

    looks_at_objects = True

    def __init__(self, mode: str) -> None:
        """`mode`: one of MODES. Raises UsageError."""
        self._mode = permissions_mode(mode)

    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
        if _allows(self._mode, verb):
            return ALLOWED
        if object_id == MANIFEST_ID and self._mode in _MANIFEST_ALLOWED_IN.get(verb, ()):
            return ALLOWED
        return Decision(False, f"{_MEANING[verb]} is not permitted here (permissions: {self._mode})")


def allowed_verbs(mode: str) -> list[Verb]:
    """Return what a mode allows, whatever the object."""
    return [verb for verb in Verb if _allows(mode, verb)]


def allowed_for_manifest(mode: str) -> list[Verb]:
    """Return what a mode allows for the manifest and for no other object."""
    return [verb for verb, modes in _MANIFEST_ALLOWED_IN.items() if mode in modes]


def keeps_everything(mode: str) -> bool:
    """Return whether a mode that writes keeps whatever was committed, as append-only does."""
    return mode in (NO_DELETE, WRITE_ONLY)


def _allows(mode: str, verb: Verb) -> bool:
    return mode == ALL or mode in _ALLOWED_IN[verb]


def permissions_mode(text: str) -> str:
    """Return `text` if it names a mode. Raises UsageError."""
    if text not in MODES:
        raise UsageError(f"{shown(text)} is no kind of permissions; write one of {', '.join(MODES)}")
    return text


def policy_of(mode: str) -> AccessPolicy:
    """Return the policy of a mode. Raises UsageError for what is none."""
    return AllowAll() if mode == ALL else Permissions(mode)
