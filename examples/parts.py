"""Each of the four parts by itself: forced commands, paths, locks, the dispatcher."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgpack

from borg_serve_lib import (
    ClientLog,
    FileLockManager,
    MemoryLockManager,
    MemoryProvider,
    PathPolicy,
    ServeOptions,
    UsageError,
    open_repository,
    parse_serve_arguments,
    resolve_options,
    resolve_path,
)
from borg_serve_lib.policy.access import AllowAll
from borg_serve_lib.rpc.dispatcher import Dispatcher
from borg_serve_lib.rpc.services import Services
from borg_serve_lib.rpc.session import Session
from borg_serve_lib.wire.calls import Call


def forced_command(line: str, asked_for: str) -> str:
    """What becomes of a client's command under a line of authorized_keys."""
    forced = parse_serve_arguments(line.split())
    assert isinstance(forced, ServeOptions)
    try:
        options = resolve_options(forced, asked_for)
    except UsageError as refusal:
        return str(refusal)
    return f"served below {', '.join(options.restrict_to_paths)}, logging from {options.log_level.name.lower()}"


def is_allowed(tree: str, asked_for: bytes) -> bool:
    """Whether a client of one tree may use a path; no disk is looked at but for symlinks."""
    policy = PathPolicy(restrict_to_paths=(os.path.realpath(tree),))
    resolved = resolve_path(
        asked_for, base_dir="/home/backup", cwd="/home/backup", expand_user=lambda path: path, realpath=os.path.realpath
    )
    return policy.allows(resolved)


def who_holds(repository: Path) -> list[str]:
    """Take a repository's lock as a maintenance script would, and look who holds it."""
    with FileLockManager.of_this_machine().exclusive(str(repository), wait=60) as lock:
        return [f"{owner.mode.value}, {owner.verdict.value}" for owner in lock.owners()]


def dispatched(*calls: tuple[str, dict[str, object]]) -> list[object]:
    """Have calls carried out, and return the answers: no server, no connection, no bytes to be taken apart."""
    storages, locks = MemoryProvider(), MemoryLockManager()
    log = ClientLog(lambda line: None, now=lambda: 0.0)
    services = Services(
        resolve_path=os.fsdecode,
        open_repository=lambda path, request: open_repository(path, request, storages=storages, locks=locks),
        access=AllowAll(),
        reporter=log,
        client_log=log,
    )
    dispatcher = Dispatcher(Session(services))
    try:
        return [_answer(dispatcher, *call) for call in calls]
    finally:
        dispatcher.close()


def _answer(dispatcher: Dispatcher, method: str, arguments: dict[str, object]) -> object:
    reply = dispatcher.reply_to(Call(msgpack.packb(1), method, arguments, named=True))
    told = msgpack.unpackb(b"".join(reply), raw=True)
    return told.get(b"r", told.get(b"exception_class"))


if __name__ == "__main__":
    print(forced_command("--restrict-to-path /srv/alice", "borg serve --info"))
    print(forced_command("--restrict-to-path /srv/alice", "rm -rf /"))
    print(is_allowed("/srv/alice", b"/srv/alice/laptop"), is_allowed("/srv/alice", b"/srv/alice/../bob"))
    with tempfile.TemporaryDirectory() as directory:
        print(who_holds(Path(directory)))
    print(dispatched(("open", {"path": b"/laptop", "create": True, "exclusive": True}), ("__len__", {})))
