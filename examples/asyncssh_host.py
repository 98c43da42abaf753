"""A backup host in one file: customers with their keys, one tree and one quota each; no OpenSSH, no unix accounts.

    python asyncssh_host.py customers.toml

The configuration, with paths relative to its own directory:

    listen = "127.0.0.1:2222"
    host_key = "host_key"              # ssh-keygen -t ed25519 -N "" -f host_key
    audit_log = "audit.log"

    [customers.alice]
    tree = "/srv/backups/alice"
    quota = "500G"
    keys = ["ssh-ed25519 AAAA... alice@laptop"]
    restore_keys = ["ssh-ed25519 AAAA... alice@safe"]      # these read, and change nothing

Clients say `borg init -e repokey ssh://borg@host:2222/./laptop`: what they are called does not matter, their key does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import asyncssh
import attrs

from borg_serve_lib import (
    ClientLog,
    FileLockManager,
    FilesystemProvider,
    Homes,
    PathPolicy,
    Reporter,
    ServeOptions,
    Server,
    TimeLimits,
    UsageError,
    log_to,
    path_resolver,
    resolve_options,
    serve_streams,
)
from borg_serve_lib.events.process import CommandRefused
from borg_serve_lib.locking.base import LockManager
from borg_serve_lib.policy.option_values import storage_quota
from borg_serve_lib.reporting import Peer
from borg_serve_lib.sinks.auditlog import AuditLog

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMITS = TimeLimits(idle=4 * 3600, session=24 * 3600)  # a backup of much that is unchanged is silent for hours
LOCK_WAIT = 60


@attrs.frozen
class Customer:
    """Who may do what: `options` as `borg serve` would have them."""

    name: str
    options: ServeOptions


@attrs.frozen
class Host:
    """What the configuration says. `keys`: public key in OpenSSH's format, without the comment -> customer."""

    address: str
    port: int
    host_key: Path
    audit_log: Path
    keys: dict[str, Customer]


def read_configuration(path: Path) -> Host:
    """Return what the file says, with the customers' trees made where they are missing."""
    content = tomllib.loads(path.read_text())
    address, _, port = content["listen"].rpartition(":")
    keys = {}
    for name, customer in content["customers"].items():
        tree = path.parent / customer["tree"]
        tree.mkdir(parents=True, exist_ok=True)
        options = ServeOptions(
            restrict_to_paths=(str(tree.resolve()),),
            storage_quota=storage_quota(str(customer.get("quota", 0))),
            max_lock_wait=LOCK_WAIT,
        )
        for permissions, kind in (("all", "keys"), ("read-only", "restore_keys")):
            for key in customer.get(kind, []):
                keys[without_comment(key)] = Customer(name, options.evolve(permissions=permissions))
    base = path.parent
    return Host(address, int(port), base / content["host_key"], base / content["audit_log"], keys)


def without_comment(key: str) -> str:
    return " ".join(key.split()[:2])


class Guard(asyncssh.SSHServer):
    """Lets in who has a customer's key; nothing but a session is to be had."""

    def __init__(self, keys: dict[str, Customer]) -> None:
        self._keys = keys

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        customer = self._keys.get(without_comment(key.export_public_key("openssh").decode()))
        if customer is not None:
            self._connection.set_extra_info(customer=customer)
        return customer is not None


@attrs.frozen
class Backups:
    """Serves repositories to sessions, many at a time. One lock manager and one reporter are enough for all of them."""

    locks: LockManager
    reporter: Reporter

    async def serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Serve one session: the client's command is looked at as a forced command of OpenSSH would look at it."""
        customer: Customer = process.get_extra_info("customer")
        peer = Peer(os.urandom(6).hex(), address=process.get_extra_info("peername")[0], client=customer.name)
        command = process.command or ""
        try:
            options = resolve_options(customer.options, command)
        except UsageError as error:
            self.reporter.for_peer(peer).report(CommandRefused(repr(command), error.detail))
            process.stderr.write(f"{error}\n".encode())
            process.exit(error.exit_code)
            return
        paths = PathPolicy(restrict_to_paths=options.restrict_to_paths)
        tree = options.restrict_to_paths[0]
        homes = Homes(tree, tree, None, is_root=False, account_home=lambda name: None if name else tree)
        server = Server(
            options,
            paths=paths,
            resolver=path_resolver(homes, tree, paths),
            storages=FilesystemProvider(paths.trees),
            locks=self.locks,
            reporter=self.reporter,
        )
        log = ClientLog(
            log_to(process.stderr, waiting=process.channel.get_write_buffer_size),
            level=options.log_level,
            topics=options.debug_topics,
            now=time.time,
        )
        connection = server.connect(log, address=peer.address, client=peer.client, session=peer.session)
        status = await serve_streams(connection, process.stdin, process.stdout, limits=LIMITS)
        with contextlib.suppress(OSError, asyncssh.Error):  # the client may be gone
            process.exit(status)


async def run(host: Host) -> None:
    """Serve until SIGTERM or SIGINT comes; then end all sessions in order."""
    backups = Backups(FileLockManager.of_this_machine(), AuditLog(str(host.audit_log)))
    sessions: set[asyncio.Task[None]] = set()

    def begin(process: asyncssh.SSHServerProcess[bytes]) -> None:
        session = asyncio.ensure_future(backups.serve(process))
        sessions.add(session)
        session.add_done_callback(sessions.discard)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = await asyncssh.listen(
        host.address,
        host.port,
        server_factory=lambda: Guard(host.keys),
        server_host_keys=[str(host.host_key)],
        process_factory=begin,
        encoding=None,
        keepalive_interval=30,
        keepalive_count_max=4,
        agent_forwarding=False,
        x11_forwarding=False,
        allow_scp=False,
    )
    print(f"serving {len(host.keys)} keys on port {listener.get_port()}", flush=True)
    await stop.wait()
    listener.close()
    for session in list(sessions):
        session.cancel()
    await asyncio.gather(*sessions, return_exceptions=True)


if __name__ == "__main__":
    os.umask(0o077)
    try:
        configuration = read_configuration(Path(sys.argv[1]))
    except (OSError, KeyError, ValueError, UsageError) as error:  # ValueError: no TOML
        sys.exit(f"{sys.argv[1]}: {type(error).__name__}: {error}")
    asyncio.run(run(configuration))
