"""What is measured: each scenario is a repository to start from and a file of requests."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from borg_serve_lib.format.hashindex import IndexTable

from .serving import Requests, object_ids, payload, serve

KIB, MIB = 1 << 10, 1 << 20
LARGE, HUGE, SMALL, MANY = 400, 50, 40_000, 2_000_000
"""How many objects of 1 MiB, of 8 MiB, of 1 KiB, and of a few bytes."""

PAGE = 100_000
"""Ids that a client asks for at once."""


@attrs.frozen
class Scenario:
    """`base`: the prepared repository that each run gets a copy of, or None for a new one. `write` writes the
    requests, the repository being there. `targets`: borg / ours, at least, by figure. `net`: without the cost of
    starting. `on_disk`: on a disk and not in memory. `most_runs`: of each server. `rewrites`: whether the repository is
    another one afterwards.
    """

    name: str
    base: str | None
    write: Callable[[Path, Path], None]
    targets: Mapping[str, float]
    net: bool = True
    on_disk: bool = False
    most_runs: int = 100
    rewrites: bool = True


def put(count: int, size: int) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        data = payload(size)
        with Requests(path, repository, create=True) as requests:
            for object_id in object_ids(count):
                requests.call("put", id=object_id, data=data)
            requests.commit()

    return write


def get(count: int, *, shuffled: bool = False) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        ids = list(object_ids(count))
        if shuffled:
            random.Random(1).shuffle(ids)
        with Requests(path, repository, exclusive=False) as requests:
            for object_id in ids:
                requests.call("get", id=object_id)

    return write


def open_(path: Path, repository: Path) -> None:
    Requests(path, repository, exclusive=False).__exit__()


def _list(times: int) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        markers = [None, *_last_ids_of_pages(repository)]
        with Requests(path, repository, exclusive=False) as requests:
            for _ in range(times):
                for marker in markers:
                    requests.call("list", limit=PAGE, marker=marker)

    return write


def _last_ids_of_pages(repository: Path) -> Iterator[bytes]:
    table = IndexTable.load(memoryview(next(repository.glob("index.*")).read_bytes()), writable=False)
    for number, object_id in enumerate(table.ids(), 1):
        if number % PAGE == 0:
            yield object_id


def _delete(count: int, *, compact: bool) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        with Requests(path, repository) as requests:
            for number, object_id in enumerate(object_ids(count)):
                if number % 2:
                    requests.call("delete", id=object_id)
            requests.commit(compact=compact)

    return write


def commits(count: int) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        with Requests(path, repository) as requests:
            for object_id in object_ids(count, seed=1):
                requests.call("put", id=object_id, data=b"x")
                requests.commit()

    return write


def _check(path: Path, repository: Path) -> None:
    with Requests(path, repository) as requests:
        requests.call("check", repair=False, save_space=False, max_duration=0)


SCENARIOS = (
    Scenario("start (negotiate + open)", "small", open_, {"wall": 6, "memory": 3}, net=False, rewrites=False),
    Scenario("put 1 MiB", None, put(LARGE, MIB), {"cpu": 3}),
    Scenario("put 8 MiB", None, put(HUGE, 8 * MIB), {"cpu": 3}),
    Scenario("put 1 KiB", None, put(SMALL, KIB), {"cpu": 4}),
    Scenario("get 1 MiB", "large", get(LARGE), {"cpu": 3}, rewrites=False),
    Scenario("get 8 MiB", "huge", get(HUGE), {"cpu": 3}, rewrites=False),
    Scenario("get 1 KiB in order", "small", get(SMALL), {"cpu": 5}, rewrites=False),
    Scenario("get 1 KiB at random", "small", get(SMALL, shuffled=True), {"cpu": 5}, rewrites=False),
    Scenario("list", "small", _list(50), {"cpu": 3}, rewrites=False),
    Scenario("delete", "small", _delete(SMALL, compact=False), {"cpu": 3}),
    Scenario("start and 20 commits", "small", commits(20), {"wall": 1}, net=False),
    Scenario("check, large objects", "segments", _check, {"wall": 2}),
    Scenario("check, small objects", "small", _check, {"wall": 2}),
    Scenario("compact half, large objects", "large", _delete(LARGE, compact=True), {"wall": 2}),
    Scenario("compact half, small objects", "small", _delete(SMALL, compact=True), {"wall": 2}),
    Scenario("put 1 MiB on disk", None, put(LARGE, MIB), {"wall": 1.3}, on_disk=True),
    Scenario("put 1 KiB on disk", None, put(SMALL, KIB), {"wall": 1.3}, on_disk=True),
    Scenario("start and 20 commits on disk", "small", commits(20), {"wall": 1}, net=False, on_disk=True),
    Scenario("compact half on disk", "large", _delete(LARGE, compact=True), {"wall": 2}, on_disk=True),
    Scenario("2 million objects: one get", "many", get(1), {"wall": 20, "memory": 5}, net=False, rewrites=False),
    Scenario("2 million objects: one put", "many", commits(1), {"wall": 3, "memory": 3}, net=False),
    Scenario("2 million objects: list all", "many", _list(1), {"wall": 1, "memory": 1}, net=False, rewrites=False),
    Scenario("2 million new objects", None, put(MANY, 8), {"memory": 1}, net=False, most_runs=1),
)

BASES: dict[str, tuple[int, int]] = {
    "large": (LARGE, MIB),
    "huge": (HUGE, 8 * MIB),
    "segments": (4 * LARGE, MIB),
    "small": (SMALL, KIB),
    "many": (MANY, 8),
}
"""Prepared repositories: number and size of their objects."""


def prepare(base: str, directory: Path, command: str) -> Path:
    """Make a prepared repository with the server `command`."""
    repository = directory / base
    requests = directory / f"{base}.requests"
    put(*BASES[base])(requests, repository)
    serve(command, requests)
    requests.unlink()
    return repository


def fresh_copy(base: Path | None, target: Path) -> None:
    """Put a copy of a prepared repository, or nothing, at `target`."""
    shutil.rmtree(target, ignore_errors=True)
    if base is not None:
        shutil.copytree(base, target)
