"""What is measured: each scenario is a repository to start from and a file of requests."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs

from .serving import Requests, object_ids, payload, serve

KIB, MIB = 1 << 10, 1 << 20
LARGE, HUGE, SMALL = 400, 50, 40_000
"""How many objects of 1 MiB, of 8 MiB and of 1 KiB."""


@attrs.frozen
class Scenario:
    """`base`: the prepared repository that each run gets a copy of, or None for a new one. `write` writes the
    requests. `figure`: the column the target speaks of, `target`: borg / ours. `net`: without the cost of starting.
    """

    name: str
    base: str | None
    write: Callable[[Path, Path], None]
    figure: str
    target: float
    net: bool = True


def _put(count: int, size: int) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        data = payload(size)
        with Requests(path, repository, create=True) as requests:
            for object_id in object_ids(count):
                requests.call("put", id=object_id, data=data)
            requests.commit()

    return write


def _get(count: int, *, shuffled: bool = False, times: int = 1) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        ids = list(object_ids(count)) * times
        if shuffled:
            random.Random(1).shuffle(ids)
        with Requests(path, repository, exclusive=False) as requests:
            for object_id in ids:
                requests.call("get", id=object_id)

    return write


def _open(path: Path, repository: Path) -> None:
    Requests(path, repository, exclusive=False).__exit__()


def _list(path: Path, repository: Path) -> None:
    with Requests(path, repository, exclusive=False) as requests:
        for _ in range(50):
            requests.call("list", limit=100_000, marker=None)


def _delete(count: int, *, compact: bool) -> Callable[[Path, Path], None]:
    def write(path: Path, repository: Path) -> None:
        with Requests(path, repository) as requests:
            for number, object_id in enumerate(object_ids(count)):
                if number % 2:
                    requests.call("delete", id=object_id)
            requests.commit(compact=compact)

    return write


def _commits(path: Path, repository: Path) -> None:
    with Requests(path, repository) as requests:
        for object_id in object_ids(20, seed=1):
            requests.call("put", id=object_id, data=b"x")
            requests.commit()


def _check(path: Path, repository: Path) -> None:
    with Requests(path, repository) as requests:
        requests.call("check", repair=False, save_space=False, max_duration=0)


SCENARIOS = (
    Scenario("start (negotiate + open)", "small", _open, "wall", 6, net=False),
    Scenario("put 1 MiB", None, _put(LARGE, MIB), "cpu", 3),
    Scenario("put 8 MiB", None, _put(HUGE, 8 * MIB), "cpu", 3),
    Scenario("put 1 KiB", None, _put(SMALL, KIB), "cpu", 4),
    Scenario("get 1 MiB", "large", _get(LARGE), "cpu", 3),
    Scenario("get 8 MiB", "huge", _get(HUGE), "cpu", 3),
    Scenario("get 1 KiB in order", "small", _get(SMALL), "cpu", 5),
    Scenario("get 1 KiB at random", "small", _get(SMALL, shuffled=True), "cpu", 5),
    Scenario("list", "small", _list, "cpu", 3),
    Scenario("delete", "small", _delete(SMALL, compact=False), "cpu", 3),
    Scenario("20 commits of one object", "small", _commits, "wall", 1),
    Scenario("check, large objects", "large", _check, "wall", 2),
    Scenario("check, small objects", "small", _check, "wall", 2),
    Scenario("compact half, large objects", "large", _delete(LARGE, compact=True), "wall", 2),
    Scenario("compact half, small objects", "small", _delete(SMALL, compact=True), "wall", 2),
)

BASES: dict[str, tuple[int, int]] = {"large": (LARGE, MIB), "huge": (HUGE, 8 * MIB), "small": (SMALL, KIB)}
"""Prepared repositories: number and size of their objects."""


def prepare(base: str, directory: Path, borg: str) -> Path:
    """Make a prepared repository with native borg."""
    repository = directory / base
    requests = directory / f"{base}.requests"
    _put(*BASES[base])(requests, repository)
    serve(borg, requests)
    requests.unlink()
    return repository


def fresh_copy(base: Path | None, target: Path) -> None:
    """Put a copy of a prepared repository, or nothing, at `target`."""
    shutil.rmtree(target, ignore_errors=True)
    if base is not None:
        shutil.copytree(base, target)
