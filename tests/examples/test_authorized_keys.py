"""Keys from one TOML file, asked for by a real sshd."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import load_script
from tests.live.stage import CLIENT_ENVIRONMENT, TIMEOUT, server_words

from .support import EXAMPLES, load_example

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ"


def answer(tmp_path: Path, content: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "keys.toml"
    file.write_text(content)
    words = [sys.executable, str(EXAMPLES / "authorized_keys.py"), str(file), *key.split()]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_key_gets_the_line_that_its_client_deserves(tmp_path: Path) -> None:
    done = answer(
        tmp_path,
        f"""
        server = "/opt/borg serve"
        [clients.bob]
        key = "ssh-rsa AAAA"
        [clients."alice's laptop"]
        key = "{KEY} alice@laptop"
        restrict-to-path = ["/srv/a\\"; rm -rf $HOME #", "/srv/b"]
        storage-quota = "500G"
        append-only = true
        syslog = false
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
    command, _, rest = done.stdout.removeprefix('command="').rpartition('",restrict ')
    assert rest == f"{KEY}\n"
    assert shlex.split(command.replace('\\"', '"').replace("\\\\", "\\")) == [
        "/opt/borg serve",
        "--client-name",
        "alice's laptop",
        '--restrict-to-path=/srv/a"; rm -rf $HOME #',
        "--restrict-to-path=/srv/b",
        "--storage-quota=500G",
        "--append-only",
    ]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ('server = "x"\n[clients.bob]\nkey = "ssh-rsa AAAA"', 0),
        ('server = "x"\n[clients', 1),
        ('server = "x"', 1),
        (f'server = "x"\n[clients.alice]\nkey = "{KEY}"\nappend-onyl = true', 1),
        (f'server = "x"\n[clients.alice]\nkey = "{KEY}"\nhelp = true', 1),
        (f'server = "x"\n[clients.alice]\nkey = "{KEY}"\nrestrict-to-path = "a\\nb"', 1),
        (f'[clients.alice]\nkey = "{KEY}"', 1),
    ],
)
def test_strangers_and_mistakes_get_no_line(content: str, status: int, tmp_path: Path) -> None:
    done = answer(tmp_path, content)
    assert (done.returncode, done.stdout) == (status, "")
    assert bool(done.stderr) is bool(status)
    assert "Traceback" not in done.stderr


def test_quotes_and_backslashes_survive_the_way_through_authorized_keys(tmp_path: Path) -> None:
    example = load_example("authorized_keys")
    client = {"key": KEY, "restrict-to-path": [r'/srv/with \ and " in it']}
    line = example.line_for({"server": "x", "clients": {"alice": client}}, KEY)
    assert r"\\ and \" in it" in line


def test_a_real_sshd_takes_its_answer(tmp_path: Path, clients: dict[str, Path]) -> None:
    allowed, secrets = tmp_path / "backups" / "alice", tmp_path / "ssh"
    for directory in (allowed, secrets, tmp_path / "client"):
        directory.mkdir(parents=True)
    file = tmp_path / "keys.toml"
    settings = (
        f"AuthorizedKeysCommand {sys.executable} {EXAMPLES / 'authorized_keys.py'} {file} %t %k\n"
        f"AuthorizedKeysCommandUser {getpass.getuser()}\n"
    )
    program, *options = shlex.split(server_words())
    start = tmp_path / "server"
    start.write_text(f'#!/bin/sh\nexec {shlex.join([program, *options])} serve "$@"\n')
    start.chmod(0o755)
    with load_script("loopback_sshd").LoopbackSshd(secrets, "false", settings) as sshd:
        sshd.authorized_keys.write_text("")
        key = " ".join((secrets / "client_key.pub").read_text().split()[:2])
        environment = {**CLIENT_ENVIRONMENT, "PATH": os.environ["PATH"], "BORG_RSH": sshd.rsh}
        environment["HOME"] = str(tmp_path / "client")

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            command = [str(clients["1.4.5"]), *words]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )

        file.write_text(f'server = "{start}"\n[clients.bob]\nkey = "ssh-rsa AAAA"\n')
        words = [*shlex.split(sshd.rsh), "-p", str(sshd.port), f"{sshd.user}@127.0.0.1", "borg serve"]
        refused = subprocess.run(words, env=environment, capture_output=True, check=False, timeout=TIMEOUT)
        assert b"Permission denied" in refused.stderr
        line = f'[clients.alice]\nkey = "{key}"\nrestrict-to-path = ["{allowed}"]\n'
        file.write_text(f'server = "{start}"\n{line}')
        done = run("init", "-e", "none", sshd.url(allowed / "laptop"))
        assert done.returncode == 0, done.stderr + sshd.log.read_text()
        assert "Repository path not allowed" in run("info", sshd.url(tmp_path / "backups" / "bob")).stderr
