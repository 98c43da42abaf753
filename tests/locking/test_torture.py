"""Many processes, thousands of acquisitions of one lock: nobody ever gets it who must not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from tests.conftest import folder_in_memory

from .support import ended, lock_files, real_manager, start_python

HOST = "proof@1"

_TORTURE = """
import random
from borg_serve_lib.errors import LockTimeout
number, rounds, deadliness = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
random.seed(number)
locks = manager(lambda seconds: time.sleep(min(seconds, random.uniform(0.0005, 0.004))))
work = Path(path) / "work"
reader = work / f"reader-{number}"

def check(condition, text):
    if not condition:
        print(text, sorted(os.listdir(work)), flush=True)
        os._exit(1)

def write(lock):
    os.close(os.open(work / "writer", os.O_CREAT | os.O_EXCL))
    check(sorted(os.listdir(work)) == ["count", "writer"], "writer among others")
    count = int((work / "count").read_text())
    (work / "count").write_text(str(count + 1))
    check(lock.holds_exclusive(), "lost the lock")
    os.unlink(work / "writer")
    print("w", end="", flush=True)

def read(lock):
    reader.touch()
    check("writer" not in os.listdir(work), "reader beside a writer")
    os.unlink(reader)

for left in reversed(range(rounds)):
    action = random.choice("wwrru")
    lock = locks.lock_for(path)
    lock.acquire(LockMode.EXCLUSIVE if action == "w" else LockMode.SHARED, 60)
    if action != "w":
        read(lock)
    if action == "u":
        try:
            lock.upgrade(0.01)
        except LockTimeout:
            read(lock)
    if lock.mode is LockMode.EXCLUSIVE:
        write(lock)
    if deadliness and (random.random() < deadliness or not left):
        os.kill(os.getpid(), 9)
        os._exit(137)  # process 1 of a container cannot be killed from within
    lock.release()
"""

PROCESSES = 8
ACQUISITIONS = {
    "one host": 10_000,
    "two hosts": 2_500,
    "containers in which all are process 1 of one host": 2_500,
}
PLACES = {
    "one host": ([HOST], False),
    "two hosts": ([HOST, "elsewhere@2"], False),
    "containers in which all are process 1 of one host": ([HOST], True),
}
IN_MEMORY = "one host"
"""The place that takes longest, in half the time; the others show the same on a disk."""
MOST_IF_DEADLY = 1250
"""Acquisitions of a process that does not die before: it dies at one of a hundred and twenty-five, on an average."""


@pytest.fixture
def repository(place: str, tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk, or in memory."""
    with folder_in_memory() if place == IN_MEMORY else nullcontext(tmp_path) as directory:
        yield directory


@pytest.mark.parametrize("deadly", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_nobody_ever_gets_the_lock_twice(
    repository: Path, place: str, deadly: bool, record_property: Callable[[str, object], None]
) -> None:
    """Deadly: the processes are killed, one after the other, with the lock in their hands."""
    hosts, container = PLACES[place]
    acquisitions = ACQUISITIONS[place]
    each = MOST_IF_DEADLY if deadly else acquisitions // PROCESSES
    deadliness = 10 / each if deadly else 0
    work = repository / "work"
    work.mkdir()
    (work / "count").write_text("0")
    written = 0
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                ended(
                    start_python(
                        _TORTURE, repository, hosts[seed % len(hosts)], seed, each, deadliness, container=container
                    )
                )
            )
            for seed in range(PROCESSES)
        ]
        # All at once: until a killed one is waited for, its process id is not free.
        while [process for process in processes if process.poll() is None]:
            time.sleep(0.01)
        for process in processes:
            output = process.communicate()[0]
            assert output == b"w" * len(output), output
            assert process.returncode in ((-signal.SIGKILL, 128 + signal.SIGKILL) if deadly else (0,))
            written += len(output)
    assert written == int((work / "count").read_text())
    assert written > (50 if deadly else acquisitions / 3)
    assert os.listdir(work) == ["count"]
    if not deadly:
        assert lock_files(repository) == []
        record_property("acquisitions of one lock by 8 processes", acquisitions)
    with real_manager(HOST).exclusive(str(repository), wait=0):
        pass
    assert lock_files(repository) == []
