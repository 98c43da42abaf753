"""What goes to the host's own log."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from borg_serve_lib.events.maintenance import CheckFailed
from borg_serve_lib.events.session import CallRefused, InternalFailure, PathRefused, SessionOpened
from borg_serve_lib.reporting import Peer
from borg_serve_lib.sinks import hostlog
from borg_serve_lib.sinks.hostlog import HostLog
from borg_serve_lib.sinks.systemlog import SystemLog


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What came to syslog: `<priority>borg-serve: line`, without time and process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        syslog.setblocking(False)
        monkeypatch.setattr(hostlog, "ADDRESS", str(tmp_path / "log"))

        def lines() -> list[str]:
            found = []
            while True:
                try:
                    message = syslog.recv(1 << 16).decode()
                except BlockingIOError:
                    return found
                assert re.match(rf"<\d+>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d borg-serve\[{os.getpid()}\]: ", message)
                found.append(re.sub(r">.{15} (borg-serve)\[\d+\]", r">\1", message))

        yield lines


def test_an_internal_failure_goes_to_syslog_with_its_details_and_nothing_else_does(
    told: Callable[[], list[str]],
) -> None:
    HostLog().report(CallRefused("put", "no"))
    assert told() == []
    HostLog().report(InternalFailure("list", "Traceback:\n  somewhere"))
    assert told() == ["<27>borg-serve: internal error in list: Traceback:", "<27>borg-serve:   somewhere"]


def test_records_go_to_syslog_with_their_level(told: Callable[[], list[str]]) -> None:
    log = SystemLog().for_peer(Peer("0a1b", client="alice"))
    for event in (SessionOpened(), PathRefused("/a", "/b"), CheckFailed("x")):
        log.report(event)
    assert told() == [
        '<30>borg-serve: session-opened {"session": "0a1b", "client": "alice"}',
        '<28>borg-serve: path-refused {"session": "0a1b", "client": "alice", "requested": "/a", "resolved": "/b"}',
        '<27>borg-serve: check-failed {"session": "0a1b", "client": "alice", "finding": "x"}',
    ]


def test_what_an_embedder_calls_itself_in_syslog_stays(told: Callable[[], list[str]]) -> None:
    import syslog

    calls: list[tuple[object, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syslog, "openlog", lambda *arguments: calls.append(arguments))
        hostlog.tell_host("x\ny\0\udcff")
    assert calls == []
    assert told() == ["<27>borg-serve: x y?\\udcff"]


def test_a_syslog_that_takes_a_stream_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostlog, "ADDRESS", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        syslog.listen()
        hostlog.tell_host("x")
        with syslog.accept()[0] as connection:
            assert connection.recv(1 << 16).endswith(b": x\0")


def test_without_a_syslog_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostlog, "ADDRESS", str(tmp_path / "missing"))
    hostlog.tell_host("x")
