"""An event as a record: what JSON can say of it, in one flat map.

Every record has `time` (UTC, ISO 8601), `event` and `level`; those of a session also `session` and, as far as they are
known, `user`, `address` and `client`. The rest are the event's own fields.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from ..reporting import Level
from ..wire.text import valid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from ..reporting import Event, Peer

Record = dict[str, object]

_LONGEST_TEXT: Final = 4096
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def event_name(event: type[Event]) -> str:
    """Return `transaction-committed` for TransactionCommitted."""
    return _WORD.sub("-", event.__name__).lower()


def record_of(event: Event, peer: Peer, now: float) -> Record:
    """Return the record of an event. `now`: when it happened, in seconds since 1970."""
    record: Record = {
        "time": time_text(now),
        "event": event_name(type(event)),
        "level": max(event.level, Level.INFO).name.lower(),
    }
    record.update((name, valid_text(value)) for name, value in peer.__dict__.items() if value)
    record.update(
        (name, _plain(value)) for name, value in event.__dict__.items() if name not in event.unrecorded_fields
    )
    return record


def dropped_record(following: Record, count: int) -> Record:
    """Return the record that stands for `count` ones that could not be written, before `following` in its session."""
    common = {name: following[name] for name in ("time", "session", "user", "address", "client") if name in following}
    return {"time": "", "event": "records-dropped", "level": "warning"} | common | {"count": count}


def time_text(seconds: float) -> str:
    """Return a time since 1970 as `2026-11-24T01:02:03.456+00:00`."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _plain(value: object) -> object:
    if isinstance(value, str):
        return valid_text(value[:_LONGEST_TEXT])
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
