"""Lines for the client's stderr reader, which is easily killed (spec: rpc.md section 7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.events.locks import LockLost, StaleLockRemoved
from borg_serve_lib.events.maintenance import CheckFailed, CheckStarted, Progress, ProgressFinished
from borg_serve_lib.events.session import CallFailed, ConnectionRejected, InternalFailure, RepositoryOpened
from borg_serve_lib.reporting import Event, Level
from borg_serve_lib.wire.loglines import ClientLog

STALE = StaleLockRemoved("host@1.2-3")
CHECK = "repository.check"


class Lines:
    """A log at an exact time, and what it has written."""

    def __init__(self, **settings: Any) -> None:
        self.written: list[bytes] = []
        self.log = ClientLog(self.written.append, now=lambda: 1700000000.25, **settings)

    def after(self, *events: Event) -> list[bytes]:
        self.written.clear()
        for event in events:
            self.log.report(event)
        return self.written


def records(lines: list[bytes]) -> list[dict[str, Any]]:
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


# --- messages


def test_before_the_negotiation_a_line_names_level_and_logger() -> None:
    assert Lines().after(STALE) == [b"$LOG WARNING borg.locking Remote: Killed stale lock host@1.2-3.\n"]


def test_after_the_negotiation_a_line_is_a_json_object() -> None:
    lines = Lines()
    lines.log.use_json()
    assert records(lines.after(STALE)) == [
        {
            "type": "log_message",
            "time": 1700000000.25,
            "message": "Killed stale lock host@1.2-3.",
            "levelname": "WARNING",
            "name": "borg.locking",
        }
    ]


def test_the_log_can_begin_in_json() -> None:
    assert records(Lines(json=True).after(STALE))[0]["type"] == "log_message"


def test_every_level_has_its_name() -> None:
    lines = Lines(level=Level.DEBUG)
    events = [CallFailed("get", "x", "y"), CheckStarted(), STALE, CheckFailed("bad")]
    assert [line.split()[1] for line in lines.after(*events)] == [b"DEBUG", b"INFO", b"WARNING", b"ERROR"]


@pytest.mark.parametrize(
    ("level", "told"),
    [(Level.DEBUG, 4), (Level.INFO, 3), (Level.WARNING, 2), (Level.ERROR, 1), (Level.CRITICAL, 0)],
)
def test_what_is_less_severe_than_asked_for_is_not_told(level: Level, told: int) -> None:
    assert len(Lines(level=level).after(CallFailed("get", "x", "y"), CheckStarted(), STALE, CheckFailed("bad"))) == told


@pytest.mark.parametrize(
    ("topic", "told"),
    [
        ("borg.remote", True),
        ("borg", True),
        ("borg.rem", False),
        ("borg.remote.x", False),
        ("remote", False),
        ("borg.repository", False),
    ],
)
def test_a_topic_is_told_at_any_level_with_all_below_it(topic: str, told: bool) -> None:
    opened = RepositoryOpened("/r", "none")
    assert bool(Lines(level=Level.CRITICAL, topics=[topic]).after(opened)) is told


def test_a_topic_without_a_dot_is_one_of_the_debug_topics() -> None:
    class Detail(Event):
        topic = "borg.debug.segments"
        sentence = "detail"

    assert Lines(topics=["segments"]).after(Detail()) == [b"$LOG DEBUG borg.debug.segments Remote: detail\n"]
    assert Lines(topics=["borg.debug.segments"]).after(Detail()) != []
    assert Lines(topics=["other"]).after(Detail()) == []


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_for_the_host_alone_is_told_to_no_client(as_json: bool) -> None:
    failure = InternalFailure("get", "Traceback (most recent call last): secret")
    assert Lines(level=Level.DEBUG, topics=["borg", "borg.internal"], json=as_json).after(failure) == []


# --- what would kill a client


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\rb", "a\x0bb", "a\x85b", "a\u2028b", 'a\n{"x": 1}', "a\n$LOG x"])
def test_a_text_of_several_lines_is_one_line(text: str) -> None:
    (line,) = Lines().after(ConnectionRejected(text))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert b"\r" not in line
    assert line.startswith(b"$LOG ERROR borg.remote Remote: a ")


def test_an_empty_text_still_leaves_all_the_fields_clients_split_the_line_into() -> None:
    assert Lines().after(ConnectionRejected("")) == [b"$LOG ERROR borg.remote Remote: \n"]


TEXTS = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF), max_size=30)


@given(TEXTS, st.booleans())
def test_whatever_the_text_the_line_is_one_utf_8_line_and_begins_as_it_should(text: str, as_json: bool) -> None:
    events = [LockLost(text), Progress(CHECK, 1, 2, text), ProgressFinished(CHECK)]
    for line in Lines(json=as_json).after(*events):
        line.decode("utf-8", "strict")
        body, end = line[:-1], line[-1:]
        assert end in (b"\n", b"\r")
        assert b"\n" not in body
        assert b"\r" not in body
        if as_json:
            json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "strict")
        else:
            assert body.startswith(b"$LOG ")
            assert body.split(b" ")[3] == b"Remote:"


# --- progress


def test_progress_as_json_counts_operations_and_ends_each() -> None:
    lines = Lines(level=Level.CRITICAL, json=True)
    events = [
        Progress(CHECK, 1, 20, "Checking segments 5.0%"),
        Progress(CHECK, 2, 20, "Checking segments 10.0%"),
        ProgressFinished(CHECK),
        Progress("repository.compact_segments", 1, 3, "Compacting"),
    ]
    assert records(lines.after(*events)) == [
        {
            "message": "Checking segments 5.0%",
            "current": 1,
            "total": 20,
            "info": None,
            "operation": 1,
            "msgid": "repository.check",
            "type": "progress_percent",
            "finished": False,
            "time": 1700000000.25,
        },
        {
            "message": "Checking segments 10.0%",
            "current": 2,
            "total": 20,
            "info": None,
            "operation": 1,
            "msgid": "repository.check",
            "type": "progress_percent",
            "finished": False,
            "time": 1700000000.25,
        },
        {
            "operation": 1,
            "msgid": "repository.check",
            "type": "progress_percent",
            "finished": True,
            "time": 1700000000.25,
        },
        {
            "message": "Compacting",
            "current": 1,
            "total": 3,
            "info": None,
            "operation": 2,
            "msgid": "repository.compact_segments",
            "type": "progress_percent",
            "finished": False,
            "time": 1700000000.25,
        },
    ]


def test_the_same_operation_begun_again_has_a_new_number() -> None:
    lines = Lines(json=True)
    first = records(lines.after(Progress(CHECK, 1, 2, "x"), ProgressFinished(CHECK)))
    second = records(lines.after(Progress(CHECK, 1, 2, "x"), ProgressFinished(CHECK)))
    assert [record["operation"] for record in first + second] == [1, 1, 2, 2]


def test_two_operations_at_once_keep_their_numbers() -> None:
    lines = Lines(json=True)
    told = records(
        lines.after(
            Progress("a", 1, 2, "x"),
            Progress("b", 1, 2, "x"),
            Progress("a", 2, 2, ""),
            ProgressFinished("b"),
            ProgressFinished("a"),
        )
    )
    assert [record["operation"] for record in told] == [1, 2, 1, 2, 1]
    assert [record["finished"] for record in told] == [False, False, False, True, True]


def test_an_operation_that_ends_before_its_first_step_has_a_number_too() -> None:
    assert records(Lines(json=True).after(ProgressFinished(CHECK)))[0]["operation"] == 1


def test_progress_in_the_old_format_ends_in_a_carriage_return_and_finally_clears_the_line() -> None:
    lines = Lines(level=Level.CRITICAL)
    assert lines.after(Progress(CHECK, 1, 2, "Checking\n50%"), ProgressFinished(CHECK)) == [
        b"$LOG INFO borg.output.progress Remote: Checking 50%\r",
        b"$LOG INFO borg.output.progress Remote: \r",
    ]
