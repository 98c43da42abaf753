"""What the host should know: to syslog (and so to journald), where each host keeps it already."""

from __future__ import annotations

from ..reporting import Event, Level, Reporter

_NAME = "borg-serve"


def tell_host(line: str, level: Level = Level.ERROR) -> None:
    """Write one line to syslog."""
    import syslog

    priorities = {
        Level.DEBUG: syslog.LOG_DEBUG,
        Level.INFO: syslog.LOG_INFO,
        Level.WARNING: syslog.LOG_WARNING,
        Level.ERROR: syslog.LOG_ERR,
        Level.CRITICAL: syslog.LOG_CRIT,
    }
    syslog.openlog(_NAME, syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(priorities[level], line)


class HostLog(Reporter):
    """Writes internal failures, with their details, to syslog. Nothing is loaded or opened before there is one."""

    def report(self, event: Event) -> None:
        if not event.host_only or event.level < Level.ERROR:
            return
        for line in event.message().splitlines():
            tell_host(line)
