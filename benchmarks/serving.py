"""Runs a server over a prepared file of requests and measures it. No client is in the way."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import msgpack

LAUNCHER = """
import json, os, sys, time
begun = time.perf_counter()
pid = os.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
status, usage = os.wait4(pid, 0)[1:]
figures = [time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024]
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(figures) + chr(10))
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""
"""Linux counts the size of a parent as the first size of its child: this one has 9 MB, less than any server."""


@attrs.frozen
class Cost:
    """`wall` and `cpu` (user and system) in seconds, `memory`: peak in bytes."""

    wall: float
    cpu: float
    memory: int


def launched(command: str, figures: Path) -> list[str]:
    """Return the words that run `command` and append its figures to a file, one line for each run."""
    return [sys.executable, "-I", "-S", "-c", LAUNCHER, str(figures), *shlex.split(command)]


def read_costs(figures: Path) -> list[Cost]:
    """Return what the launcher has written."""
    return [Cost(*json.loads(line)) for line in figures.read_text().splitlines()]


def environment_of_servers(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the caller's environment without what would change what is measured."""
    ignored = ("PYTHONDONTWRITEBYTECODE", "BORG_SELFTEST")
    return {**{name: value for name, value in os.environ.items() if name not in ignored}, **(changes or {})}


def serve(command: str, requests: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run `command` with the file `requests` as its standard input until it exits."""
    with tempfile.TemporaryDirectory() as temporary, requests.open("rb") as stdin:
        figures = Path(temporary) / "figures"
        done = subprocess.run(
            launched(command, figures),
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment_of_servers(environment),
            check=False,
        )
        if done.returncode or b'"ERROR"' in done.stderr or b"Traceback" in done.stderr:
            sys.exit(f"{command}: exit {done.returncode}: {done.stderr[-2000:].decode(errors='replace')}")
        return read_costs(figures)[0]


def in_turn(names: Iterable[str], run: int) -> list[str]:
    """Return the names in the order of this run: none is always the first."""
    ordered = list(names)
    return ordered[::-1] if run % 2 else ordered


@contextmanager
def ballast(directory: Path, size: int) -> Iterator[None]:
    """Keep memory of a virtual machine in use that is about to be needed: a file of `size` bytes on a tmpfs, which
    gets smaller as others grow.

    A page that the host of the machine has to give takes nine times as long as one that is in use (4.3 s for a GiB on a
    tmpfs, not 0.5), and seconds after it was freed the host has it again.
    """
    piece, step = bytes(1 << 20), 8 << 20

    def free() -> int:
        room = os.statvfs(directory)
        return room.f_bavail * room.f_frsize

    def give_way() -> None:
        left = size
        while left and not ended.wait(0.01):
            lacking = least - free()
            if lacking > 0:
                left = max(0, left - lacking - step)
                file.truncate(left)

    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)
        file.flush()
        least, ended = free(), threading.Event()
        keeper = threading.Thread(target=give_way)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join()


class Requests:
    """Writes requests as client 1.4 does: a positional negotiation, then the named format."""

    def __init__(self, path: Path, repository: Path, *, exclusive: bool = True, create: bool = False) -> None:
        self._file = path.open("wb", buffering=1 << 20)
        self._msgid = 1
        version = {"client_version": (1, 4, 5, -1)}
        self._file.write(msgpack.packb((1, 1, "negotiate", (version,)), use_bin_type=False))
        self.call(
            "open",
            path=str(repository),
            create=create,
            lock_wait=1,
            lock=True,
            exclusive=exclusive,
            append_only=False,
            make_parent_dirs=False,
        )

    def call(self, method: str, **arguments: object) -> None:
        self._msgid += 1
        self._file.write(msgpack.packb({"i": self._msgid, "m": method, "a": arguments}, use_bin_type=False))

    def commit(self, *, compact: bool = False) -> None:
        self.call("commit", save_space=False, compact=compact, threshold=0.1, cleanup_commits=False)

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()


def object_ids(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` ids that look like hashes, the same for the same `seed`."""
    for number in range(count):
        yield hashlib.sha256(b"%d %d" % (seed, number)).digest()


def payload(size: int) -> bytes:
    """Return `size` bytes that do not compress."""
    return os.urandom(size)


def median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def typical(costs: Iterable[Cost]) -> Cost:
    """Return the median of each figure."""
    taken = list(costs)
    return Cost(
        median(cost.wall for cost in taken),
        median(cost.cpu for cost in taken),
        int(median(cost.memory for cost in taken)),
    )
