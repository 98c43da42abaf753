"""`borg-serve explain` says what the server then does: both are asked, and a real session tried."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

OPTIONS = {
    "a path": ["--restrict-to-path", "{tree}/a"],
    "a path and a repository": ["--restrict-to-path", "{tree}/a", "--restrict-to-repository", "{tree}/ab"],
    "none": ["--append-only"],
    "a strict one": ["--confine", "require", "--restrict-to-path", "{tree}/a"],
    "one that cannot be kept": ["--confine", "require", "--restrict-to-path", "{tree}/missing"],
}
COMMANDS = [
    "borg serve",
    "borg serve --umask=077 --debug",
    "borg serve --restrict-to-path /",
    "FOO=1 borg serve --info",
    "/usr/bin/borg --lock-wait 5 serve",
    "borg serve --lock-wa 3",
    "borg serve --lock-wait x",
    "borg serve --nonsense",
    "borg serve 'unclosed",
    "borg create x",
    "sh -c id",
    "",
]
PATHS = [
    "{tree}/a",
    "{tree}/a/r",
    "{tree}/ab",
    "{tree}/a/../ab/x",
    "{tree}/ab/../a/x",
    "../{tree.name}/a/x",
    "{tree}/a/link/r",
    "{tree}",
    "/~nobodyhere/x",
    "/~/x",
    "relative/x",
]


def run(words: list[str], sent: bytes, command: str | None, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "SSH_ORIGINAL_COMMAND"}
    if command is not None:
        environment["SSH_ORIGINAL_COMMAND"] = command
    done = subprocess.run(
        [sys.executable, "-m", "borg_serve_cli", *words],
        input=sent,
        capture_output=True,
        env=environment,
        cwd=cwd,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return done


def is_let_in(options: list[str], command: str | None, path: str, cwd: Path) -> bool:
    """Return whether a session comes to look for a repository at `path`."""
    calls = [
        {"i": 1, "m": "negotiate", "a": {"client_data": {"client_version": [1, 4, 5, -1]}}},
        {"i": 2, "m": "open", "a": {"path": path, "create": False, "lock_wait": 0, "lock": True, "exclusive": False}},
    ]
    sent = b"".join(msgpack.packb(call, use_bin_type=False) for call in calls)
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(run(options, sent, command, cwd).stdout)
    replies = list(unpacker)
    return len(replies) == 2 and replies[1]["exception_class"] != "PathNotAllowed"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("command", "path"), [*((None, path) for path in PATHS), *((c, PATHS[1]) for c in COMMANDS)])
def test_what_is_explained_is_what_happens(options: str, command: str | None, path: str, tmp_path: Path) -> None:
    for name in ("a", "ab"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path.parent)
    words = [word.format(tree=tmp_path) for word in OPTIONS[options]]
    asked = path.format(tree=tmp_path)
    question = [*words, *([] if command is None else ["--original-command", command]), "--path", asked]
    explained = run(["explain", *question], b"", None, tmp_path)
    assert (explained.returncode == 0) is is_let_in(words, command, asked, tmp_path), explained.stdout.decode()
    assert explained.stdout
