"""Runs a server over a prepared file of requests and measures it. No client is in the way."""

from __future__ import annotations

import hashlib
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import msgpack


@attrs.frozen
class Cost:
    """`wall` and `cpu` (user and system) in seconds, `memory`: peak in bytes."""

    wall: float
    cpu: float
    memory: int


def serve(command: str, requests: Path, environment: dict[str, str] | None = None) -> Cost:
    """Run `command` with the file `requests` as its standard input until it exits."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env.update(environment or {})
    start = time.perf_counter()
    with requests.open("rb") as stdin:
        process = subprocess.Popen(
            shlex.split(command), stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env
        )
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command}: exit {process.returncode}: {said[-2000:].decode(errors='replace')}")
    for line in said.splitlines():
        if b'"ERROR"' in line or b"Traceback" in line:
            sys.exit(f"{command}: {said[-2000:].decode(errors='replace')}")
    if usage.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        # The system counts the size of the parent as the first size of its child.
        print(f"{command} took no more memory than this program: the figure is too high", file=sys.stderr)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * resource_unit())


def resource_unit() -> int:
    """Bytes in the unit of ru_maxrss on this system."""
    return 1 if sys.platform == "darwin" else 1024


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
