"""What happens to locks."""

from __future__ import annotations

from ..reporting import Event, Level


class StaleLockRemoved(Event):
    """A lock whose owner is dead was removed (spec: repository-format.md section 9.4)."""

    level = Level.WARNING
    topic = "borg.locking"
    sentence = "Killed stale lock {name}."
    name: str


class StaleRosterEntryRemoved(Event):
    """A roster entry whose owner is dead was dropped (spec: repository-format.md section 9.4)."""

    level = Level.WARNING
    topic = "borg.locking"
    sentence = "Removed stale {kind} roster lock for host {host} pid {pid} thread {thread}."
    kind: str
    host: str
    pid: int
    thread: int


class MalformedLock(Event):
    """A name in the lock directory is no lock's (spec: repository-format.md section 9.4)."""

    level = Level.ERROR
    topic = "borg.locking"
    sentence = "Found malformed lock {name} in {directory}. Please check/fix manually."
    name: str
    directory: str


class LockAwaited(Event):
    """A lock is waited for, for a second by now. `mode`: `shared` or `exclusive`; `holders`: who has it, in words."""

    level = Level.INFO
    topic = "borg.locking"
    host_only = True
    sentence = "waiting for the {mode} lock {path}, held by {holders}"
    path: str
    mode: str
    holders: str


class LockObtained(Event):
    """A lock that was waited for was obtained. `seconds`: after how long."""

    level = Level.INFO
    topic = "borg.locking"
    host_only = True
    sentence = "obtained the {mode} lock {path} after {seconds:.1f} seconds"
    path: str
    mode: str
    seconds: float


class NoLease(Event):
    """A lock is held without a lease, because of `reason`: other hosts cannot see whether its owner lives."""

    level = Level.INFO
    topic = "borg.locking"
    sentence = "The repository's file system keeps no lease ({reason}): locks are judged by borg's rules alone."
    reason: str


class LockLost(Event):
    """The lock was gone when it was to be released: somebody broke it."""

    level = Level.ERROR
    topic = "borg.locking"
    sentence = "The lock of this session was removed by somebody else: {text}"
    text: str
