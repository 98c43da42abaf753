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
from borg_serve_lib.sinks.auditlog import AuditLog, demand_appendable

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
        from borg_serve_lib.sinks.auditlog import AuditLog, demand_appendable
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
    assert 0 < path.stat().st_size < largest_file
    before = len(lines(path))  # each of them whole
    assert len(kept.complaints) == 1
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    kept.report()
    assert [line["event"] for line in lines(path)[before:]] == ["records-dropped", "transaction-committed"]
    assert before + lines(path)[before]["count"] == 10


def test_a_torn_record_goes_although_others_append_to_the_same_file(path: Path, largest_file: int) -> None:
    kept, other = Kept(path), Kept(path)
    kept.report(10)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits[1], limits[1]))
    before = len(lines(path))
    other.report()
    assert [line["event"] for line in lines(path)[before:]] == ["transaction-committed"]


def test_what_somebody_has_written_behind_a_torn_record_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, write = Kept(path), os.write

    def torn(descriptor: int, line: bytes) -> int:
        written = write(descriptor, line[:20])
        with path.open("ab") as file:
            file.write(b'\n{"event": "another"}\n')
        return written

    monkeypatch.setattr(os, "write", torn)
    kept.report()
    monkeypatch.undo()
    kept.report()
    told = path.read_bytes().split(b"\n")
    assert [json.loads(line)["event"] for line in told[1:-1]] == ["another", "records-dropped", "transaction-committed"]


def test_the_rest_of_a_record_that_a_crash_has_cut_off_is_glued_to_nothing(path: Path) -> None:
    path.write_bytes(b'{"event": "torn')
    Kept(path).report(2)
    told = path.read_bytes().split(b"\n")
    assert told[0] == b'{"event": "torn'
    assert [json.loads(line)["event"] for line in told[1:-1]] == ["transaction-committed"] * 2


def test_what_stands_for_dropped_records_has_what_every_line_has(path: Path, tmp_path: Path) -> None:
    kept = Kept(path)
    path.rename(tmp_path / "moved")
    path.mkdir()
    kept.report()
    path.rmdir()
    kept.report()
    dropped = lines(path)[0]
    assert list(dropped) == ["time", "event", "level", "session", "user", "address", "client", "count"]


def test_whether_a_log_could_be_kept_is_found_out_without_making_it(path: Path) -> None:
    demand_appendable(str(path))
    assert not path.exists()
    path.touch()
    demand_appendable(str(path))
    for place in (path / "below", path.parent / "missing" / "log", path.parent):
        with pytest.raises(UsageError, match="cannot be written"):
            demand_appendable(str(place))
