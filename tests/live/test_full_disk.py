"""A small disk, filled by a real client: nothing is lost, and deleting and compacting make it usable again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .stage import Stage

CLIENTS = ["1.1.18", "1.2.4", "1.4.5"]
DISK = 24 << 20
ARCHIVE = 3 << 20


@pytest.fixture
def stage(clients: dict[str, Path], client: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage with its repository on a file system of its own, which takes root to mount."""
    stage = Stage(tmp_path, clients[client], forced=False)
    disk = stage.repository.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk], check=True)
    yield stage
    subprocess.run(["umount", "--lazy", disk], check=True)


def back_up(stage: Stage, name: str, size: int = ARCHIVE) -> str | None:
    """Back up something new; return what the client says if it fails."""
    file = stage.root / "something new"
    file.write_bytes(os.urandom(size))
    process = stage.start("create", "--compression", "none", f"REPO::{name}", str(file), remote=True)
    _, said = process.communicate()
    return said.decode() if process.returncode else None


def fill(stage: Stage) -> tuple[list[str], str]:
    """Back up until it fails; return the archives, and what the client said at last."""
    archives: list[str] = []
    while (failure := back_up(stage, f"archive-{len(archives)}")) is None:
        archives.append(f"archive-{len(archives)}")
    return archives, failure


def free(stage: Stage) -> int:
    status = os.statvfs(stage.repository)
    return status.f_bavail * status.f_frsize


@pytest.mark.parametrize("left", [None, 64 << 10, 0], ids=["as it is", "64 KiB left", "not a block left"])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_full_disk_is_emptied_with_the_means_of_borg(stage: Stage, client: str, left: int | None) -> None:
    stage.remote("init", "--encryption", "none", "REPO")
    archives, failure = fill(stage)
    assert len(archives) >= 4
    assert "No space left" in failure or "Insufficient free space" in failure
    stage.assert_sound()
    if left is not None:
        (stage.repository.parent / "something of others").write_bytes(bytes(free(stage) - left))
    stage.remote("extract", "--dry-run", f"REPO::{archives[-1]}")
    for archive in archives[:3]:
        stage.remote("delete", f"REPO::{archive}")
    if client != "1.1.18":
        stage.remote("compact", "REPO")
    assert free(stage) > 2 * ARCHIVE
    assert back_up(stage, "after", size=1 << 20) is None
    stage.assert_sound()
    listed = stage.remote("list", "--short", "REPO").out.decode().split()
    assert listed == [*archives[3:], "after"]
    stage.remote("extract", "--dry-run", "REPO::after")
