"""What the lock tests share: a world with a clock of its own, recorded events, and real processes to hold locks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from borg_serve_lib.locking.base import NOBODY, LockManager, RepositoryLock, go_on
from borg_serve_lib.locking.identity import Identity
from borg_serve_lib.locking.judge import Processes
from borg_serve_lib.locking.manager import FileLockManager
from borg_serve_lib.reporting import Event, Peer, Reporter


class World:
    """A clock that only sleeping moves, and things that happen at a time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._plan: list[tuple[float, Callable[[], object]]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds
        due = [step for step in self._plan if step[0] <= self.now]
        for step in due:
            self._plan.remove(step)
            step[1]()

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        self._plan.append((self.now + seconds, action))


class Recorder(Reporter):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)


class FakeProcesses(Processes):
    """All are alive but the named."""

    def __init__(self, *dead: int) -> None:
        self.dead = set(dead)

    def alive(self, pid: int) -> bool:
        return pid not in self.dead


class Disk:
    """Managers that share a world and a disk, each as if in a process of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes = FakeProcesses()
        self.reporter = Recorder()

    def manager(self, pid: int, host: str = "here@1") -> FileLockManager:
        return FileLockManager(
            Identity(host, pid=lambda: pid),
            processes=self.processes,
            clock=self.world.clock,
            now=lambda: self.world.now,
            sleep=self.world.sleep,
            is_local_disk=lambda _: True,
            reporter=self.reporter,
        )


class OneProcessEach(LockManager):
    """Gives every lock a process of its own."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._next_pid = 100

    def lock_for(
        self,
        path: str,
        reporter: Reporter | None = None,
        *,
        peer: Peer = NOBODY,
        interrupt: Callable[[], None] = go_on,
    ) -> RepositoryLock:
        self._next_pid += 1
        return self._disk.manager(self._next_pid).lock_for(path, reporter, peer=peer, interrupt=interrupt)


def lock_files(repository: Path) -> list[str]:
    """Return all that concerns locks below `repository`, as relative paths."""
    return sorted(str(path.relative_to(repository)) for path in repository.rglob("lock*"))


def borgs_files(repository: Path) -> list[str]:
    """As `lock_files`, without the leases, which native borg has not."""
    return [name for name in lock_files(repository) if not name.startswith("lock.lease.")]


def real_manager(host_id: str | None = None, reporter: Reporter | None = None) -> FileLockManager:
    return FileLockManager.of_this_machine(Identity(host_id), reporter=reporter)


_PREAMBLE = """
import os, sys, time
from pathlib import Path
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.identity import Identity
from borg_serve_lib.locking.manager import FileLockManager
from borg_serve_lib.locking.judge import KernelProcesses
from borg_serve_lib.locking.machine import is_local_disk
from borg_serve_lib.reporting import Reporter
path = sys.argv[1]
host_id = sys.argv[2]
def manager(sleep=time.sleep):
    return FileLockManager(
        Identity(host_id),
        processes=KernelProcesses(),
        clock=time.monotonic,
        now=time.time,
        sleep=sleep,
        is_local_disk=is_local_disk,
        reporter=Reporter(),
    )
"""

_HOLD = """
lock = manager().lock_for(path)
lock.acquire(LockMode[sys.argv[3]], 5)
print("locked", flush=True)
sys.stdin.read()
lock.release()
"""


def start_python(code: str, *arguments: object, container: bool = False) -> subprocess.Popen[bytes]:
    """Start a process with `code`, which finds `path`, `host_id` (the first two arguments) and `manager()`.

    `container`: as process 1 of a name space for process ids of its own.
    """
    command = [sys.executable, "-c", _PREAMBLE + code, *map(str, arguments)]
    if container:
        privileged = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *privileged, "--pid", "--fork", "--kill-child", *command]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A context at whose end `process` gets end of file, and has ended."""
    try:
        with process:
            yield process
    finally:
        if process.poll() is None:
            process.kill()


@contextmanager
def holding(command: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A context in which the started `command` holds a lock, of which its first line tells."""
    with ended(command):
        assert command.stdout is not None
        assert command.stdout.readline() == b"locked\n"
        yield command
        assert command.stdin is not None
        command.stdin.close()
        command.wait(timeout=20)


def ours_holding(repository: Path, mode: str, host_id: str = "", *, container: bool = False) -> subprocess.Popen[bytes]:
    return start_python(_HOLD, repository, host_id, mode, container=container)


def kill_for_good(process: subprocess.Popen[bytes]) -> None:
    """Kill `process` and wait until no process has its id any more."""
    process.kill()
    process.wait(timeout=20)


def dead_pid() -> int:
    """Return the id of a process that has ended."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process
