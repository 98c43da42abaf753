"""The audit log: whole lines, whatever happens to the file."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from borg_serve_lib.errors import UsageError
from borg_serve_lib.sinks.auditlog import AuditLog

from .support import ALICE, COMMITTED, NOON, SESSION, together


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


class Kept:
    def __init__(self, path: Path) -> None:
        self.complaints: list[str] = []
        self.log = AuditLog(str(path), complain=self.complaints.append, now=lambda: NOON)

    def report(self, count: int = 1) -> None:
        for _ in range(count):
            self.log.for_peer(ALICE).report(COMMITTED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_each_event_is_a_line_after_those_that_are_there(path: Path) -> None:
    path.write_text('{"event": "earlier"}\n')
    log = AuditLog(str(path), now=lambda: NOON)
    for event in SESSION:
        log.for_peer(ALICE).report(event)
    log.close()
    assert [line["event"] for line in lines(path)] == [
        "earlier",
        "session-opened",
        "repository-opened",
        "call-refused",
        "transaction-committed",
        "session-closed",
    ]


def test_the_file_is_for_the_owner_and_the_group(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        AuditLog(str(tmp_path / "new")).close()
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_many_processes_append_whole_lines(path: Path) -> None:
    together(
        4,
        f"""
        from borg_serve_lib.sinks.auditlog import AuditLog
        from borg_serve_lib.events.session import PathRefused

        log = AuditLog({str(path)!r})
        for _ in range(300):
            log.report(PathRefused("x" * 300, "/y"))
        """,
    )
    assert len(lines(path)) == 1200


def test_a_file_that_was_moved_away_or_removed_is_opened_anew(path: Path) -> None:
    kept = Kept(path)
    kept.report()
    path.rename(path.with_suffix(".1"))
    kept.report(2)
    path.unlink()
    kept.report(3)
    assert len(lines(path.with_suffix(".1"))) == 1
    assert len(lines(path)) == 3


@pytest.mark.parametrize("kind", ["missing directory", "directory", "pipe", "device"])
def test_what_cannot_be_a_log_is_refused_at_once(kind: str, path: Path) -> None:
    places = {"missing directory": path / "below", "directory": path, "pipe": path, "device": Path("/dev/null")}
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UsageError, match=r"the audit log .* cannot be written: "):
        AuditLog(str(places[kind]))


def test_what_cannot_be_written_is_dropped_counted_and_complained_of_once(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    path = directory / "audit.log"
    kept = Kept(path)
    kept.report()
    directory.rename(tmp_path / "elsewhere")
    kept.report(3)
    assert kept.complaints == [f"the audit log {str(path)!r} cannot be written: No such file or directory"]
    (tmp_path / "elsewhere").rename(directory)
    kept.report()
    assert [line["event"] for line in lines(path)] == [
        "transaction-committed",
        "records-dropped",
        "transaction-committed",
    ]
    assert lines(path)[1]["count"] == 3


@pytest.fixture
def largest_file() -> Iterator[int]:
    """The system takes no more than these bytes for a file, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_costs_records_and_nothing_else(path: Path, largest_file: int) -> None:
    kept = Kept(path)
    kept.report(10)
    assert path.stat().st_size == largest_file
    assert len(kept.complaints) == 1
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    kept.report()
    told = path.read_bytes().split(b"\n")
    whole = [line for line in told if line.endswith(b"}")]
    assert len(whole) == len(told) - 2  # the torn one, and the end
    assert [json.loads(line)["event"] for line in whole[-2:]] == ["records-dropped", "transaction-committed"]
    assert len(whole) - 2 + json.loads(whole[-2])["count"] == 10
