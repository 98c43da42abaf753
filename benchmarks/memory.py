"""Measures how much memory check, repair, replay and compaction take beyond what an idle server has.

python -m benchmarks.memory --server "borg-serve" [--size BYTES] [--object BYTES]

The repository is made by the server itself, with segments as large as borg makes them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from .serving import Requests, object_ids, payload, serve

PER_TRANSACTION = 256 << 20
"""Bytes put before a commit: the requests lie in a file."""


def make(server: str, repository: Path, requests: Path, size: int, object_size: int) -> int:
    """Make a repository of `size` bytes; return its number of objects."""
    count = size // object_size
    step = max(1, PER_TRANSACTION // object_size)

    def write(begin: int) -> None:
        data = payload(object_size)
        with Requests(requests, repository, create=begin == 0) as session:
            for object_id in islice(object_ids(count), begin, begin + step):
                session.call("put", id=object_id, data=data)
            session.commit()

    for begin in range(0, count, step):
        write(begin)
        serve(server, requests)
    return count


def tasks(count: int) -> dict[str, Callable[[Requests], None]]:
    """Return what is measured, in this order: the last one changes the repository."""

    def compact(session: Requests) -> None:
        for number, object_id in enumerate(object_ids(count)):
            if number % 2:
                session.call("delete", id=object_id)
        session.commit(compact=True)

    return {
        "idle": lambda session: session.call("__len__"),
        "check": lambda session: session.call("check", repair=False, max_duration=0),
        "replay": lambda session: session.call("__len__"),
        "repair": lambda session: session.call("check", repair=True, max_duration=0),
        "compact half": compact,
    }


def measure(server: str, size: int, object_size: int, directory: Path | None = None) -> dict[str, int]:
    """Return the peak memory in bytes of a server doing each of the tasks."""
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        repository, requests = Path(temporary) / "repository", Path(temporary) / "requests"
        count = make(server, repository, requests, size, object_size)
        for name, task in tasks(count).items():
            if name == "replay":
                for file in repository.glob("index.*"):
                    file.unlink()
            with Requests(requests, repository) as session:
                task(session)
            peaks[name] = serve(server, requests).memory
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="command line of the server")
    parser.add_argument("--size", type=int, default=2 << 30, help="bytes in the repository")
    parser.add_argument("--object", type=int, default=1 << 20, help="bytes of an object")
    parser.add_argument("--directory", type=Path, help="where the repository lies")
    options = parser.parse_args()
    peaks = measure(options.server, options.size, options.object, options.directory)
    print("| task | peak, MB | over idle, MB |\n|---|---|---|")
    for name, peak in peaks.items():
        print(f"| {name} | {peak / 1e6:.1f} | {(peak - peaks['idle']) / 1e6:.1f} |")


if __name__ == "__main__":
    main()
