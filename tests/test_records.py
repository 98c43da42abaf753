"""What the command records of a session that never comes to be served, and what it does where it can record nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from borg_serve_lib import Homes, ServeOptions, UsageError, process, serve_process
from borg_serve_lib.process import explain_command_line
from borg_serve_lib.sinks import hostlog
from borg_serve_lib.sinks.chosen import chosen_sinks
from borg_serve_lib.sinks.metrics import file_name

HOMES = Homes.of({}, is_root=False, account_home={}.get)


def run(*words: str | Path, asked: str | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name != "SSH_ORIGINAL_COMMAND"}
    environment |= {"LOGNAME": "borg", "SSH_CONNECTION": "192.0.2.7 1 192.0.2.1 22"}
    command = [sys.executable, "-m", "borg_serve_cli", *map(str, words)]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment | ({} if asked is None else {"SSH_ORIGINAL_COMMAND": asked}),
        timeout=60,
        check=False,
    )


def audit(path: Path, count: int) -> list[dict[str, Any]]:
    """Return the lines of an audit log, once there are as many as that: its keeper outlives the server."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and len(text := path.read_text().splitlines()) >= count:
            return [json.loads(line) for line in text]
        time.sleep(0.02)
    raise AssertionError(path.read_text() if path.exists() else "no audit log")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("scp -t /", "'scp -t /'"),
        ("rm -rf /", "'rm -rf /'"),
        ("", "''"),
        ("sh -c '\x1b[2J\nid'", r'''"sh -c '\x1b[2J\nid'"'''),
    ],
)
def test_a_command_that_is_refused_is_recorded_with_who_sent_it(asked: str, shown: str, tmp_path: Path) -> None:
    done = run("--audit-log", tmp_path / "log", "--client-name", "alice", "--metrics-dir", tmp_path, asked=asked)
    assert (done.returncode, done.stdout) == (2, b"")
    (record,) = audit(tmp_path / "log", 1)
    assert len(record.pop("session")) == 12
    assert record.pop("reason") in done.stderr.decode()
    del record["time"]
    assert record == {
        "event": "command-refused",
        "level": "warning",
        "user": "borg",
        "address": "192.0.2.7",
        "client": "alice",
        "command": shown,
    }
    deadline = time.monotonic() + 20
    while not (figures := tmp_path / file_name("")).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert 'borg_serve_denied_total{kind="command",repository=""} 1.0' in figures.read_text()


def test_each_line_of_a_session_has_what_every_line_has(tmp_path: Path) -> None:
    run("--audit-log", tmp_path / "log", "--client-name", "alice", "--restrict-to-path", tmp_path)
    told = audit(tmp_path / "log", 3)
    assert [record["event"] for record in told] == [told[0]["event"], "session-opened", "session-closed"]
    assert told[0]["event"] in ("confined", "not-confined")
    for record in told:
        assert list(record)[:7] == ["time", "event", "level", "session", "user", "address", "client"]
    assert len({record["session"] for record in told}) == 1


def test_a_long_command_is_cut_in_the_record(tmp_path: Path) -> None:
    run("--audit-log", tmp_path / "log", asked="x" * 50_000)
    (record,) = audit(tmp_path / "log", 1)
    assert len(record["command"]) < 200 < 1000 > len(record["reason"])


@pytest.mark.parametrize("option", ["--audit-log", "--metrics-dir"])
def test_a_record_that_cannot_be_kept_stops_no_session_and_is_not_told_to_the_client(
    option: str, tmp_path: Path
) -> None:
    done = run(option, tmp_path / "missing" / "place", "--debug")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"missing" not in done.stderr
    other = run(option, tmp_path / "missing" / "place", "--audit-log", tmp_path / "log")
    assert other.returncode == 0
    if option != "--audit-log":  # the other records are kept
        assert audit(tmp_path / "log", 2)[-1]["event"] == "session-closed"


def test_each_record_that_cannot_be_kept_is_complained_of_and_the_others_are_made(tmp_path: Path) -> None:
    options = ServeOptions(audit_log=str(tmp_path), metrics_dir=str(tmp_path / "missing"), on_event=("true", "false"))
    complaints: list[str] = []
    missing = tmp_path / "missing"
    assert len(chosen_sinks(options, complain=complaints.append)) == 2
    assert complaints == [
        f"the audit log '{tmp_path}' cannot be written: Is a directory",
        f"the metrics directory '{missing}' is no directory that can be written to",
    ]


@pytest.mark.parametrize("failure", [OSError(11, "Resource temporarily unavailable"), UsageError("it died")])
def test_without_a_keeper_a_session_goes_on_and_syslog_is_told(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(hostlog, "tell_host", told.append)

    def no_keeper(make_sinks: object) -> None:
        raise failure

    monkeypatch.setattr("borg_serve_lib.sinks.keeper.start_keeper", no_keeper)
    assert process._with_records(ServeOptions(syslog=True), None) is None
    assert told == [f"no records are kept of this session: {failure}"]


def test_explain_tells_the_admin_what_cannot_be_kept_and_makes_nothing(tmp_path: Path) -> None:
    words = ["--audit-log", str(tmp_path / "log"), "--metrics-dir", str(tmp_path / "missing")]
    told = explain_command_line(words, homes=HOMES)
    assert told.allowed
    assert f"not kept: the metrics directory '{tmp_path}/missing' is no directory" in told.text
    assert "audit log '" in told.text
    assert told.text.count("not kept") == 1
    assert not list(tmp_path.iterdir())


def test_a_refused_command_is_told_to_a_reporter_of_ones_own_and_raised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from borg_serve_lib.events.process import CommandRefused
    from borg_serve_lib.reporting import Event, Peer, Reporter

    events: list[tuple[Peer, Event]] = []

    class Told(Reporter):
        def __init__(self, peer: Peer) -> None:
            self._peer = peer

        def report(self, event: Event) -> None:
            events.append((self._peer, event))

        def for_peer(self, peer: Peer) -> Reporter:
            return Told(peer)

    with pytest.raises(UsageError, match="is refused"):
        serve_process(
            ServeOptions(confine="off", client_name="alice", max_memory=0),
            original_command="rm -rf /",
            homes=HOMES,
            user="borg",
            reporter=Told(Peer()),
        )
    ((peer, event),) = events
    assert isinstance(event, CommandRefused)
    assert (peer.client, peer.user, event.command) == ("alice", "borg", "'rm -rf /'")
