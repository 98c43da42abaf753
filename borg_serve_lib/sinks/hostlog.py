"""What the host should know: to syslog (and so to journald), where each host keeps it already."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from ..reporting import Event, Level, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ADDRESS: Final = "/dev/log"
_NAME: Final = "borg-serve"
_DAEMON: Final = 3 << 3
"""The facility of records (RFC 3164, section 4.1.1)."""
_PATIENCE: Final = 1.0
"""Seconds to wait for a syslog that does not keep up."""
_SEVERITIES: Final = {Level.DEBUG: 7, Level.INFO: 6, Level.WARNING: 4, Level.ERROR: 3, Level.CRITICAL: 2}


def tell_host(line: str, level: Level = Level.ERROR) -> None:
    """Write one line to syslog, through a socket of its own: the module syslog would rename the whole process there.

    Where there is no syslog, or it does not listen, nobody is told.
    """
    import socket

    text = line.replace("\0", "?").replace("\n", " ")
    head = f"<{_DAEMON | _SEVERITIES[level]}>{time.asctime()[4:19]} {_NAME}[{os.getpid()}]: "
    message = (head + text).encode("utf-8", "backslashreplace")
    # Most take datagrams; those who take a stream find the ends of messages by zero bytes.
    for kind, end in ((socket.SOCK_DGRAM, b""), (socket.SOCK_STREAM, b"\0")):
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as syslog:
            syslog.settimeout(_PATIENCE)
            syslog.connect(ADDRESS)
            syslog.sendall(message + end)
            return


class HostLog(Reporter):
    """Writes internal failures, with their details, to syslog. Nothing is loaded or opened before there is one."""

    def report(self, event: Event) -> None:
        if not event.host_only or event.level < Level.ERROR:
            return
        for line in event.message().splitlines():
            tell_host(line)
