"""What a key with a forced command cannot do through a real sshd. A canary outside its tree sees what touches it."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
import msgpack
import pytest

from tests.confinement.support import AVAILABLE
from tests.conftest import load_script

from .stage import CLIENT_ENVIRONMENT, TIMEOUT, server_words

EVERYTHING = 0xFFF  # all events of inotify(7)
NON_BLOCKING = 0o4000
WITHOUT_RESTRICTIONS = """\
import sys
from borg_serve_lib.policy.paths import PathPolicy
PathPolicy.allows = lambda self, resolved: True
import borg_serve_cli
sys.exit(borg_serve_cli.main())
"""
"""A server with a bug as bad as can be: its path policy allows everything."""


class Canary:
    """A repository of somebody else. Use it in `with`; `touched` names what was opened, read, written or changed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> Canary:
        self._events = self._libc.inotify_init1(NON_BLOCKING)
        self._names: dict[int, str] = {}
        for directory in (self.place, *(path for path in self.place.rglob("*") if path.is_dir())):
            watch = self._libc.inotify_add_watch(self._events, os.fsencode(directory), EVERYTHING)
            assert watch > 0, os.strerror(ctypes.get_errno())
            self._names[watch] = directory.name
        return self

    @property
    def touched(self) -> list[str]:
        try:
            data = os.read(self._events, 1 << 16)
        except BlockingIOError:
            return []
        found = []
        while data:
            watch, mask, _, length = struct.unpack_from("iIII", data)
            found.append(f"{mask:#x} {self._names[watch]}/{data[16 : 16 + length].rstrip(bytes(1)).decode()}")
            data = data[16 + length :]
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._events)


