"""Commands that are run for events: they may do what they like."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from borg_serve_lib.sinks.hook import Hook

from .support import ALICE, COMMITTED, SESSION


class Run:
    def __init__(self, command: str, *, time_limit: float = 30, count: int = 1) -> None:
        self.complaints: list[str] = []
        hook = Hook(command, time_limit=time_limit, complain=self.complaints.append)
        begun = time.monotonic()
        for _ in range(count):
            hook.for_peer(ALICE).report(COMMITTED)
        self.reported_in = time.monotonic() - begun
        hook.close()


def test_a_command_gets_each_event_as_a_line_of_json_in_order(tmp_path: Path) -> None:
    hook = Hook(f"cat >> '{tmp_path}/out'")
    for event in SESSION:
        hook.report(event)
    hook.close()
    told = [json.loads(line)["event"] for line in (tmp_path / "out").read_text().splitlines()]
    assert told == [
        "session-opened",
        "repository-opened",
        "call-refused",
        "transaction-committed",
        "session-closed",
    ]


def test_a_command_that_fails_or_is_not_there_is_complained_of() -> None:
    assert Run("exit 3").complaints == ["the command 'exit 3' failed with status 3"]
    assert Run("/no/such/program").complaints == ["the command '/no/such/program' failed with status 127"]


def test_a_command_that_reads_nothing_is_fine() -> None:
    assert Run("true", count=20).complaints == []


def test_a_command_that_hangs_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    run = Run(f"(sleep 2; touch '{tmp_path}/late') & sleep 60", time_limit=0.5)
    assert run.complaints == [
        f"the command \"(sleep 2; touch '{tmp_path}/late') & sleep 60\" took longer than 0.5 seconds: killed"
    ]
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def test_what_a_command_leaves_running_does_not_outlive_it(tmp_path: Path) -> None:
    assert Run(f"(sleep 1; touch '{tmp_path}/late') > /dev/null 2>&1 &").complaints == []
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()


def test_at_the_end_of_a_session_nothing_runs_any_longer_than_one_command_may(tmp_path: Path) -> None:
    begun = time.monotonic()
    run = Run(f"echo >> '{tmp_path}/runs'; sleep 0.6; touch '{tmp_path}/late'; sleep 60", time_limit=1, count=150)
    assert time.monotonic() - begun < 10
    started = len((tmp_path / "runs").read_text())
    left_out = [complaint for complaint in run.complaints if "was not run" in complaint]
    assert [re.findall(r"for (\d+) event", complaint) for complaint in left_out] == [[str(150 - started)]]
    (tmp_path / "late").unlink(missing_ok=True)
    time.sleep(1.5)
    assert len((tmp_path / "runs").read_text()) == started < 5
    assert not (tmp_path / "late").exists()


def test_nobody_waits_for_a_command_and_a_flood_is_cut_off(tmp_path: Path) -> None:
    complaints: list[str] = []
    hook = Hook(f"echo >> '{tmp_path}/runs'; sleep 0.02", complain=complaints.append)
    for _ in range(10_000):
        hook.report(COMMITTED)
    hook.close()
    started = len((tmp_path / "runs").read_text())
    assert 100 <= started <= 400
    assert sum(int(re.findall(r"was not run for (\d+) event", told)[0]) for told in complaints) == 10_000 - started


def test_a_hook_without_events_starts_nothing() -> None:
    Hook("exit 1").close()
