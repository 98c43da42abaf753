"""Many clients at once: all get their turn, and the repository is sound afterwards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .stage import Stage

VERSIONS = ["1.1.18", "1.2.4", "1.4.5"]
PATIENCE = 240
"""Seconds that all of them together may take; one alone takes about one."""


@pytest.fixture
def stage(tmp_path: Path, clients: dict[str, Path]) -> Stage:
    """A repository with one archive."""
    stage = Stage(tmp_path, clients["1.4.5"], forced=False, settings={"BORG_HOST_ID": "proof@1"})
    (tmp_path / "folder").mkdir()
    for number in range(20):
        (tmp_path / "folder" / str(number)).write_bytes(os.urandom(50_000))
    stage.remote("init", "--encryption", "none", "REPO")
    stage.remote("create", "REPO::first", "folder")
    return stage


def start(stage: Stage, client: Path, number: int, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a client as if it was another machine's, with a cache of its own."""
    home = stage.root / f"home-{number}"
    home.mkdir(exist_ok=True)
    location = f"ssh://host{stage.repository}"
    return subprocess.Popen(
        [client, *(argument.replace("REPO", location) for argument in arguments)],
        env={**stage.environment, "HOME": str(home), "BORG_BASE_DIR": str(home)},
        cwd=stage.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def all_end_well(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        said = process.communicate(timeout=PATIENCE)[1].decode()
        assert process.returncode == 0, said


def test_eight_writers_wait_for_each_other(stage: Stage, clients: dict[str, Path]) -> None:
    all_end_well(
        [
            start(
                stage, clients[VERSIONS[number % 3]], number, "--lock-wait", str(PATIENCE), "create",
                f"REPO::writer-{number}", "folder",
            )
            for number in range(8)
        ]
    )  # fmt: skip
    stage.assert_sound()
    names = stage.remote("list", "--short", "REPO").out.decode().split()
    assert sorted(names) == ["first", *(f"writer-{number}" for number in range(8))]


def test_readers_share_while_a_writer_waits_its_turn(stage: Stage, clients: dict[str, Path]) -> None:
    def reader(number: int) -> subprocess.Popen[bytes]:
        return start(
            stage, clients[VERSIONS[number % 3]], number, "--lock-wait", str(PATIENCE), "extract", "--dry-run",
            "REPO::first",
        )  # fmt: skip

    readers = [reader(number) for number in range(4)]
    writer = start(stage, clients["1.4.5"], 9, "--lock-wait", str(PATIENCE), "create", "REPO::second", "folder")
    later = [reader(number) for number in range(4, 8)]
    all_end_well([writer, *readers, *later])
    stage.assert_sound()
    assert not [name for name in os.listdir(stage.repository) if name.startswith("lock")]
