"""What each kind of `--permissions` lets real clients do, as the table in docs/security.md says it.

With WRITE_PERMISSIONS_TABLE in the environment, and one process (pytest -n 0), the outcomes are written into the table;
what stands behind `yes` or `no` there is left as it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

from ..conftest import load_script
from .stage import TIMEOUT, Stage

SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"
KINDS = ("no-delete", "write-only", "read-only")
VERSIONS = ["1.1.18", "1.2.4", "1.4.5"]
SLOWLY = ("--remote-ratelimit", "200", "-C", "none", "--chunker-params", "10,23,15,4095")
COMMANDS: dict[str, tuple[str, ...]] = {
    "create": ("create", "REPO::new", "folder"),
    "create with checkpoints": ("create", *SLOWLY, "--checkpoint-interval", "1", "REPO::newer", "folder"),
    "list": ("list", "REPO"),
    "extract": ("extract", "--dry-run", "REPO::first"),
    "check": ("check", "REPO"),
    "check --repair": ("check", "--repair", "REPO"),
    "rename": ("rename", "REPO::first", "renamed"),
    "delete": ("delete", "REPO::first"),
    "prune": ("prune", "--keep-last", "1", "REPO"),
    "compact": ("compact", "REPO"),
    "key change-passphrase": ("key", "change-passphrase", "REPO"),
    "break-lock": ("break-lock", "REPO"),
    "delete repository": ("delete", "REPO"),
}


@cache
def table() -> dict[str, dict[str, str]]:
    """Return the documented outcome of each command for each kind."""
    rows = re.findall(r"^\| `borg ([^`]*)` \|(.*)\|$", SECURITY.read_text(), re.MULTILINE)
    return {
        command: dict(zip(KINDS, (cell.strip() for cell in cells.split("|")), strict=True)) for command, cells in rows
    }


def write_outcome(command: str, kind: str, *, allowed: bool) -> None:
    """Make the table say what came out."""
    (row,) = (line for line in SECURITY.read_text().splitlines() if line.startswith(f"| `borg {command}` |"))
    cells = row.split("|")
    column = 2 + KINDS.index(kind)
    cells[column] = re.sub("^ (yes|no)", " yes" if allowed else " no", cells[column])
    SECURITY.write_text(SECURITY.read_text().replace(row, "|".join(cells)))
    table.cache_clear()


def test_the_table_has_every_command() -> None:
    assert list(table()) == list(COMMANDS)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def transactions(repository: Path) -> int:
    """Return how many commits are noted, as append-only servers do."""
    noted = repository / "transactions"
    return len(noted.read_text().splitlines()) if noted.exists() else 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_real_clients_may_do_what_the_table_says(
    version: str, kind: str, clients: dict[str, Path], tmp_path: Path
) -> None:
    stage = Stage(tmp_path, clients[version], forced=True)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(6):
        (folder / str(number)).write_bytes(os.urandom(300_000))
    slow = folder / "takes seconds to send"
    stage.native("init", "--encryption", "repokey", "REPO")
    for name in ("first", "second"):
        stage.native("create", f"REPO::{name}", "folder")
    text = stage.stand_in.read_text()
    stage.stand_in.write_text(text.replace("serve --restrict", f"serve --permissions {kind} --restrict"))
    before = files(stage.repository)
    for command, arguments in COMMANDS.items():
        if command == "compact" and version == "1.1.18":
            continue
        (folder / "0").write_bytes(os.urandom(300_000))
        if command == "create with checkpoints":
            slow.write_bytes(os.urandom(800_000))
        commits = transactions(stage.repository)
        process = stage.start(*arguments, remote=True, env={"BORG_NEW_PASSPHRASE": "another"})
        said = process.communicate()[1].decode()
        if os.environ.get("WRITE_PERMISSIONS_TABLE"):
            write_outcome(command, kind, allowed=process.returncode == 0)
        allowed = table()[command][kind].startswith("yes")
        assert (process.returncode == 0) is allowed, f"{command}: {said}"
        if not allowed:
            assert f"is not permitted here (permissions: {kind})" in said, f"{command}: {said}"
            assert "Traceback" not in said
        if command == "create with checkpoints" and allowed:
            assert transactions(stage.repository) - commits > 2
        if kind == "read-only":
            assert files(stage.repository) == before, command
    listed = stage.native("list", "--short", "REPO").out.decode().split()
    assert listed == ["first", "second"] + ([] if kind == "read-only" else ["new", "newer"])
    stage.native("extract", "--dry-run", "REPO::first")
    stage.native("check", "REPO")


def test_a_repository_can_be_made_without_the_right_to_delete(clients: dict[str, Path], tmp_path: Path) -> None:
    stage = Stage(tmp_path, clients["1.4.5"], forced=True)
    text = stage.stand_in.read_text()
    stage.stand_in.write_text(text.replace("serve --restrict", "serve --permissions no-delete --restrict"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    stage.remote("init", "--encryption", "repokey", "REPO")
    stage.remote("create", "REPO::first", "folder")
    stage.assert_sound()


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this kernel has no FUSE, without which nothing is mounted")
def test_a_read_only_key_is_enough_to_mount(clients: dict[str, Path], tmp_path: Path) -> None:
    """With 1.2.4, Debian's: the only client here that was built to mount."""
    load_script("borg_clients").ensure_test_packages()
    stage = Stage(tmp_path, clients["1.2.4"], forced=True)
    folder, mounted = tmp_path / "folder", tmp_path / "mounted"
    folder.mkdir()
    mounted.mkdir()
    for number in range(3):
        (folder / str(number)).write_bytes(os.urandom(300_000))
    stage.native("init", "--encryption", "repokey", "REPO")
    stage.native("create", "REPO::first", "folder")
    text = stage.stand_in.read_text()
    stage.stand_in.write_text(text.replace("serve --restrict", "serve --permissions read-only --restrict"))
    before = files(stage.repository)
    client = stage.start("mount", "--foreground", "REPO", str(mounted), remote=True, env={"BORG_FUSE_IMPL": "pyfuse3"})
    try:
        while not mounted.is_mount() and client.poll() is None:
            time.sleep(0.05)
        assert files(mounted / "first" / "folder") == files(folder)
    finally:
        subprocess.run(["umount", mounted], check=False)
        said = client.communicate(timeout=TIMEOUT)[1].decode()
    assert client.returncode == 0, said
    assert "not permitted" not in said
    assert stage.statuses.read_text().startswith("0 ")
    assert files(stage.repository) == before