@attrs.frozen
class Host:
    """A backup host: one key, which belongs to one tree, and somebody else's repository beside that."""

    root: Path
    borg: str
    sshd: Any
    environment: dict[str, str]

    @property
    def mine(self) -> Path:
        return self.root / "backups" / "mine"

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            words, env=self.environment, cwd=self.root, capture_output=True, timeout=TIMEOUT, check=False, input=stdin
        )

    def ssh(self, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        words = [*shlex.split(self.environment["BORG_RSH"]), "-p", str(self.sshd.port)]
        return self.run(*words, f"{self.sshd.user}@127.0.0.1", command, stdin=stdin)

    def url(self, path: str) -> str:
        return f"ssh://{self.sshd.user}@127.0.0.1:{self.sshd.port}{path}"


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The words that start the server, or those of a Python program that is one."""
    if not hasattr(request, "param"):
        return f"{server_words()} serve"
    program = tmp_path / "server.py"
    program.write_text(request.param)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}"


@pytest.fixture
def host(tmp_path: Path, clients: dict[str, Path], server: str) -> Iterator[Host]:
    backups, secrets, home = tmp_path / "backups", tmp_path / "ssh", tmp_path / "client"
    for directory in (backups / "mine", secrets, home):
        directory.mkdir(parents=True)
    environment = {**CLIENT_ENVIRONMENT, "PATH": os.environ["PATH"], "HOME": str(home)}
    borg = str(clients["1.4.5"])
    for name in ("sibling", "mine2"):
        subprocess.run([borg, "init", "-e", "none", str(backups / name)], env=environment, check=True)
    (backups / "mine" / "way out").symlink_to(backups / "sibling")
    mine = shlex.quote(str(backups / "mine"))
    forced = f"cd {mine}; {server} --restrict-to-path {mine}"
    with load_script("loopback_sshd").LoopbackSshd(secrets, forced) as sshd:
        yield Host(tmp_path, borg, sshd, {**environment, "BORG_RSH": sshd.rsh})


def test_the_keys_own_tree_works(host: Host) -> None:
    for command in (["init", "-e", "none"], ["info"], ["check"], ["delete"]):
        url = host.url(f"{host.mine}/laptop")
        done = host.run(host.borg, *command, url)
        assert done.returncode == 0, done.stderr
    done = host.run(host.borg, "init", "-e", "none", host.url("/./relative"))
    assert done.returncode == 0, done.stderr
    assert (host.mine / "relative" / "config").exists()


PATHS = {
    "a sibling": "{backups}/sibling",
    "the parent": "{backups}",
    "a sibling whose name begins alike": "{backups}/mine2",
    "a symlink that leads out": "{backups}/mine/way out",
    "the home": "/~/sibling",
    "somebody's home": "/~root/sibling",
    "nobody's home": "/~nosuchaccount/sibling",
    "what does not exist": "{backups}/nothing",
}


@pytest.mark.parametrize("name", PATHS)
def test_other_paths_are_refused_in_one_line_and_nothing_there_is_touched(host: Host, name: str) -> None:
    path = PATHS[name].format(backups=host.root / "backups")
    for command in (["info"], ["init", "-e", "none"], ["break-lock"], ["delete"]):
        before = sorted(os.listdir(host.root / "backups"))
        with Canary(host.root / "backups" / "sibling") as canary, Canary(host.root / "backups" / "mine2") as other:
            done = host.run(host.borg, *command, host.url(path))
            assert canary.touched == other.touched == []
        assert done.returncode == 2
        said = [line for line in done.stderr.decode().splitlines() if line.strip()]
        assert said == [f"Repository path not allowed: {path}"]
        assert sorted(os.listdir(host.root / "backups")) == before


RAW_PATHS = ["/", "..", "/./../sibling", "{backups}/mine/../sibling", "//{backups}/sibling//", "way out", "~", "~root"]


@pytest.mark.parametrize("raw", RAW_PATHS)
def test_paths_that_no_borg_client_would_send_are_refused_as_well(host: Host, raw: str) -> None:
    place = host.root / "backups" / "sibling"
    path = raw.format(backups=host.root / "backups")
    calls = [{"i": number, "m": "open", "a": {"path": path, "create": bool(number)}} for number in range(2)]
    with Canary(place) as canary:
        done = host.ssh("borg serve", b"".join(map(msgpack.packb, calls)))
        assert canary.touched == []
    replies = msgpack.Unpacker()
    replies.feed(done.stdout)
    outcomes = [(reply["exception_class"], reply["exception_args"]) for reply in replies]
    assert outcomes == [("PathNotAllowed", [path])] * 2


COMMANDS = [
    "ls -la /",
    "sh -c 'borg serve'",
    "cat {canary}/config",
    "borg serve; cat {canary}/config",
    "borg list {canary}",
    "borg serve --restrict-to-path=/ x",
    "$(cat {canary}/config)",
    "scp -f {canary}/config",
    "scp -t {canary}",
    "internal-sftp",
    "/usr/lib/openssh/sftp-server",
    "rsync --server --sender -logDtpre.iLsfxC . {canary}",
    "borg-serve explain --path {canary}",
    "borg serve 'unbalanced",
    "",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_other_commands_are_refused_in_one_line_and_nothing_is_touched(host: Host, command: str) -> None:
    place = host.root / "backups" / "sibling"
    with Canary(place) as canary:
        done = host.ssh(command.format(canary=place))
        assert canary.touched == []
    if command:
        assert (done.returncode, done.stdout) == (2, b"")
        assert [line.startswith(b"borg-serve: ") for line in done.stderr.splitlines()] == [True], done.stderr
    else:  # an interactive login: the server waits for a client, who is not there
        assert done.stdout == b""


@pytest.mark.parametrize("tool", ["scp", "scp -O", "sftp"])
def test_copying_files_is_refused(host: Host, tool: str) -> None:
    program, *options = tool.split()
    assert shutil.which(program), "install openssh-client"
    place = host.root / "backups" / "sibling"
    words = shlex.split(host.environment["BORG_RSH"])[1:]
    source = f"{host.sshd.user}@127.0.0.1:{place}/config"
    target = [] if program == "sftp" else [str(host.root / "stolen")]
    with Canary(place) as canary:
        done = host.run(program, *options, *words, "-P", str(host.sshd.port), source, *target)
        assert canary.touched == []
    assert done.returncode != 0
    assert not (host.root / "stolen").exists()


@pytest.mark.xfail(not AVAILABLE, reason="this kernel has no Landlock; test_landlock.py sees that the server says so")
@pytest.mark.parametrize("server", [WITHOUT_RESTRICTIONS], indirect=True)
@pytest.mark.parametrize("name", ["a sibling", "a symlink that leads out", "what does not exist"])
def test_a_server_whose_policy_allows_everything_still_opens_nothing_outside(
    host: Host, server: str, name: str
) -> None:
    path = PATHS[name].format(backups=host.root / "backups")
    place = host.root / "backups" / "sibling"
    for command in (["info"], ["init", "-e", "none"], ["break-lock"], ["delete"], ["check", "--repair"]):
        with Canary(place) as canary:
            done = host.run(host.borg, *command, host.url(path))
            assert canary.touched == []
        assert done.returncode == 2
    assert not (host.root / "backups" / "nothing").exists()
