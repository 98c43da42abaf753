"""A machine to walk the documentation on: commands, paths and names are those of the pages, literally.

It is this computer in name spaces of its own: its file systems with a layer above that takes what is written, a network
in which it is `backup.example.org`, a syslog. Nothing of it is left in the end. What would need another network, or
build something, has a stand-in (the folder `stand_ins`); all else is real: sshd, accounts, clients, jq, borg-serve.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.live.stage import CLIENT_ENVIRONMENT, PASSPHRASE

from .blocks import ROOT

HOME = "/home/alice"
STAND_INS = "/stand-ins"
PATH = f"{STAND_INS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT = 60

_MOUNTS = r"""
set -e
top=$1
shift
mount -t tmpfs tmpfs "$top"
for place; do
    number=$((number + 1))
    mkdir -p "$top/$number/upper" "$top/$number/work" "$top/root$place"
    mount -t overlay -o "lowerdir=$place,upperdir=$top/$number/upper,workdir=$top/$number/work" \
        overlay "$top/root$place"
done
mount -t proc proc "$top/root/proc"
mount -t tmpfs tmpfs "$top/root/dev"
for name in null zero full random urandom tty; do
    touch "$top/root/dev/$name"
    mount --bind "/dev/$name" "$top/root/dev/$name"
done
ln -s /proc/self/fd "$top/root/dev/fd"
mkdir -m 1777 "$top/root/dev/shm"
exec chroot "$top/root" "$PYTHON" -c "$FIRST_PROCESS"
"""

# Brings the network up, and writes down what is told to syslog.
_FIRST_PROCESS = r"""
import fcntl, os, socket, struct
with socket.socket() as asked:
    fcntl.ioctl(asked, 0x8914, struct.pack("16sh", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
syslog.bind("/dev/log")
os.chmod("/dev/log", 0o666)
print("ready", flush=True)
while True:
    line = syslog.recv(65536).decode()
    with open("/var/log/syslog", "a") as log:
        log.write(line + "\n")
"""

_SETUP = rf"""
sed -i 's,^\(root:.*\):/root:,\1:{HOME}:,' /etc/passwd
sed -i '/^borg:/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow
printf '127.0.0.1 localhost backup.example.org\n' >/etc/hosts
rm -rf /opt/borg-serve /usr/local/bin/borg-serve /var/lib/borg /var/log/borg-serve /srv/backups
rm -f /var/log/syslog /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/*
chmod 1777 /tmp
mkdir -p {HOME}/.ssh /run/sshd /etc/systemd/system
ssh-keygen -q -t ed25519 -N '' -C alice@laptop -f {HOME}/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -C backup.example.org -f /etc/ssh/ssh_host_ed25519_key
printf 'StrictHostKeyChecking accept-new\nLogLevel ERROR\n' >{HOME}/.ssh/config
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPidFile none\n' >/etc/ssh/sshd_config
seq 1000 >{HOME}/numbers
/usr/sbin/sshd
"""


class Machine:
    """Use it in `with`. `directory`: an empty one, over which it mounts its file systems where nobody else sees it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> Machine:
        words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*words, "sh", "-c", _MOUNTS, "sh", str(self._directory), *_places()],
            env={"PATH": os.environ["PATH"], "PYTHON": sys.executable, "FIRST_PROCESS": _FIRST_PROCESS},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._set_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()  # and all its processes with it

    def _set_up(self) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"
        self._first = int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text())
        assert not os.path.samestat(os.stat(self._outside("/")), os.stat("/"))  # never this computer itself
        head = "#!/bin/sh\nset -e\ntrap '[ $? = 0 ] || echo \"stand-in: not $0 $*\" >&2' EXIT\n"
        head += f"PYTHON='{sys.executable}'\nPROJECT='{ROOT}'\nSTAND_INS={STAND_INS}\n"
        for source in (Path(__file__).parent / "stand_ins").iterdir():
            self.write(f"{STAND_INS}/{source.name}", head + source.read_text(), 0o755)
        ways = {way for place in _needed() for way in (place, *place.parents)}
        for way in ways:  # so that each account can start this Python, on this machine
            place = self._outside(str(way))
            place.chmod(place.stat().st_mode | 0o755)
        for name in ("pip", "python"):  # of the environment that is active
            self.succeed(f"ln -s in-venv-{name} {STAND_INS}/{name}")
        self.succeed(f"ln -s {STAND_INS}/mail /usr/local/bin")  # for commands of the server, too
        self.succeed(_SETUP)

    def _outside(self, path: str) -> Path:
        """Return where a file of the machine is to be found from outside."""
        return Path(f"/proc/{self._first}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, and make the directories above it where they are missing."""
        place = self._outside(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def read(self, path: str) -> str:
        return self._outside(path).read_text()

    def run(self, script: str, *, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a script of bash in the project's directory; `stdout` has what it writes, to stderr too."""
        enter = ["nsenter", f"--target={self._first}", "--mount", "--net", "--pid", "--root", "--wd"]
        become = [] if user == "root" else ["runuser", "-u", user, "--"]
        return subprocess.run(
            [*enter, *become, "bash", "-euo", "pipefail", "-c", f"cd '{ROOT}'\n{script}"],
            env={**CLIENT_ENVIRONMENT, "BORG_PASSPHRASE": PASSPHRASE, "HOME": HOME, "PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def succeed(self, script: str, *, user: str = "root") -> str:
        """Run a script that has to end with status 0; return what it wrote."""
        done = self.run(script, user=user)
        assert done.returncode == 0, f"{script}\nended with status {done.returncode}:\n{done.stdout}"
        return done.stdout


def _needed() -> list[Path]:
    """Return what the accounts of the machine have to reach of this computer."""
    real = Path(sys.executable).resolve().parent
    return [Path(sys.prefix), Path(sys.base_prefix), real, ROOT]


def _places() -> list[str]:
    """Return the file systems that the machine has a layer above, by a directory that is there."""
    root = os.stat("/").st_dev
    others = {str(place) for place in _needed() if place.stat().st_dev != root}
    return ["/", *sorted(others)]
