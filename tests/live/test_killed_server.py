"""The server is killed or told to end at random moments of real runs: native borg finds the repository sound, and
backups go on.
"""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from borg_serve_lib.storage.places import FilesystemProvider

from .stage import Stage

PARTS = {"KILL": 5, "TERM": 2}
STATUSES = {"KILL": "137 ", "TERM": "143 "}
KILLS = 40
"""In each part."""

CLIENT = "1.4.5"
COMMANDS = {
    "create": ("create", "--compression", "none", "--checkpoint-interval", "1", "REPO::{now}", "{folder}"),
    "prune": ("prune", "--keep-last", "1", "REPO"),
    "compact": ("compact", "--threshold", "0", "REPO"),
}


class Killing(Stage):
    """A stage whose next servers get a signal after some seconds."""

    def __init__(self, root: Path, client: Path, signal: str) -> None:
        self._signal = signal
        self._life = root / "life of a server"
        self.let_live()
        super().__init__(root, client, forced=False)
        text = self.stand_in.read_text()
        life = shlex.quote(str(self._life))
        # The server itself is to be killed, not a shell around it.
        self.stand_in.write_text(text.replace(' sh -c "$*"', f' $(cat {life}) sh -c "exec $*"'))

    def kill_after(self, seconds: float) -> None:
        self._life.write_text(f"timeout --foreground --preserve-status --signal {self._signal} {seconds:.4f}")

    def let_live(self) -> None:
        self._life.write_text("")


def write_folder(folder: Path, chance: random.Random) -> None:
    """Change a few files of many."""
    for _ in range(6):
        (folder / str(chance.randrange(24))).write_bytes(chance.randbytes(chance.randrange(1, 400_000)))


def words(command: str, folder: Path, now: str) -> list[str]:
    return [word.format(folder=folder, now=now) for word in COMMANDS[command]]


def run_time(stage: Stage, command: str, folder: Path, now: str) -> float:
    """Return how long a run takes that nobody disturbs."""
    begun = time.monotonic()
    stage.remote(*words(command, folder, now))
    return time.monotonic() - begun


@pytest.mark.parametrize(("signal", "part"), [(signal, part) for signal in PARTS for part in range(PARTS[signal])])
def test_a_killed_server_leaves_a_sound_repository(
    signal: str, part: int, clients: dict[str, Path], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(part)
    stage = Killing(tmp_path, clients[CLIENT], signal)
    folder = tmp_path / "folder"
    folder.mkdir()
    stage.remote("init", "--encryption", "none", "REPO")
    storage = FilesystemProvider().open(str(stage.repository))
    config = storage.read("config").replace(b"= 524288000", b"= 300000").replace(b"dir = 1000", b"dir = 10")
    storage.replace("config", config)
    for number in range(3):
        write_folder(folder, chance)
        stage.remote(*words("create", folder, f"first-{number}"))
    lasts = {command: run_time(stage, command, folder, "measured") for command in COMMANDS}
    killed = number = 0
    while killed < KILLS:
        number += 1
        command = chance.choice([*COMMANDS])
        write_folder(folder, chance)
        stage.kill_after(chance.uniform(0.02, lasts[command] / 2))  # the other half is the client's start
        stage.statuses.unlink()
        process = stage.start(*words(command, folder, f"killed-{number}"), remote=True)
        said = process.communicate()[1].decode()
        assert "Traceback (most recent call last)" not in said.replace("Remote: ", "")
        status = stage.statuses.read_text()
        if signal == "TERM":
            assert not list(stage.repository.glob("lock*"))
        if status.startswith("0 "):
            continue  # it had ended before
        assert status.startswith(STATUSES[signal])
        killed += 1
        stage.let_live()
        stage.native("check", "REPO")
        stage.remote(*words("create", folder, f"next-{number}"))
        if chance.random() < 0.3:
            stage.remote(*words("prune", folder, ""))
            stage.remote(*words("compact", folder, ""))
    stage.assert_sound()
    newest = stage.remote("list", "--short", "--last", "1", "REPO").out.decode().strip()
    target = tmp_path / "restored"
    target.mkdir()
    stage.remote("extract", f"REPO::{newest}", cwd=target)
    restored = target / folder.relative_to("/")
    assert {file.name: file.read_bytes() for file in restored.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }
    record_property(f"servers that got SIG{signal}", KILLS)
