"""Cuts a real client off from its server in the middle of a backup, and sees what becomes of server and lock.

python -m tests.live.cutting CASE DIRECTORY BORG: run it in a network name space of its own, whose loopback it switches
off and on. It ends with status 0 if all is as it should be.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from borg_serve_lib import FileLockManager
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.identity import Identity
from tests.conftest import load_script

from .stage import CLIENT_ENVIRONMENT, TIMEOUT, server_words

AT_ONCE = 2.0
"""Seconds after which the server has to be gone when it can know that nobody is there."""

LIMIT = 2.0
"""Seconds of silence that the host allows; one more for looking once a second."""

ASKING = 12.0
"""Seconds that sshd takes to give a client up, asking twice with a second in between: 7 or 8 were seen."""

ALIVE = "ClientAliveInterval 1\nClientAliveCountMax 2\n"
IDLE = f"--idle-timeout {LIMIT:g}"
HOST_ID = "proof@1"
SLOWLY = ("--upload-ratelimit", "100", "-C", "none", "--chunker-params", "fixed,32768")

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@attrs.frozen
class Case:
    """One way to lose a connection.

    `cut`: does it; `within`: seconds in which the server has to notice. `options`: of the forced command; `settings`:
    of sshd. `waiting`: whether the server is waiting for a lock then, instead of being busy with a backup.
    """

    cut: Callable[[Backup], None]
    within: float
    options: str = ""
    settings: str = ""
    waiting: bool = False


class Backup:
    """A `borg create` that takes its time."""

    def __init__(self, root: Path, borg: str, case: Case) -> None:
        self.repository = root / "backups" / "repo"
        self._root = root
        self._borg = borg
        self._home = root / "client"
        for name in ("backups", "ssh", "client", "another client", "folder"):
            (root / name).mkdir()
        (root / "folder" / "file").write_bytes(os.urandom(3_000_000))
        forced = f"BORG_HOST_ID={HOST_ID} {server_words()} --restrict-to-path {root}/backups {case.options}"
        self.sshd = load_script("loopback_sshd").LoopbackSshd(root / "ssh", forced, case.settings)
        self.client: subprocess.Popen[bytes] | None = None

    def run(self, *words: str) -> None:
        """Run the client to its end, which has to be good."""
        done = subprocess.run(self._command(words), **self._settings(), timeout=TIMEOUT, check=False)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{words}\n{done.stderr.decode()}\n{self.sshd.log.read_text()}"

    def start(self, *words: str) -> None:
        self.client = subprocess.Popen(self._command(words), **self._settings(), start_new_session=True)  # type: ignore[call-overload]

    def come_from_another_machine(self) -> None:
        """The next client shares no cache with the one before, nor the lock of that."""
        self._home = self._root / "another client"

    def server(self) -> int:
        """Return the server's process id: of all below sshd the last one."""
        (*_, last) = descendants(self.sshd.pid)
        return last

    def is_served(self) -> bool:
        """Return whether a server is running."""
        try:
            return comm(self.server()) not in ("sshd", "sh")
        except OSError:  # a process of the session before has just ended
            return False

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [self._borg, *(word.replace("REPO", self.sshd.url(self.repository)) for word in words)]

    def _settings(self) -> dict[str, object]:
        environment = {
            **CLIENT_ENVIRONMENT,
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "BORG_RSH": self.sshd.rsh,
            "BORG_HOST_ID": HOST_ID,
        }
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return {"env": environment, "cwd": self._root, **pipes}


def descendants(pid: int) -> Iterator[int]:
    """Yield a process and all that descend from it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from descendants(int(child))


def client_of(backup: Backup) -> subprocess.Popen[bytes]:
    assert backup.client
    return backup.client


def kill_client(backup: Backup) -> None:
    client_of(backup).kill()


def kill_ssh(backup: Backup) -> None:
    _, ssh = descendants(client_of(backup).pid)
    os.kill(ssh, signal.SIGKILL)


def stop_client(backup: Backup) -> None:
    client_of(backup).send_signal(signal.SIGSTOP)


def stop_client_and_ssh(backup: Backup) -> None:
    os.killpg(client_of(backup).pid, signal.SIGSTOP)


def kill_sshd(backup: Backup) -> None:
    """All of it but the one that listens."""
    _, *sessions = descendants(backup.sshd.pid)
    for process in sessions:
        if comm(process).startswith("sshd"):
            os.kill(process, signal.SIGKILL)


def cut_network(_: Backup) -> None:
    switch_loopback(on=False)


def switch_loopback(*, on: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        flags = flags | _IFF_UP if on else flags & ~_IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags))


CASES = {
    "the client is killed": Case(kill_client, AT_ONCE),
    "ssh is killed": Case(kill_ssh, AT_ONCE),
    "sshd is killed": Case(kill_sshd, AT_ONCE),
    "the client is killed while the server waits for a lock": Case(kill_client, AT_ONCE, waiting=True),
    "ssh is killed while the server waits for a lock": Case(kill_ssh, AT_ONCE, waiting=True),
    "sshd is killed while the server waits for a lock": Case(kill_sshd, AT_ONCE, waiting=True),
    "the client is stopped": Case(stop_client, LIMIT + 1 + AT_ONCE, options=IDLE),
    "client and ssh are stopped": Case(stop_client_and_ssh, ASKING + AT_ONCE, settings=ALIVE),
    "the network is cut, and sshd asks": Case(cut_network, ASKING + AT_ONCE, settings=ALIVE),
    "the network is cut, and the server has a limit": Case(cut_network, LIMIT + 1 + AT_ONCE, options=IDLE),
}


def main() -> None:
    name, directory, borg = sys.argv[1:]
    case = CASES[name]
    switch_loopback(on=True)
    backup = Backup(Path(directory), borg, case)
    lock = FileLockManager.of_this_machine(Identity(HOST_ID)).lock_for(str(backup.repository))
    with backup.sshd:
        backup.run("init", "--encryption", "none", "REPO")
        if case.waiting:
            lock.acquire(LockMode.EXCLUSIVE, 5)
            backup.start("--lock-wait", "600", "create", "REPO::cut", "folder")
            wait_until(backup.is_served)
            time.sleep(1)  # until it has asked for the lock
        else:
            backup.start("create", *SLOWLY, "REPO::cut", "folder")
            wait_until(lambda: any(file.stat().st_size > 50_000 for file in backup.repository.glob("data/*/*")))
            assert list(backup.repository.glob("lock.lease.*"))
        server = backup.server()
        case.cut(backup)
        begun = time.monotonic()
        wait_until(lambda: has_ended(server))
        took = time.monotonic() - begun
        assert took < case.within, f"the server took {took:.1f} seconds"
        lock.release()
        assert not list(backup.repository.glob("lock*")), "something was left of the lock"
        switch_loopback(on=True)
        backup.come_from_another_machine()
        backup.run("--lock-wait", "1", "create", "REPO::next", "folder")
        backup.run("check", "REPO")
        os.killpg(client_of(backup).pid, signal.SIGKILL)
        client_of(backup).communicate()


def has_ended(process: int) -> bool:
    """Return whether a process is gone, but for a status that nobody has asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def comm(process: int) -> str:
    """Return the name of a process's program."""
    return Path(f"/proc/{process}/comm").read_text().strip()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT / 4
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


if __name__ == "__main__":
    main()
