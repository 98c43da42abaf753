"""What the host should know and clients must not: to syslog, where each host keeps it already."""

from __future__ import annotations

from .reporting import Event, Reporter
from .wire.loglines import HOST_ONLY_TOPIC

_NAME = "borg-serve"


class HostLog(Reporter):
    """Writes internal failures, with their details, to syslog. Nothing is loaded or opened before there is one."""

    def report(self, event: Event) -> None:
        if event.topic != HOST_ONLY_TOPIC:
            return
        import syslog

        syslog.openlog(_NAME, syslog.LOG_PID)
        for line in event.message().splitlines():
            syslog.syslog(syslog.LOG_ERR, line)
