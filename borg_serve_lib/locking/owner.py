"""Whose a lock is: the record in its lease file, and how waiting clients are told of the owner."""

from __future__ import annotations

from enum import Enum

from ..values import Value
from .base import LockMode
from .identity import Holder
from .jsontext import render_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RIVAL = "one reader waits to write already, and each would wait for the other: try again when it is done"
"""Advice to a reader that cannot write because it is the second one that wants to."""

_LONGEST_TEXT = 200
_TIME = "%Y-%m-%d %H:%M:%S UTC"


class Verdict(Enum):
    """What is known of whether the owner of a lock lives."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class OwnerRecord(Value):
    """What the owner of a lock says of itself.

    `started`, `since`: when its process began and when it asked for the lock, in seconds since the epoch, 0.0 if
    unknown. `boot`: the id of the kernel it runs on, "" if unknown. `device`: the number of the file system in which it
    has its lease; `local`: whether that is a disk of its own machine. `mode`: how it has the lock, or "waiting".
    `activity`: what takes it long just now, "" for nothing special. `user`, `client`: for which account and from which
    address, "" if unknown.
    """

    started: float = 0.0
    since: float = 0.0
    boot: str = ""
    device: int = -1
    local: bool = False
    mode: str = ""
    activity: str = ""
    user: str = ""
    client: str = ""


class Owner(Value):
    """One owner of a lock. `verdict`: whether it lives; `record`: None for owners that left none, as native borg's."""

    holder: Holder
    mode: LockMode
    verdict: Verdict
    record: OwnerRecord | None = None


def render_record(record: OwnerRecord) -> bytes:
    """Return `record` as one line of JSON."""
    pairs = (f'"{name}": {_render(value)}' for name, value in record.__dict__.items())
    return f"{{{', '.join(pairs)}}}\n".encode()


def _render(value: str | float) -> str:
    if isinstance(value, str):
        return render_text(value[:_LONGEST_TEXT])
    return str(value).lower() if isinstance(value, bool) else repr(value)


def parse_record(data: bytes) -> OwnerRecord | None:
    """Return the record in the bytes of a lease file, None if there is none. Never raises, whatever the bytes are."""
    import json

    try:
        document = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    fields = OwnerRecord().__dict__
    return OwnerRecord().evolve(**{
        name: _shown(value) if isinstance(value, str) else value
        for name, value in document.items()
        # `type`, not isinstance: true is no number here.
        if name in fields and type(value) is type(fields[name])
    })  # fmt: skip


def describe(owners: Sequence[Owner], advice: str = "") -> str:
    """Return what somebody who waited in vain for `owners` is to know, as the middle of a sentence; "" for none.

    `advice`: what to do, if it is not what their lives decide.
    """
    if not owners:
        return ""
    told = _describe_one(owners[0])
    if len(owners) > 1:
        told += f", and {len(owners) - 1} more"
    if advice:
        return f"{told}; {advice}"
    if all(owner.verdict is Verdict.ALIVE for owner in owners):
        return f"{told}; alive: wait until it is done, with a longer --lock-wait"
    return f"{told}; nobody here can say whether it is alive: if it is not, borg break-lock removes the lock"


def _describe_one(owner: Owner) -> str:
    kind = "a writer" if owner.mode is LockMode.EXCLUSIVE else "a reader"
    words = [f"held by {kind}, process {owner.holder.pid} on {_shown(owner.holder.host)}"]
    record = owner.record
    if record is not None:
        words += [f"for {record.user}"] if record.user else []
        words += [f"from {record.client}"] if record.client else []
        words += [f"since {moment}"] if (moment := _moment(record.since)) else []
        words += [f"busy with {record.activity}"] if record.activity else []
    return ", ".join(words)


def _moment(seconds: float) -> str:
    import time

    try:
        return time.strftime(_TIME, time.gmtime(seconds)) if seconds > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""


def _shown(text: str) -> str:
    """Return `text` fit for somebody's terminal: others can write lease files and names, too."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_TEXT])
