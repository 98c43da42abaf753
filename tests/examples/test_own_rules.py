"""A host's own rules and records, with a real client."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from tests.live.stage import Stage

from .support import EXAMPLES, load_example

SERVER = """
import os, sys
sys.path.insert(0, {examples!r})
import borg_serve_lib
from borg_serve_lib.server import account_home
from datetime import datetime
from own_rules import HousePolicy, Ledger

ledger = Ledger()
options = borg_serve_lib.ServeOptions()
homes = borg_serve_lib.Homes.of({{}}, is_root=False, account_home=account_home)
status = borg_serve_lib.serve_process(
    options,
    original_command=None,
    homes=homes,
    access=HousePolicy("alice", {frozen!r}, now=lambda: datetime(2026, 11, 24, {hour})),
    reporter=ledger,
)
with open({ledger!r}, "a") as file:
    print(ledger.stored, *ledger.refusals, sep="; ", file=file)
sys.exit(status)
"""


class House:
    """One customer of a host with rules of its own, at some hour."""

    def __init__(self, stage: Stage, root: Path) -> None:
        self._stage = stage
        self._program = root / "server.py"
        self.ledger = root / "ledger"
        self.at(12)
        self.borg("init", "-e", "none", "REPO")
        (root / "letter").write_text("dear diary")
        self._letter = str(root / "letter")

    def at(self, hour: int, frozen: frozenset[str] = frozenset()) -> None:
        self._program.write_text(
            SERVER.format(examples=str(EXAMPLES), frozen=set(frozen), hour=hour, ledger=str(self.ledger))
        )

    def borg(self, *words: str, code: int = 0) -> str:
        return self._stage.remote(*words, code=code).err

    def create(self, archive: str, code: int = 0) -> str:
        return self.borg("create", f"REPO::{archive}", self._letter, code=code)


@pytest.fixture
def house(tmp_path: Path, clients: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("BORG_LIVE_SERVER", f"{sys.executable} {tmp_path / 'server.py'}")
    return House(Stage(tmp_path, clients["1.4.5"], forced=True), tmp_path)


def test_backups_are_made_at_any_time_and_deleted_in_office_hours(house: House) -> None:
    house.at(3)
    house.create("night")
    said = house.borg("delete", "REPO::night", code=2)
    assert "deleting is possible from 8 to 18 o'clock only" in said
    assert "Traceback" not in said
    house.at(9)
    house.borg("delete", "REPO::night")
    sessions = house.ledger.read_text().splitlines()
    assert int(sessions[1].partition(";")[0]) > 300
    assert "deleting is possible" in sessions[2]


def test_a_frozen_customer_restores_and_does_nothing_else(house: House) -> None:
    house.create("one")
    house.at(12, frozenset({"alice"}))
    assert "your account is frozen" in house.create("two", code=2)
    house.borg("extract", "--stdout", "REPO::one")


def test_unit_tests_of_a_policy_of_ones_own_run() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_policy.py"]
    done = subprocess.run(words, cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("..... ")


def test_each_part_works_by_itself(tmp_path: Path) -> None:
    parts = load_example("parts")
    assert parts.forced_command("--restrict-to-path /srv/alice", "borg serve --info") == (
        "served below /srv/alice, logging from info"
    )
    assert "is refused" in parts.forced_command("--restrict-to-path /srv/alice", "rm -rf /")
    assert parts.is_allowed("/srv/alice", b"/srv/alice/laptop")
    assert not parts.is_allowed("/srv/alice", b"/srv/alice/../bob")
    assert parts.who_holds(tmp_path) == ["exclusive, alive"]
    opened, count, missing = parts.dispatched(
        ("open", {"path": b"/laptop", "create": True, "exclusive": True}), ("__len__", {}), ("get", {"id": bytes(32)})
    )
    assert len(opened) == 32
    assert (count, missing) == (0, b"ObjectNotFound")


def test_the_clock_of_the_house_policy_is_the_local_one() -> None:
    policy = load_example("own_rules").HousePolicy("alice", set())
    assert isinstance(policy._now(), datetime)
