#!/usr/bin/env python3
"""Record what real clients send and what native `borg serve` 1.4.5 answers: tests/fixtures/conversations.

Usage: scripts/record_conversations.py [TARGET]

Each client lives through the same life of one small repository; a stand-in for ssh keeps what goes over both pipes of
each connection. The conversations of a client build on each other, in the order of `conversations.json`, starting with
no repository at all. Standard library only.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from borg_clients import CLIENTS, ensure_clients

SERVER_VERSION = "1.4.5"
TARGET = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "conversations"

STAND_IN = """\
#!/bin/sh
shift
cd {account} || exit 255
printf '%s\\n' "$*" >{kept}.command
tee {kept}.requests |
    env -i HOME={account} PATH=/usr/bin:/bin LANG=C.UTF-8 BORG_SELFTEST=disabled sh -c "$*" |
    tee {kept}.replies
"""

# The name of each conversation and the client's words; before one whose name begins with "create" the source changes.
LIFE: list[tuple[str, list[str]]] = [
    ("init", ["init", "--encryption", "repokey", "REPO"]),
    ("create", ["create", "--timestamp", "2024-01-01T00:00:00", "REPO::monday", "."]),
    ("create-again", ["create", "--timestamp", "2024-01-02T00:00:00", "REPO::tuesday", "."]),
    ("list", ["list", "REPO"]),
    ("list-archive", ["list", "REPO::tuesday"]),
    ("extract", ["extract", "--dry-run", "REPO::monday"]),
    ("rename", ["rename", "REPO::monday", "first"]),
    ("recreate", ["recreate", "--exclude", "*.tmp", "REPO::tuesday"]),
    ("delete", ["delete", "REPO::first"]),
    ("create-for-prune", ["create", "--timestamp", "2024-01-03T00:00:00", "REPO::wednesday", "."]),
    ("prune", ["prune", "--keep-last", "1", "REPO"]),
    ("check", ["check", "REPO"]),
    ("check-verify-data", ["check", "--verify-data", "REPO"]),
    ("check-repair", ["check", "--repair", "REPO"]),
    ("compact", ["compact", "--threshold", "0", "REPO"]),
    ("change-passphrase", ["key", "change-passphrase", "REPO"]),
    ("with-lock", ["with-lock", "REPO", "true"]),
    ("break-lock", ["break-lock", "REPO"]),
    ("delete-repository", ["delete", "REPO"]),
]
NOT_IN_1_1 = {"compact"}


def record(version: str, client: Path, server: Path, target: Path) -> list[dict[str, str]]:
    """Record the whole life with one client; return its entries for the list of conversations."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    entries = []
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="borg-") as name:
        root = Path(name)
        for directory in ("client", "account", "source"):
            (root / directory).mkdir()
        # Archives tell the command they were made by: let it be a short one.
        (root / "borg").symlink_to(client)
        for conversation, words in LIFE:
            if version.startswith("1.1.") and conversation in NOT_IN_1_1:
                continue
            _change_source(root / "source", conversation)
            _converse(root, words, server, target / conversation)
            command = target / f"{conversation}.command"
            serve = command.read_text().strip().replace(str(server), "borg")
            command.unlink()
            entries.append({"name": conversation, "client": shlex.join(["borg", *words]), "server": serve})
    return entries


def _change_source(source: Path, conversation: str) -> None:
    chance = random.Random(conversation)
    if conversation.startswith("create"):
        for number in range(4):
            (source / f"file {number}").write_bytes(chance.randbytes(number * 100))
        (source / "noise").write_bytes(chance.randbytes(3000))
        (source / "scratch.tmp").write_text(conversation)


def _converse(root: Path, words: list[str], server: Path, kept: Path) -> None:
    stand_in = root / "stand-in"
    stand_in.write_text(STAND_IN.format(account=shlex.quote(str(root / "account")), kept=shlex.quote(str(kept))))
    stand_in.chmod(0o700)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(root / "client"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "BORG_RSH": str(stand_in),
        "BORG_REMOTE_PATH": str(server),
        "BORG_PASSPHRASE": "test",
        "BORG_NEW_PASSPHRASE": "test",
        "BORG_SELFTEST": "disabled",
        "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES",
        "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
        "BORG_RECREATE_I_KNOW_WHAT_I_AM_DOING": "YES",
    }
    command = [str(root / "borg"), *(word.replace("REPO", "ssh://host/./repo") for word in words)]
    done = subprocess.run(
        command,
        cwd=root / "source",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    for suffix in (".requests", ".replies"):
        kept.with_suffix(suffix).chmod(0o644)  # the client's umask is 077


def main(target: Path) -> int:
    """Record the conversations of every client below `target`; return the exit code."""
    clients = ensure_clients()
    entries = {
        version: record(version, clients[version], clients[SERVER_VERSION], target / version) for version in CLIENTS
    }
    (target / "conversations.json").write_text(json.dumps(entries, indent=1) + "\n")
    kept = [path for path in target.rglob("*") if path.is_file()]
    print(f"{len(kept)} files, {sum(path.stat().st_size for path in kept)} bytes, below {os.path.relpath(target)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TARGET))
