"""What goes to the host's own log."""

from __future__ import annotations

import syslog

import pytest

from borg_serve_lib import HostLog
from borg_serve_lib.events.session import CallRefused, InternalFailure


def test_an_internal_failure_goes_to_syslog_with_its_details_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[tuple[object, ...]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: lines.append(arguments))
    monkeypatch.setattr(syslog, "syslog", lambda *arguments: lines.append(arguments))
    HostLog().report(CallRefused("put", "no"))
    assert lines == []
    HostLog().report(InternalFailure("list", "Traceback:\n  somewhere"))
    assert lines == [
        ("borg-serve", syslog.LOG_PID),
        (syslog.LOG_ERR, "internal error in list: Traceback:"),
        (syslog.LOG_ERR, "  somewhere"),
    ]
