"""What a record says of an event."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

from borg_serve_lib import events
from borg_serve_lib.events.maintenance import CheckFailed, CheckFinishedWithErrors, Progress
from borg_serve_lib.events.session import CallFailed, InternalFailure, PathRefused
from borg_serve_lib.limits import MAX_RECORDS_OF_A_KIND
from borg_serve_lib.reporting import Event, Peer
from borg_serve_lib.sinks.base import Sink
from borg_serve_lib.sinks.record import Record, event_name, record_of

from .support import ALICE, CLOSED, COMMITTED, NOON


class Kept(Sink):
    def __init__(self) -> None:
        super().__init__(now=lambda: NOON)
        self.records: list[Record] = []

    def write(self, record: Record) -> None:
        self.records.append(record)


def all_events() -> list[type[Event]]:
    modules = [
        importlib.import_module(f"{events.__name__}.{one.name}") for one in pkgutil.iter_modules(events.__path__)
    ]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return sorted((kind for kind in found if issubclass(kind, Event) and kind is not Event), key=event_name)


def test_a_record_has_the_time_the_name_the_session_and_the_fields() -> None:
    assert record_of(CLOSED, ALICE, NOON) == {
        "time": "2026-11-25T10:00:00.250+00:00",
        "event": "session-closed",
        "level": "info",
        "session": "0a1b",
        "user": "backup",
        "address": "192.0.2.7",
        "client": "alice",
        "repository": "/srv/alice",
        "client_version": "1.4.5",
        "outcome": "completed",
        "seconds": 1.5,
        "bytes_in": 1000,
        "bytes_out": 200,
        "calls": {"open": 1, "put": 4},
    }


def test_what_is_not_known_of_the_peer_is_left_out() -> None:
    assert list(record_of(PathRefused("/a", "/b"), Peer(), NOON)) == ["time", "event", "level", "requested", "resolved"]


def test_a_client_cannot_break_out_of_its_field() -> None:
    hostile = 'x"\n{"event": "transaction-committed"}\x00\udcff\u2028' + "y" * 10_000
    line = json.dumps(record_of(PathRefused(hostile, "/b"), Peer(), NOON))
    assert "\n" not in line
    assert line.isascii()
    assert len(line) < 6000
    assert json.loads(line)["event"] == "path-refused"


def test_the_details_of_an_internal_failure_are_no_record() -> None:
    assert "secret" not in str(record_of(InternalFailure("put", "secret"), Peer(), NOON))


def test_steps_of_progress_are_no_records_and_sessions_are_told_apart() -> None:
    sink = Kept()
    sink.for_peer(ALICE).report(CLOSED)
    sink.report(CLOSED)
    sink.report(Progress("repository.check", 1, 2, "x"))
    assert [record.get("client") for record in sink.records] == ["alice", None]


def test_what_a_session_repeats_is_counted_and_not_recorded_for_ever() -> None:
    sink = Kept()
    session, other = sink.for_peer(ALICE), sink.for_peer(Peer("other"))
    for _ in range(40_000):
        session.report(CallFailed("get", "ObjectNotFound", "x"))
    for event in (PathRefused("/a", "/b"), *[COMMITTED] * 150, CLOSED):
        session.report(event)
    other.report(CallFailed("get", "ObjectNotFound", "x"))
    other.report(CLOSED)
    names = [record["event"] for record in sink.records]
    assert names == [
        *["call-failed"] * MAX_RECORDS_OF_A_KIND,
        "path-refused",
        *["transaction-committed"] * 150,
        "events-omitted",
        "session-closed",
        "call-failed",
        "session-closed",
    ]
    (omitted,) = [record for record in sink.records if record["event"] == "events-omitted"]
    assert (omitted["counts"], omitted["session"]) == ({"call-failed": 40_000 - MAX_RECORDS_OF_A_KIND}, ALICE.session)


def test_the_end_of_a_check_tells_how_many_findings_were_left_out_each_once() -> None:
    sink = Kept()
    session = sink.for_peer(ALICE)
    for _ in range(2):
        for _ in range(150):
            session.report(CheckFailed("x"))
        session.report(CheckFinishedWithErrors("full"))
    assert [record["counts"] for record in sink.records if "counts" in record] == [
        {"check-failed": 150 - MAX_RECORDS_OF_A_KIND},
        {"check-failed": 150},
    ]


def test_no_field_of_an_event_takes_the_place_of_what_every_record_has() -> None:
    common = {"time", "event", "level", "session", "user", "address", "client"}
    for kind in all_events():
        assert not common & set(kind._names), kind


def test_every_recorded_event_stands_in_the_documentation_with_its_fields() -> None:
    told = {}
    text = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            fields = [field.strip(" `") for field in cells[1].split(",") if field.strip()]
            told[cells[0].strip("`")] = fields
    expected = {
        event_name(kind): [name for name in kind._names if name not in kind.unrecorded_fields]
        for kind in all_events()
        if kind.is_recorded
    }
    assert told == expected | {"records-dropped": ["count"]}


@pytest.mark.parametrize(("name", "kind"), [("session-closed", type(CLOSED)), ("path-refused", PathRefused)])
def test_the_name_of_an_event_is_that_of_its_class(name: str, kind: type[Event]) -> None:
    assert event_name(kind) == name
