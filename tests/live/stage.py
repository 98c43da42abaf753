"""A stage for one client: its home, a repository, and a server that it reaches by a stand-in for ssh."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

PASSPHRASE = "correct horse battery staple"
TIMEOUT = 120  # seconds; a command that takes longer hangs

CLIENT_ENVIRONMENT = {
    "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING": "YES",
    "BORG_DELETE_I_KNOW_WHAT_I_AM_DOING": "YES",
    "BORG_RECREATE_I_KNOW_WHAT_I_AM_DOING": "YES",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_DISPLAY_PASSPHRASE": "no",
    "BORG_SELFTEST": "disabled",  # a third of a second at each start
    "BORG_FUSE_IMPL": "none",  # Debian's client loads what it mounts with at each start: a sixth of a second
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}

# Like sshd it hands over nothing of the client's environment, starts in the account's home, and shows a forced
# command the client's own. Unlike it, it keeps the server's exit status for the test.
STAND_IN = """\
#!/bin/sh
[ "$1" = -p ] && shift 2
shift
cd {home} || exit 255
env -i HOME={home} PATH="$PATH" LANG=C.UTF-8 {settings} sh -c {command}
status=$?
echo "$status $*" >>{statuses}
exit $status
"""


@attrs.frozen
class Result:
    """What a client said and how it ended."""

    command: str
    code: int
    out: bytes
    err: str

    def __str__(self) -> str:
        return f"$ {self.command}\nexit code {self.code}\n{self.out[-2000:].decode(errors='replace')}\n{self.err}"


def server_words() -> str:
    """Return the words that start the server: ours, or those in BORG_LIVE_SERVER (such as `borg`, to compare)."""
    return os.environ.get("BORG_LIVE_SERVER") or f"{shlex.quote(sys.executable)} -m borg_serve_lib"


class Stage:
    """One client, one repository, one way to start the server.

    `remote` runs the client through the server, `native` lets the same client work on the repository's directory.
    Both replace the word REPO in arguments by the repository's location.
    """

    def __init__(self, root: Path, client: Path, *, forced: bool, settings: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.client = client
        self.repository = root / "backups" / "repo"
        self.home = root / "client"
        self.passphrase = PASSPHRASE
        self.statuses = root / "server-statuses"
        self.repository.parent.mkdir()
        self.home.mkdir()
        (root / "account").mkdir()
        self.stand_in = root / "stand-in-for-ssh"
        self._write_stand_in(forced, {"BORG_SELFTEST": "disabled", **(settings or {})})

    def _write_stand_in(self, forced: bool, settings: Mapping[str, str]) -> None:
        words = [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
        command = '"$*"'
        if forced:
            words.append('SSH_ORIGINAL_COMMAND="$*"')
            allowed = shlex.quote(str(self.repository.parent))
            command = shlex.quote(f"{server_words()} serve --restrict-to-path {allowed}")
        text = STAND_IN.format(
            home=shlex.quote(str(self.root / "account")),
            settings=" ".join(words),
            command=command,
            statuses=shlex.quote(str(self.statuses)),
        )
        self.stand_in.write_text(text)
        self.stand_in.chmod(0o700)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **CLIENT_ENVIRONMENT,
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BORG_BASE_DIR": str(self.home),
            "BORG_PASSPHRASE": self.passphrase,
            "BORG_RSH": shlex.quote(str(self.stand_in)),
            "BORG_REMOTE_PATH": server_words(),
        }

    def remote(self, *arguments: str, code: int = 0, **options: Any) -> Result:
        """Run the client through the server; it must end with `code`, and the server must have ended well."""
        self.statuses.unlink(missing_ok=True)
        result = self._run(f"ssh://host{self.repository}", arguments, code, options)
        statuses = self.statuses.read_text().splitlines()
        assert statuses, f"the client never started a server\n{result}"
        assert all(line.startswith("0 ") for line in statuses), f"a server ended badly: {statuses}\n{result}"
        return result

    def native(self, *arguments: str, code: int = 0, **options: Any) -> Result:
        """Run the client on the repository's own directory, no server in between; it must end with `code`."""
        return self._run(str(self.repository), arguments, code, options)

    def start(self, *arguments: str, remote: bool, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the client and do not wait for it."""
        location = f"ssh://host{self.repository}" if remote else str(self.repository)
        command = [str(self.client), *(argument.replace("REPO", location) for argument in arguments)]
        environment = {**self.environment, **(env or {})}
        return subprocess.Popen(
            command,
            env=environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _run(self, location: str, arguments: tuple[str, ...], code: int, options: Mapping[str, Any]) -> Result:
        command = [str(self.client), *(argument.replace("REPO", location) for argument in arguments)]
        environment = {**self.environment, **options.get("env", {})}
        done = subprocess.run(
            command,
            env=environment,
            cwd=options.get("cwd", self.root),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        result = Result(shlex.join(command), done.returncode, done.stdout, done.stderr.decode(errors="replace"))
        assert result.code == code, f"expected exit code {code}\n{result}"
        assert "Traceback (most recent call last)" not in result.err, str(result)
        return result

    def read(self, *arguments: str, code: int = 0, **options: Any) -> Result:
        """Run a reading command through the server and natively: both must say the same on stdout."""
        ours = self.remote(*arguments, code=code, **options)
        theirs = self.native(*arguments, code=code, **options)
        comparable = _without_location if "--json" in arguments else bytes
        assert comparable(ours.out) == comparable(theirs.out), f"{ours}\nbut natively:\n{theirs}"
        return ours

    def assert_sound(self) -> None:
        """Native borg, same version, must find nothing to complain about, and no cause to replay segments."""
        before = transaction_state(self.repository)
        result = self.native("check", "--verbose", "REPO")
        assert result.err.count("no problems found") == 2, str(result)
        complaints = [line for line in result.err.splitlines() if _is_complaint(line)]
        assert not complaints, str(result)
        assert transaction_state(self.repository) == before, f"native borg had to replay\n{result}"


def transaction_state(repository: Path) -> tuple[int, list[str]]:
    """Return the newest segment's number and the caches' file names; they must belong to each other."""
    newest = max(int(path.name) for path in repository.glob("data/*/*"))
    caches = sorted(path.name for path in repository.iterdir() if path.name.partition(".")[0] in CACHES)
    assert caches == [f"{name}.{newest}" for name in CACHES], f"segment {newest} is the newest, but there is {caches}"
    assert not list(repository.glob("lock*")), "something of a lock was left behind"
    return newest, caches


COMPLAINTS = ("error", "missing", "mismatch", "corrupt", "rebuil", "replay", "orphan")
CACHES = ("hints", "index", "integrity")


def _is_complaint(line: str) -> bool:
    if "reviously missing" in line or "would be healed" in line:
        return False  # an archive repaired before: it says so until the object comes back and it is repaired again
    return any(word in line.lower() for word in COMPLAINTS)


def _without_location(out: bytes) -> Any:
    document = json.loads(out)
    document["repository"].pop("location")
    return document
