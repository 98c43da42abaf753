"""What a host that asks for records gets, of real clients through a real sshd, with the server confined."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from borg_serve_lib.sinks.metrics import file_name
from tests.conftest import load_script

from .stage import CLIENT_ENVIRONMENT, PASSPHRASE, TIMEOUT, server_words


@pytest.fixture
def host(tmp_path: Path, clients: dict[str, Path]) -> Iterator[SimpleNamespace]:
    """A host that records all it can, and a client with a key to one folder."""
    for name in ("backups", "ssh", "client", "records"):
        (tmp_path / name).mkdir()
    records = tmp_path / "records"
    options = {
        "--restrict-to-path": tmp_path / "backups",
        "--confine": "require",
        "--audit-log": records / "audit.log",
        "--metrics-dir": records,
        "--on-event": f"cat >> {shlex.quote(str(records / 'hook'))}",
        "--client-name": "alice's laptop",
    }
    words = " ".join(f"{name} {shlex.quote(str(value))}" for name, value in options.items())
    with load_script("loopback_sshd").LoopbackSshd(tmp_path / "ssh", f"{server_words()} serve {words}") as sshd:
        environment = {
            **CLIENT_ENVIRONMENT,
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "client"),
            "BORG_RSH": sshd.rsh,
            "BORG_PASSPHRASE": PASSPHRASE,
        }

        def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
            done = subprocess.run(
                words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            assert done.returncode == code, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}\n{sshd.log.read_text()}"
            return done

        yield SimpleNamespace(
            root=tmp_path,
            records=records,
            repository=tmp_path / "backups" / "laptop",
            sshd=sshd,
            run=run,
            environment=environment,
            borg=str(clients["1.4.5"]),
        )


def audit(host: SimpleNamespace, sessions: int) -> list[dict[str, Any]]:
    """Return the records once that many sessions are closed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        told = [json.loads(line) for line in (host.records / "audit.log").read_text().splitlines()]
        if [record["event"] for record in told].count("session-closed") >= sessions:
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_last_nights_backup_a_refusal_and_a_check_are_recorded_and_no_secret_is(host: SimpleNamespace) -> None:
    source = host.root / "source"
    source.mkdir()
    (source / "letter").write_text("dear diary " * 1000)
    url = host.sshd.url(host.repository)
    done = [
        host.run(host.borg, "init", "-e", "repokey", url),
        host.run(host.borg, "create", f"{url}::one", str(source)),
    ]
    done += [host.run(host.borg, "check", url), host.run(host.borg, "info", host.sshd.url("/elsewhere"), code=2)]
    told = audit(host, 4)
    of = {name: [record for record in told if record["event"] == name] for name in {one["event"] for one in told}}
    assert {record["client"] for record in told if "session" in record} == {"alice's laptop"}
    assert {record["address"] for record in told if "session" in record} == {"127.0.0.1"}
    assert [record["path"] for record in of["transaction-committed"]] == [str(host.repository)] * 2
    assert of["transaction-committed"][1]["bytes_added"] > 300
    assert [record["mode"] for record in of["check-finished"]] == ["full"]
    assert [record["requested"] for record in of["path-refused"]] == ["/elsewhere"]
    assert [record["outcome"] for record in of["session-closed"]] == ["completed"] * 4
    assert [record["repository"] for record in of["session-closed"]] == [*[str(host.repository)] * 3, ""]
    assert {record["client_version"] for record in of["session-closed"]} == {"1.4.5"}
    assert all(record["bytes_in"] > 100 < record["bytes_out"] for record in of["session-closed"])
    assert of["session-closed"][1]["calls"]["put"] >= 3
    # The client has heard nothing of that, and nothing of its secrets went there.
    assert not any("session" in each.stderr for each in done)
    key = "".join((host.repository / "config").read_text().partition("key = ")[2].split())
    recorded = "".join(path.read_text() for path in host.records.iterdir())
    for secret in (PASSPHRASE, key[40:80], "dear diary", "letter"):
        assert secret not in recorded
    figures = (host.records / file_name(str(host.repository))).read_text()
    assert f'borg_serve_transactions_total{{repository="{host.repository}"}} 2.0' in figures


def test_a_session_whose_server_is_killed_is_recorded(host: SimpleNamespace) -> None:
    url = host.sshd.url(host.repository)
    host.run(host.borg, "init", "-e", "none", url)
    locked = host.records.parent / "locked"
    words = [host.borg, "with-lock", url, "sh", "-c", f"touch '{locked}' && exec sleep 60"]
    with subprocess.Popen(words, env=host.environment, stderr=subprocess.PIPE, start_new_session=True) as client:
        deadline = time.monotonic() + 30
        while not locked.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        holder = next((host.repository / "lock.exclusive").iterdir()).name
        os.kill(int(holder.rpartition(".")[2].partition("-")[0]), signal.SIGKILL)
        closed = audit(host, 2)[-1]
        os.killpg(client.pid, signal.SIGKILL)
        client.communicate()
    assert (closed["event"], closed["outcome"], closed["repository"]) == (
        "session-closed",
        "killed",
        str(host.repository),
    )
    host.run(host.borg, "with-lock", url, "true")  # what the dead have left stops nobody, and goes


def test_what_cannot_be_recorded_stops_no_backup_and_the_client_learns_nothing_of_it(host: SimpleNamespace) -> None:
    (host.records / "audit.log").mkdir()
    done = host.run(host.borg, "init", "--debug", "-e", "none", host.sshd.url(host.repository))
    assert "audit" not in done.stderr
    deadline = time.monotonic() + 30
    while not (host.records / "hook").exists() and time.monotonic() < deadline:  # the other records are kept
        time.sleep(0.05)
    assert "session-opened" in (host.records / "hook").read_text()
