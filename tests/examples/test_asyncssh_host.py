"""The backup host on asyncssh, with real clients."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.live.sample_data import describe_folder
from tests.live.stage import CLIENT_ENVIRONMENT, PASSPHRASE, TIMEOUT

from .support import EXAMPLES

CONFIGURATION = """\
listen = "127.0.0.1:{port}"
host_key = "host_key"
audit_log = "audit.log"

[customers.alice]
tree = "backups/alice"
keys = ["{alice}"]
restore_keys = ["{safe}"]

[customers.bob]
tree = "backups/bob"
quota = "10M"
keys = ["{bob}"]
"""


@attrs.define
class Hosting:
    """A running host. `borg`: the client program in use."""

    root: Path
    port: int
    process: subprocess.Popen[str]
    borg: str

    def environment(self, key: str) -> dict[str, str]:
        options = [f"-oIdentityFile={self.root / key}", "-oIdentitiesOnly=yes", "-oIdentityAgent=none"]
        options += [f"-oUserKnownHostsFile={self.root / 'known_hosts'}", "-oBatchMode=yes"]
        (self.root / "home" / key).mkdir(parents=True, exist_ok=True)
        return {
            **CLIENT_ENVIRONMENT,
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "home" / key),
            "BORG_RSH": shlex.join(["ssh", "-F", "/dev/null", *options]),
            "BORG_PASSPHRASE": PASSPHRASE,
        }

    def url(self, path: str) -> str:
        return f"ssh://anybody@127.0.0.1:{self.port}{path}"

    def run(self, key: str, *words: str, code: int = 0, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [self.borg, *words],
            env=self.environment(key),
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == code, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def ssh(self, key: str, *words: str) -> subprocess.CompletedProcess[str]:
        rsh = [*shlex.split(self.environment(key)["BORG_RSH"]), "-T", "-p", str(self.port), "anybody@127.0.0.1", *words]
        return subprocess.run(rsh, capture_output=True, text=True, timeout=TIMEOUT, check=False, input="")


@pytest.fixture(params=["1.2.4", "1.4.5"])
def host(request: pytest.FixtureRequest, tmp_path: Path, clients: dict[str, Path]) -> Iterator[Hosting]:
    for name in ("host_key", "alice", "bob", "safe", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = {name: (tmp_path / f"{name}.pub").read_text().strip() for name in ("alice", "bob", "safe", "host_key")}
    (tmp_path / "customers.toml").write_text(CONFIGURATION.format(port=port, **keys))
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {keys['host_key']}\n")
    words = [sys.executable, str(EXAMPLES / "asyncssh_host.py"), str(tmp_path / "customers.toml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving 3 keys on port {port}\n"
        yield Hosting(tmp_path, port, process, str(clients[request.param]))
        process.send_signal(signal.SIGTERM)
        complaints = process.communicate(timeout=30)[1]
    assert (process.returncode, complaints) == (0, "")


def test_backups_restores_refusals_and_quota(host: Hosting) -> None:
    source, target = host.root / "source", host.root / "target"
    target.mkdir()
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "noise").write_bytes(os.urandom(3_000_000))
    repository = host.url("/./laptop")
    host.run("alice", "init", "-e", "repokey", repository)
    host.run("alice", "create", f"{repository}::one", ".", cwd=source)
    host.run("alice", "extract", f"{repository}::one", cwd=target)
    assert describe_folder(target) == describe_folder(source)
    assert (host.root / "backups" / "alice" / "laptop" / "config").exists()

    # The key for restores reads and changes nothing.
    assert "one" in host.run("safe", "list", "--short", repository)
    assert "not permitted here (permissions: read-only)" in host.run(
        "safe", "create", f"{repository}::two", ".", cwd=source, code=2
    )

    # Customers do not see each other; a quota is kept.
    other = host.url(f"{host.root}/backups/alice/laptop")
    assert "Repository path not allowed" in host.run("bob", "list", other, code=2)
    host.run("bob", "init", "-e", "none", host.url("/./big"))
    (source / "more").write_bytes(os.urandom(20_000_000))
    assert "quota" in host.run("bob", "create", f"{host.url('/./big')}::one", ".", cwd=source, code=2).lower()

    # What happened is on record.
    records = [json.loads(line) for line in (host.root / "audit.log").read_text().splitlines()]
    assert {record["client"] for record in records if record["event"] == "transaction-committed"} == {"alice", "bob"}
    assert [record["client"] for record in records if record["event"] == "path-refused"] == ["bob"]


def test_nothing_but_borg_serve_is_to_be_had(host: Hosting) -> None:
    for words in (["ls", "-la", "/"], [], ["scp", "-f", "/etc/passwd"]):
        done = host.ssh("alice", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert len([line for line in done.stderr.splitlines() if line]) == 1
    records = [json.loads(line) for line in (host.root / "audit.log").read_text().splitlines()]
    assert [(record["event"], record["client"], record["command"]) for record in records] == [
        ("command-refused", "alice", repr(command)) for command in ("ls -la /", "", "scp -f /etc/passwd")
    ]
    assert "Permission denied" in host.ssh("stranger", "borg serve").stderr
    assert host.ssh("alice", "-N", "-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1").returncode != 0
    subsystem = host.ssh("alice", "-s", "sftp")
    assert subsystem.returncode != 0


def test_many_backups_at_once_and_a_client_that_vanishes(host: Hosting) -> None:
    source = host.root / "source"
    source.mkdir()
    (source / "noise").write_bytes(os.urandom(2_000_000))
    for number in range(4):
        host.run("alice", "init", "-e", "none", host.url(f"/./{number}"))
    running = [
        subprocess.Popen(
            [host.borg, "create", f"{host.url(f'/./{number}')}::one", str(source)],
            env={**host.environment("alice"), "HOME": str(host.root / "home" / str(number))},
            stderr=subprocess.PIPE,
        )
        for number in range(4)
    ]
    outcomes = [(process.communicate(timeout=TIMEOUT)[1], process.returncode) for process in running]
    assert [status for _, status in outcomes] == [0] * 4, outcomes
    holder = [host.borg, "with-lock", host.url("/./0"), "sleep", "100"]
    lock = host.root / "backups" / "alice" / "0" / "lock.exclusive"
    with subprocess.Popen(
        holder, env=host.environment("alice"), start_new_session=True, stderr=subprocess.DEVNULL
    ) as vanishing:
        deadline = time.monotonic() + 30
        while not lock.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(vanishing.pid, signal.SIGKILL)
        while lock.exists():
            assert time.monotonic() < deadline + 30
            time.sleep(0.02)
    host.run("alice", "check", host.url("/./0"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CONFIGURATION.replace("10M", "much"), "UsageError: 'much' is no size"),
        (CONFIGURATION.replace('"10M"', "1000"), "UsageError: '1000' is too small"),
        ("listen = ", "TOMLDecodeError"),
        ("[customers]", "KeyError: 'listen'"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text(text)
    words = [sys.executable, str(EXAMPLES / "asyncssh_host.py"), str(tmp_path / "host.toml")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
