"""What goes to the host's own log."""

from __future__ import annotations

import syslog

import pytest

from borg_serve_lib.events.maintenance import CheckFailed
from borg_serve_lib.events.session import CallRefused, InternalFailure, PathRefused, SessionOpened
from borg_serve_lib.reporting import Peer
from borg_serve_lib.sinks.hostlog import HostLog
from borg_serve_lib.sinks.systemlog import SystemLog


def test_an_internal_failure_goes_to_syslog_with_its_details_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: set[tuple[object, ...]] = set()
    lines: list[tuple[object, ...]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: opened.add(arguments))
    monkeypatch.setattr(syslog, "syslog", lambda *arguments: lines.append(arguments))
    HostLog().report(CallRefused("put", "no"))
    assert not opened
    assert lines == []
    HostLog().report(InternalFailure("list", "Traceback:\n  somewhere"))
    assert opened == {("borg-serve", syslog.LOG_PID, syslog.LOG_DAEMON)}
    assert lines == [
        (syslog.LOG_ERR, "internal error in list: Traceback:"),
        (syslog.LOG_ERR, "  somewhere"),
    ]


def test_records_go_to_syslog_with_their_level(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda level, line: lines.append((level, line)))
    log = SystemLog().for_peer(Peer("0a1b", client="alice"))
    for event in (SessionOpened(), PathRefused("/a", "/b"), CheckFailed("x")):
        log.report(event)
    assert lines == [
        (syslog.LOG_INFO, 'session-opened {"session": "0a1b", "client": "alice"}'),
        (
            syslog.LOG_WARNING,
            'path-refused {"session": "0a1b", "client": "alice", "requested": "/a", "resolved": "/b"}',
        ),
        (syslog.LOG_ERR, 'check-failed {"session": "0a1b", "client": "alice", "finding": "x"}'),
    ]
