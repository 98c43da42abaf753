"""Records in syslog (and so in journald)."""

from __future__ import annotations

import json

from ..reporting import Level
from .base import Sink
from .hostlog import tell_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .record import Record


class SystemLog(Sink):
    """Writes each record to syslog, as the event's name and one line of JSON."""

    def write(self, record: Record) -> None:
        rest = {name: value for name, value in record.items() if name not in ("time", "event", "level")}
        tell_host(f"{record['event']} {json.dumps(rest)}", Level[str(record.get("level", "info")).upper()])
