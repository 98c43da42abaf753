"""Figures for Prometheus: they add up over processes, and are what its own parser reads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import portalocker
import pytest
from borg_serve_console import FOR_A_PERSON
from prometheus_client.parser import text_string_to_metric_families

from borg_serve_lib.errors import UsageError
from borg_serve_lib.events.maintenance import (
    CheckFailed,
    CheckFinishedWithErrors,
    CompactedSegmentMissing,
    DamagedSegmentKept,
    ReferenceCountWrong,
    TransactionsLost,
)
from borg_serve_lib.events.session import CallRefused, PathRefused, RepositoryOpened, SessionClosed
from borg_serve_lib.reporting import Event, Peer
from borg_serve_lib.sinks.metrics import Metrics, file_name

from .support import ALICE, COMMITTED, NOON, SESSION, together


def figures(directory: Path, repository: str) -> dict[str, float]:
    text = (directory / file_name(repository)).read_text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("repository") == repository
            found[sample.name.removeprefix("borg_serve_") + "".join(sample.labels.values())] = sample.value
    return found


def tell(directory: Path, *events: Event, peer: Peer = ALICE) -> None:
    metrics = Metrics(str(directory), now=lambda: NOON)
    for event in events:
        metrics.for_peer(peer).report(event)
    metrics.close()


def test_a_session_is_told_in_figures(tmp_path: Path) -> None:
    tell(tmp_path, *SESSION)
    assert figures(tmp_path, "/srv/alice") == {
        "last_commit_timestamp_seconds": int(NOON),
        "objects": 12,
        "used_bytes": 5000,
        "quota_bytes": 10_000_000,
        "transactions_total": 1,
        "objects_added_total": 3,
        "objects_deleted_total": 2,
        "added_bytes_total": 900,
        "sessions_totalcompleted": 1,
        "received_bytes_total": 1000,
        "sent_bytes_total": 200,
        "denied_totalcall": 1,
    }
    assert (tmp_path / file_name("/srv/alice")).stat().st_mode & 0o777 == 0o644


def test_counters_add_up_over_processes(tmp_path: Path) -> None:
    together(
        4,
        f"""
        from borg_serve_lib.sinks.metrics import Metrics
        from borg_serve_lib.events.session import RepositoryOpened, SessionClosed

        for _ in range(5):
            metrics = Metrics({str(tmp_path)!r})
            metrics.report(RepositoryOpened("/srv/alice", "none"))
            metrics.report(SessionClosed("/srv/alice", "", "completed", 1.5, 1000, 200, {{}}))
            metrics.close()
        """,
    )
    found = figures(tmp_path, "/srv/alice")
    assert (found["sessions_totalcompleted"], found["received_bytes_total"]) == (20, 20_000)


def test_repositories_and_sessions_without_one_have_files_of_their_own(tmp_path: Path) -> None:
    tell(tmp_path, *SESSION)
    tell(tmp_path, PathRefused("/x", "/x"), SessionClosed("", "", "killed", 1.0, 5, 6, {}), peer=Peer("other"))
    assert figures(tmp_path, "") == {
        "denied_totalpath": 1,
        "sessions_totalkilled": 1,
        "received_bytes_total": 5,
        "sent_bytes_total": 6,
    }
    assert figures(tmp_path, "/srv/alice")["denied_totalcall"] == 1


def test_all_that_is_refused_is_counted_however_much_of_it_there_are_records_of(tmp_path: Path) -> None:
    opened = RepositoryOpened("/srv/alice", "none")
    closed = SessionClosed("/srv/alice", "", "completed", 1.0, 5, 6, {})
    tell(tmp_path, opened, *[CallRefused("put", "no")] * 350, *[PathRefused("/x", "/x")] * 250, closed)
    found = figures(tmp_path, "/srv/alice")
    assert (found["denied_totalcall"], found["denied_totalpath"]) == (350, 250)


def test_all_damage_is_counted(tmp_path: Path) -> None:
    tell(tmp_path, RepositoryOpened("/srv/alice", "none"), *[CheckFailed("x")] * 250, SESSION[-1])
    assert figures(tmp_path, "/srv/alice")["damage_total"] == 250


def test_what_the_tools_call_a_finding_is_damage(tmp_path: Path) -> None:
    findings = (DamagedSegmentKept(7), CompactedSegmentMissing(8), ReferenceCountWrong(9, 1), TransactionsLost(3, 5))
    tell(tmp_path, RepositoryOpened("/srv/alice", "none"), *findings, SESSION[-1])
    assert {type(finding) for finding in findings} == set(FOR_A_PERSON)
    assert figures(tmp_path, "/srv/alice")["damage_total"] == len(findings)


def test_a_compaction_does_not_look_like_a_backup(tmp_path: Path) -> None:
    tell(tmp_path, RepositoryOpened("/srv/alice", "none"), COMMITTED.evolve(added=0, deleted=0, overwritten=1))
    found = figures(tmp_path, "/srv/alice")
    assert (found["used_bytes"], found.get("last_commit_timestamp_seconds")) == (5000, None)


def test_damage_and_a_check_that_finds_it_are_told(tmp_path: Path) -> None:
    tell(tmp_path, RepositoryOpened("/srv/alice", "exclusive"), CheckFailed("x"), CheckFinishedWithErrors("full"))
    assert figures(tmp_path, "/srv/alice") == {
        "damage_total": 1,
        "last_check_timestamp_seconds": int(NOON),
        "last_check_sound": 0,
    }


def test_odd_names_of_repositories_survive(tmp_path: Path) -> None:
    odd = 'a "quoted" \\ name\nwith a line'
    for _ in range(2):
        tell(tmp_path, RepositoryOpened(odd, "none"), SessionClosed(odd, "", "completed", 1.0, 5, 6, {}))
    assert figures(tmp_path, odd)["received_bytes_total"] == 10


def test_a_file_that_cannot_be_understood_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / file_name("/srv/alice")).write_text("no such { thing\n")
    tell(tmp_path, *SESSION)
    assert figures(tmp_path, "/srv/alice")["transactions_total"] == 1


def test_what_cannot_be_written_is_complained_of_once_and_written_later(tmp_path: Path) -> None:
    directory, complaints = tmp_path / "metrics", list[str]()
    directory.mkdir()
    metrics = Metrics(str(directory), complain=complaints.append, now=lambda: NOON)
    directory.rename(tmp_path / "gone")
    for event in SESSION:
        metrics.for_peer(ALICE).report(event)
    assert len(complaints) == 1
    assert "metrics cannot be written to" in complaints[0]
    (tmp_path / "gone").rename(directory)
    metrics.close()
    found = figures(directory, "/srv/alice")
    assert (found["transactions_total"], found["sessions_totalcompleted"], found["objects"]) == (1, 1, 12)
    assert len(complaints) == 1


def test_somebody_who_keeps_the_lock_costs_figures_that_come_later_and_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("borg_serve_lib.sinks.metrics._PATIENCE", 0.05)
    complaints: list[str] = []
    metrics = Metrics(str(tmp_path), complain=complaints.append, now=lambda: NOON)
    with portalocker.Lock(str(tmp_path / ".borg_serve.lock")):
        for event in SESSION:
            metrics.for_peer(ALICE).report(event)
        assert not list(tmp_path.glob("*.prom"))
    assert len(complaints) == 1
    metrics.close()
    assert figures(tmp_path, "/srv/alice")["transactions_total"] == 1


@pytest.mark.parametrize(("of_directory", "of_lock"), [(0o755, 0o644), (0o775, 0o664), (0o700, 0o600)])
def test_who_may_write_to_the_directory_may_take_its_lock(of_directory: int, of_lock: int, tmp_path: Path) -> None:
    tmp_path.chmod(of_directory)
    before = os.umask(0o077)
    try:
        tell(tmp_path, *SESSION)
    finally:
        os.umask(before)
    assert (tmp_path / ".borg_serve.lock").stat().st_mode & 0o777 == of_lock


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_directory_that_is_none_is_refused_at_once(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is no directory that can be written to"):
        Metrics(str(tmp_path / place))


def test_without_the_package_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[metrics\]'"):
        Metrics(str(tmp_path))
