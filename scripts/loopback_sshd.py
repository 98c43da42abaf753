"""A real OpenSSH server of one's own on the loopback interface, for the demo and for tests. Standard library only."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
SECONDS_TO_START = 10

CONFIGURATION = """\
Port {port}
ListenAddress 127.0.0.1
HostKey "{directory}/host_key"
PidFile none
AuthorizedKeysFile "{directory}/authorized_keys"
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
PrintMotd no
"""


class LoopbackSshd:
    """Runs sshd as the current user, with one key that may run one forced command.

    `directory` must exist and is filled with keys and configuration. Use it in `with`: the server is gone afterwards.
    `forced_command` is a shell command line, as it stands in authorized_keys; `settings` are further lines for
    sshd_config.
    """

    def __init__(self, directory: Path, forced_command: str, settings: str = "") -> None:
        self.directory = directory
        self.user = getpass.getuser()
        self.port = _free_port()
        self.log = directory / "sshd.log"
        self.authorized_keys = directory / "authorized_keys"
        for name in ("host_key", "client_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "loopback", "-f", str(directory / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        public_key = (directory / "client_key.pub").read_text().strip()
        escaped = forced_command.replace("\\", "\\\\").replace('"', '\\"')
        self.authorized_keys.write_text(f'command="{escaped}",restrict {public_key}\n')
        host_key = (directory / "host_key.pub").read_text().strip()
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        configuration = CONFIGURATION.format(port=self.port, directory=directory)
        (directory / "sshd_config").write_text(configuration + settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def rsh(self) -> str:
        """The words for BORG_RSH."""
        options = {
            "IdentityFile": self.directory / "client_key",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.directory / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        words = ["ssh", "-F", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())]
        return shlex.join(words)

    @property
    def pid(self) -> int:
        """The process that listens."""
        assert self._process
        return self._process.pid

    def url(self, path: Path) -> str:
        """Return the location of a repository, as clients want it."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{path}"

    def __enter__(self) -> LoopbackSshd:
        if SSHD is None:
            raise RuntimeError("sshd is missing: install openssh-server")
        if os.geteuid() == 0:
            # Its unprivileged child lives there; a machine that never started its own sshd does not have it.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [SSHD, "-D", "-f", str(self.directory / "sshd_config"), "-E", str(self.log)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_until_it_answers(self) -> None:
        assert self._process
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        log = self.log.read_text() if self.log.exists() else "it left no log"
        raise RuntimeError(f"sshd does not answer on port {self.port}: {log}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=SECONDS_TO_START)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
