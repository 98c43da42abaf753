"""Through a real sshd with a forced command, as an administrator would set it up."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import load_script

from .sample_data import describe_folder
from .stage import CLIENT_ENVIRONMENT, TIMEOUT, server_words


@pytest.fixture
def host(tmp_path: Path, clients: dict[str, Path]) -> Iterator[SimpleNamespace]:
    """A backup host with one key that is confined to one folder, and a client with that key."""
    allowed = tmp_path / "backups"
    secrets = tmp_path / "ssh"
    for directory in (allowed, secrets, tmp_path / "client"):
        directory.mkdir()
    forced_command = f"{server_words()} serve --restrict-to-path {shlex.quote(str(allowed))}"
    with load_script("loopback_sshd").LoopbackSshd(secrets, forced_command) as sshd:
        environment = {
            **CLIENT_ENVIRONMENT,
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "client"),
            "BORG_RSH": sshd.rsh,
        }

        def run(*words: str, code: int = 0, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
            done = subprocess.run(
                words, env=environment, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            assert done.returncode == code, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}\n{sshd.log.read_text()}"
            return done

        yield SimpleNamespace(allowed=allowed, sshd=sshd, run=run, borg=str(clients["1.4.5"]))


def test_a_backup_comes_back_through_sshd_and_a_forced_command(host: SimpleNamespace, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "noise").write_bytes(os.urandom(300_000))
    (source / "link").symlink_to("deep/noise")
    repository = host.allowed / "repo"
    url = host.sshd.url(repository)
    host.run(host.borg, "init", "-e", "none", url)
    host.run(host.borg, "create", f"{url}::one", ".", cwd=source)
    assert host.run(host.borg, "list", "--short", url).stdout == "one\n"
    host.run(host.borg, "extract", f"{url}::one", cwd=target)
    assert describe_folder(target) == describe_folder(source)
    assert "no problems found" in host.run(host.borg, "check", "-v", str(repository)).stderr


def test_a_path_outside_the_restriction_is_refused_and_not_touched(host: SimpleNamespace, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    refused = host.run(host.borg, "init", "-e", "none", host.sshd.url(outside), code=2)
    assert f"Repository path not allowed: {outside}" in refused.stderr
    assert not outside.exists()


def test_a_key_with_a_forced_command_cannot_run_anything_else(host: SimpleNamespace) -> None:
    ssh = [*shlex.split(host.sshd.rsh), "-p", str(host.sshd.port), f"{host.sshd.user}@127.0.0.1"]
    refused = host.run(*ssh, "ls -la /", code=2)
    assert refused.stdout == ""
    assert refused.stderr != ""
