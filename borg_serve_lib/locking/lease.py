"""The lease behind a lock: a file that stays locked for as long as the process that has the lock lives.

A lock whose lease nobody keeps locked any more has a dead owner, whatever the host id, process id, container or number
of reboots: the kernel gives a file's lock back when the last process ends that has it. (A child made by fork counts,
until it ends or executes another program.) A lock without lease is native borg's and judged by borg's rules.
"""

from __future__ import annotations

import os
from contextlib import suppress

from ..errors import LockFailed
from ..events.locks import NoLease
from .base import NOBODY
from .inplace import overwrite
from .leasefiles import OBTAINABLE, LeaseFiles, LeaseState, flock, is_at, opened_lease
from .owner import OwnerRecord, render_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _thread
    from collections.abc import Callable
    from io import FileIO

    from ..reporting import Peer, Reporter
    from .identity import Holder, Identity

_NAMES = 64
"""How many processes may have the same host id and process id: containers that were all given one BORG_HOST_ID."""

WAITING = "waiting"
_PRECEDENCE = {"exclusive": 0, "shared": 1}

_LOOKS = 4
_BETWEEN_LOOKS = 0.01
"""Seconds. A lease that was only looked at is free again by then."""

_KEPT: set[Lease] = set()
"""Leases with users. A lock that its holder has lost sight of is his all the same until his process ends."""


