"""Who holds a lock: host, process, thread, and the names borg gives to the three (spec: repository-format.md 9.1)."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..values import Value
from .machine import kernel_boot_id, process_start

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


class Holder(Value):
    """One holder of a lock. `host`: its host id; `pid`: on that host; `thread`: 0 with every borg seen."""

    host: str
    pid: int
    thread: int

    @property
    def lock_name(self) -> str:
        """The name of its file in the lock directory, e.g. `vm@3281355014145.16841-0` (thread in hex)."""
        return f"{self.host}.{self.pid}-{self.thread:x}"


def parse_lock_name(name: str) -> Holder | None:
    """Return the holder that the file `name` of a lock directory stands for, None if it is no lock's name.

    Split at the last `-`, then at the last `.`: a host id may contain both.
    """
    front, _, thread = name.rpartition("-")
    host, _, pid = front.rpartition(".")
    if not host or not (pid.isascii() and pid.isdecimal()) or not thread or not _HEX_DIGITS.issuperset(thread):
        return None
    return Holder(host, int(pid), int(thread, 16))


class Identity:
    """Under which name this process takes its locks. Nothing is computed before the first lock is taken."""

    def __init__(
        self,
        borg_host_id: str | None = None,
        *,
        user: str = "",
        client: str = "",
        pid: Callable[[], int] = os.getpid,
        read_boot_id: Callable[[], str] = kernel_boot_id,
    ) -> None:
        """`borg_host_id`: the value of BORG_HOST_ID, None or empty if unset. `pid`: asked anew for every lock.

        `user`, `client`: for which account and from which address, "" if unknown; others who wait for a lock are told.
        `read_boot_id`: returns what no other start of a kernel has, "" if that is unknown.
        """
        self.pid = pid
        self.user = user
        self.client = client
        self._borg_host_id = borg_host_id
        self._read_boot_id = read_boot_id
        self._host: str | None = None
        self._boot_id: str | None = None
        self._started: float | None = None

    @property
    def host(self) -> str:
        """The host id of this machine, computed once."""
        if self._host is None:
            self._host = default_host_id(self._borg_host_id)
        return self._host

    @property
    def boot_id(self) -> str:
        """The id of the running kernel, read once; "" if unknown."""
        if self._boot_id is None:
            self._boot_id = self._read_boot_id()
        return self._boot_id

    @property
    def started(self) -> float:
        """When this process began, in seconds since the epoch, found out once; 0.0 if unknown."""
        if self._started is None:
            self._started = process_start()
        return self._started

    def settle(self) -> None:
        """Find all this out now: a process that is confined later on cannot, or would come to other results."""
        _ = self.host, self.boot_id, self.started

    def holder(self) -> Holder:
        """Return the holder that a lock taken now belongs to."""
        return Holder(self.host, self.pid(), 0)


def default_host_id(borg_host_id: str | None) -> str:
    """Return `borg_host_id` (the value of BORG_HOST_ID) unless it is unset or empty, else `<fqdn>@<node id>`.

    It has to be what a native borg on the same machine computes, or neither will see that the other's locks are stale.
    The node id is `uuid.getnode()`, which gives the same number to processes of one machine only where it finds a
    hardware address; set BORG_HOST_ID where there is none, or where pythons built differently serve one repository.
    """
    if borg_host_id:
        return borg_host_id
    return f"{_canonical_host_name()}@{_node_id()}"


def _node_id() -> int:
    # What uuid.getnode() tries first, without uuid and what that imports: 2.5 of 35 ms of start-up.
    try:
        import _uuid  # type: ignore[import-not-found]  # typeshed has no stub

        if getattr(_uuid, "has_stable_extractable_node", True):
            return int.from_bytes(_uuid.generate_time_safe()[0][-6:], "big")
    except (ImportError, AttributeError, TypeError):
        pass
    import uuid

    return uuid.getnode()


def _canonical_host_name() -> str:
    """Return the first canonical name that the resolver has for this host, its plain name if there is none."""
    # The C half of `socket`: same functions, but no selectors and no address family enums (saves 2.5 ms of start-up).
    import _socket

    name = _socket.gethostname()
    # A str would load the idna codec (0.7 ms), which leaves an ASCII name as it is.
    host = name.encode() if name.isascii() else name
    try:
        found = _socket.getaddrinfo(host, None, 0, _socket.SOCK_DGRAM, 0, _socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return name
    return next((canonical for _, _, _, canonical, _ in found if canonical), name)
