"""The server: a host's options, its policies and its ports, composed into connections."""

from __future__ import annotations

import os
import sys

from .errors import PathNotAllowed
from .policy.access import AccessPolicy, AllOf, Verb
from .policy.homes import Homes
from .policy.paths import PathPolicy, joined, resolve_path
from .policy.permissions import READ_ONLY, keeps_everything, policy_of
from .policy.ways import Ways
from .reporting import FanOut, Peer, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .engine.repository import Repository
    from .engine.requests import OpenRequest
    from .locking.base import LockManager
    from .policy.options import ServeOptions
    from .rpc.connection import Connection
    from .storage.base import StorageProvider
    from .wire.loglines import ClientLog

    PathResolver: TypeAlias = Callable[[bytes], str]


class Server:
    """What one host serves, to whom, and how. It has no state of its own: any number of connections at once are fine.

    `options`: the quota and append-only rules of every repository. `paths`: where repositories may be. `resolver`: what
    a client's path means (see path_resolver). `storages` and `locks`: where repositories live. `access`: what clients
    may do there, of what the options permit; None for all that. `reporter`: is told what happens on all connections.
    Raises UsageError for options that cannot be enforced.
    """

    def __init__(
        self,
        options: ServeOptions,
        *,
        paths: PathPolicy,
        resolver: PathResolver,
        storages: StorageProvider,
        locks: LockManager,
        access: AccessPolicy | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._options = options
        self._paths = paths
        self._resolver = resolver
        self._storages = storages
        self._locks = locks
        permitted = policy_of(options.permissions)
        self._access = permitted if access is None else AllOf(permitted, access)
        self._reporter = reporter

    def connect(
        self, client_log: ClientLog, *, user: str = "", address: str = "", client: str = "", session: str = ""
    ) -> Connection:
        """Return a connection to one client, who reads `client_log`.

        `user`, `address`, `client`: the account, where the client is, what the host calls it: for the host's reports,
        and for those who wait for a lock of this client. `session`: what the reports call the session, "" for a name
        made up here.
        """
        from .rpc.connection import Connection
        from .rpc.services import Cancellation, Services

        cancellation = Cancellation()
        peer = Peer(session or os.urandom(6).hex(), user, address, client)
        host = Reporter() if self._reporter is None else self._reporter.for_peer(peer)
        reporter = FanOut([client_log, host])
        return Connection(
            Services(
                resolve_path=lambda raw: self._reach(raw, reporter),
                open_repository=lambda path, request: self._open(
                    path, request, reporter, peer, cancellation.demand_none
                ),
                access=self._access,
                reporter=reporter,
                client_log=client_log,
                host_reporter=host,
                cancellation=cancellation,
            )
        )

    def _reach(self, raw: bytes, reporter: Reporter) -> str:
        """Return the path that `raw` means, if clients may go there. Raises PathNotAllowed, InvalidArgument."""
        from .events.session import PathRefused, PathResolved

        shown = raw.decode("utf-8", "backslashreplace")
        resolved = ""
        try:
            resolved = self._resolver(raw)
            self._paths.check(resolved, os.fsdecode(raw))
        except PathNotAllowed:
            reporter.report(PathRefused(shown, resolved))
            raise
        reporter.report(PathResolved(shown, resolved))
        return resolved

    def _open(
        self, path: str, request: OpenRequest, reporter: Reporter, peer: Peer, interrupt: Callable[[], None]
    ) -> Repository:
        # The engine is loaded while the client digests the answer to its first call, not before that.
        from .engine.opening import HostRules, open_repository
        from .events.session import RepositoryOpened

        options = self._options
        storages = self._storages
        if options.permissions == READ_ONLY:
            from .storage.readonly import ReadOnlyProvider

            storages, request = ReadOnlyProvider(storages), request.evolve(locking=False)
        if options.max_lock_wait is not None:
            wait = options.max_lock_wait if request.lock_wait is None else min(request.lock_wait, options.max_lock_wait)
            request = request.evolve(lock_wait=wait)
        keeps_all = options.append_only or keeps_everything(options.permissions)
        compacts = self._access.decide(Verb.COMPACT).allowed
        rules = HostRules(append_only=keeps_all, compacts=compacts, storage_quota=options.storage_quota)
        repository = open_repository(
            path,
            request,
            storages=storages,
            locks=self._locks,
            rules=rules,
            reporter=reporter,
            peer=peer,
            interrupt=interrupt,
        )
        mode = "none" if not request.locking else "exclusive" if request.exclusive else "shared"
        reporter.report(RepositoryOpened(path, mode))
        return repository


def path_resolver(homes: Homes, cwd: str, paths: PathPolicy) -> PathResolver:
    """Return what resolves clients' paths on this machine, from the directory `cwd` (spec: serve-command.md section 4).

    `paths`: where clients may go; if that is restricted they are not to learn which accounts and symlinks there are
    elsewhere, and nothing there is looked at. It raises InvalidArgument for a path that no file can have,
    PathNotAllowed.
    """
    encoding = sys.getfilesystemencoding()

    def resolve(raw: bytes) -> str:
        base_dir = homes.base_dir()
        may_look_at = None
        if paths.restricts:
            starts = (cwd, joined(cwd, base_dir), *paths.names)
            may_look_at = Ways(starts, contains=paths.contains, readlink=_readlink).allow
        return resolve_path(
            raw,
            base_dir=base_dir,
            cwd=cwd,
            expand_user=homes.expand_known if paths.restricts else homes.expand,
            realpath=os.path.realpath,
            may_look_at=may_look_at,
            encoding=encoding,
        )

    return resolve


def _readlink(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None  # of a symlink that this account may not read realpath, asked later, says so


def account_home(name: str) -> str | None:
    """Return the home directory of the account `name` ("" for the process's own), None when there is none."""
    import pwd

    try:
        return (pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())).pw_dir
    except (KeyError, ValueError):
        # ValueError: a name that no account can have, such as one with undecodable bytes.
        return None