class Lease:
    """The lease of this process for one repository, shared by all its locks of that repository, in any threads.

    `holder`: under which name it is held, None if it is not. `took_over`: whether it was a dead predecessor's with the
    same name, whose lock files are still to be removed; whoever has done so sets it back.
    """

    def __init__(
        self,
        files: LeaseFiles,
        identity: Identity,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        lock: Callable[[int], bool] = flock,
    ) -> None:
        """`now`: seconds since the epoch. `sleep`: takes seconds. `lock`: see flock."""
        import _thread

        self.files = files
        self.holder: Holder | None = None
        self.took_over = False
        self._identity = identity
        self._now = now
        self._sleep = sleep
        self._lock = lock
        self._users: dict[object, OwnerRecord] = {}
        self._written = b""
        self._path = ""
        self._file: FileIO | None = None
        self._creating = False
        self._local = False
        self._new_mutex = _thread.RLock
        self._mutex = self._new_mutex()
        self._mutex_of = identity.pid()

    @property
    def _descriptor(self) -> int:
        return -1 if self._file is None else self._file.fileno()

    @property
    def _guard(self) -> _thread.RLock:
        # In a child made by fork, the thread that has locked it may not exist.
        if self._mutex_of != self._identity.pid():
            self._mutex, self._mutex_of = self._new_mutex(), self._identity.pid()
        return self._mutex

    def join(self, user: object, reporter: Reporter, peer: Peer = NOBODY) -> Holder:
        """Take the lease for the lock `user`, unless another lock has done so; return as whom to take the lock.

        `reporter` is told if this disk knows no leases. `peer`: whom the lock is for. Raises LockFailed when there are
        too many of that name; call `leave` even so.
        """
        with self._guard:
            if self.holder is not None and not self.inherited:
                self._users.setdefault(user, self._record_of(peer))
                return self.holder
            self._creating = False
            self._forget()
            self._local = self.files.is_local()
            self._users = {user: self._record_of(peer)}
            _KEPT.add(self)
            holder = self._take(reporter)
            self._write()
            return holder

    def leave(self, user: object, *, orphaned: bool = False) -> None:
        """Give the lease up for the lock `user`; it ends with its last user.

        `orphaned`: lock files may still name this process; that it holds nothing, only the file can prove.
        """
        with self._guard:
            if self.inherited:
                self._users.clear()
                self._forget()
            self._users.pop(user, None)
            if self._users:
                self._write()
            else:
                _KEPT.discard(self)
                self._drop(keep_file=orphaned or self.took_over)

    @property
    def inherited(self) -> bool:
        """Whether this process is a child, made by fork, of the one that has the lease."""
        return self.holder is not None and not self.is_mine(self.holder)

    def is_mine(self, holder: Holder) -> bool:
        """Return whether `holder` is this very process, and not one that it was made from by fork."""
        return holder.pid == self._identity.pid()

    def age(self, holder: Holder) -> float:
        """Return for how many seconds `holder` has asked for its lock or had it; negative where clocks differ."""
        record = self.files.record(holder)
        return self._now() - record.since if record is not None else float("inf")

    def tell(self, user: object, mode: str, activity: str = "") -> None:
        """Note how the lock `user` is held (or "waiting"), and what takes it long just now.

        The lease has room for one: the writer, else the first reader, else the first who waits; as far as possible.
        """
        with self._guard:
            if user in self._users:
                self._users[user] = self._users[user].evolve(mode=mode, activity=activity)
                self._write()

    def users(self) -> dict[object, OwnerRecord]:
        """Return what this process's locks of the repository have told, in the order they came."""
        with self._guard:
            return {} if self.inherited else {user: self._complete(record) for user, record in self._users.items()}

    def _record_of(self, peer: Peer) -> OwnerRecord:
        identity = self._identity
        # What a host calls its client says more than an account that all keys share.
        user, client = peer.client or peer.user, peer.address
        if not user and not client:
            user, client = identity.user, identity.client
        return OwnerRecord(since=self._now(), mode=WAITING, user=user, client=client)

    def _complete(self, record: OwnerRecord) -> OwnerRecord:
        """Return `record` with what all locks of this process have in common."""
        device = os.fstat(self._descriptor).st_dev if self._descriptor >= 0 else record.device
        started, boot = self._identity.started, self._identity.boot_id
        return record.evolve(started=started, boot=boot, device=device, local=self._local)

    def _write(self) -> None:
        with suppress(OSError):
            if self._descriptor < 0 or self.inherited:
                return
            foremost = min(self._users.values(), key=lambda record: _PRECEDENCE.get(record.mode, len(_PRECEDENCE)))
            data = render_record(self._complete(foremost))
            if data != self._written:
                self._written = b""  # not known while it is being written
                overwrite(self._descriptor, data)
                self._written = data

    def _take(self, reporter: Reporter) -> Holder:
        holder = self._identity.holder()
        for thread in range(_NAMES):
            candidate = holder.evolve(thread=thread)
            if self._try(candidate, reporter):
                self.holder = candidate
                return candidate
        # To go on without a lease is to use somebody else's name: who sees that one dead would remove our lock.
        raise LockFailed(
            f"{self.files.repository}/lock",
            f"{_NAMES} processes {holder.pid} of host {holder.host} use it, or died on machines that nobody sees from "
            "here: give each machine its own BORG_HOST_ID; borg break-lock removes what the dead have left",
        )

    def _try(self, candidate: Holder, reporter: Reporter) -> bool:
        """Take the lease under that name; return whether the name may be used (with or without a lease)."""
        try:
            self._path = self.files.path_of(candidate)
        except ValueError:
            return True  # the lock directory has more to say about that
        for _ in range(_LOOKS):
            usable = self._create(reporter)
            if usable is None:
                usable = self._take_over(candidate)
            if usable is not None:
                return usable
            self._sleep(_BETWEEN_LOOKS)
        return False

    def _create(self, reporter: Reporter) -> bool | None:
        """Make the file and lock it; return True if it is ours or cannot be, None if there is one already."""
        try:
            self._creating = True
            self._file = opened_lease(self._path, os.O_CREAT | os.O_EXCL)
            self._creating = False
        except FileExistsError:
            self._creating = False
            return None
        except OSError as error:
            self._creating = False
            reporter.report(NoLease(error.strerror or str(error)))
            return True
        obstacle = self._obstacle()
        if obstacle is None:
            return True
        self._forget()
        if not obstacle:
            return None
        with suppress(OSError):
            os.unlink(self._path)
        reporter.report(NoLease(obstacle))
        return True

    def _take_over(self, candidate: Holder) -> bool | None:
        """Take the file that is there; return False if the name cannot be ours, None if it might be soon."""
        state, self._file = self.files.look(candidate)
        if state in OBTAINABLE:
            self.took_over = state is LeaseState.FREE
            return True
        return False if state in (LeaseState.UNCLEAR, LeaseState.UNREAD) else None

    def _obstacle(self) -> str | None:
        """Lock the new lease; return None if it is ours, "" if somebody was quicker, else why locks do not work."""
        try:
            if not self._lock(self._descriptor) or not is_at(self._path, self._descriptor):
                return ""
            with opened_lease(self._path) as other:
                return "a lock does not keep others out" if self._lock(other.fileno()) else None
        except OSError as error:
            return error.strerror or str(error)

    def _drop(self, *, keep_file: bool) -> None:
        with suppress(OSError):
            self._find_created()
            mine = self._descriptor >= 0 and self._lock(self._descriptor) and is_at(self._path, self._descriptor)
            if mine and not keep_file:
                os.unlink(self._path)
        self._forget()

    def _find_created(self) -> None:
        """Open the file that was created if a signal came before its descriptor was known. Raises OSError."""
        if self._creating and self._file is None:
            self._file = opened_lease(self._path)
            if os.fstat(self._descriptor).st_size:  # no, it is somebody else's
                self._forget()
        self._creating = False

    def _forget(self) -> None:
        """Close the file, which does not end the lease of a parent."""
        file, self._file = self._file, None
        self.holder, self.took_over = None, False
        self._written = b""
        if file is not None:
            file.close()
