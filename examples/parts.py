"""Each of the four parts by itself: forced commands, paths, locks, the dispatcher."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgpack

from borg_serve_lib import (
    ClientLog,
    Connection,
    FileLockManager,
    Homes,
    MemoryLockManager,
    MemoryProvider,
    PathPolicy,
    ServeOptions,
    Server,
    UsageError,
    parse_serve_arguments,
    path_resolver,
    resolve_options,
    resolve_path,
)


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
    """Say something to a server whose repositories live in memory, as a client would; return its answers."""
    homes = Homes(None, "/", None, is_root=False, account_home=lambda name: None)
    paths = PathPolicy()
    server = Server(
        ServeOptions(),
        paths=paths,
        resolver=path_resolver(homes, "/", paths),
        storages=MemoryProvider(),
        locks=MemoryLockManager(),
    )
    connection = server.connect(ClientLog(lambda line: None, now=lambda: 0.0))
    return [_answer(connection, number, *call) for number, call in enumerate(calls)]


def _answer(connection: Connection, number: int, method: str, arguments: dict[str, object]) -> object:
    request = msgpack.packb({"i": number, "m": method, "a": arguments})
    connection.get_buffer()[: len(request)] = request
    connection.buffer_updated(len(request))
    reply = msgpack.unpackb(b"".join(next(iter(connection))), raw=True)
    return reply.get(b"r", reply.get(b"exception_class"))


if __name__ == "__main__":
    print(forced_command("--restrict-to-path /srv/alice", "borg serve --info"))
    print(forced_command("--restrict-to-path /srv/alice", "rm -rf /"))
    print(is_allowed("/srv/alice", b"/srv/alice/laptop"), is_allowed("/srv/alice", b"/srv/alice/../bob"))
    with tempfile.TemporaryDirectory() as directory:
        print(who_holds(Path(directory)))
    print(dispatched(("open", {"path": "/laptop", "create": True, "exclusive": True}), ("__len__", {})))
