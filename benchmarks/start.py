"""Measures what a client waits for first: the server's start and its answers to `negotiate` and `open`.

python -m benchmarks.start --borg "BORG serve" --ours "PYTHON -m borg_serve_lib" [--runs N]

The servers take turns. Time runs from the start of the process to its answer to `open`; memory is the peak up to
there (Linux).
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgpack

from .serving import Cost, Requests, environment_of_servers, serve, typical

SERVERS = ("borg serve", "borg serve, no self test", "ours")
HEADER = ("server", "answer, ms", "CPU, ms", "memory, MB", "answer / ours", "CPU / ours", "memory / ours")
NO_SELF_TEST = {"BORG_SELFTEST": "disabled"}


def start(command: str, requests: bytes, environment: Mapping[str, str]) -> Cost:
    """Start a server, send `requests`, wait for two answers, let it end."""
    env = environment_of_servers(environment)
    begun = time.perf_counter()
    process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(requests)
    process.stdin.flush()
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    answers: list[object] = []
    while len(answers) < 2:
        received = os.read(process.stdout.fileno(), 1 << 16)
        if not received:
            sys.exit(f"{command}: ended after {len(answers)} answers")
        unpacker.feed(received)
        answers += unpacker
    wall = time.perf_counter() - begun
    memory = peak(process.pid)
    process.stdin.close()
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    opened = answers[1]
    if process.returncode or not isinstance(opened, dict) or b"r" not in opened:
        sys.exit(f"{command}: exit {process.returncode}, {opened!r}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, memory)


def peak(pid: int) -> int:
    """Return the most memory a process has had, in bytes, without that of its parent."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--borg", required=True, help="command line of native borg serve")
    parser.add_argument("--ours", required=True, help="command line of our server")
    parser.add_argument("--runs", type=int, default=15, help="runs of each, in turn")
    options = parser.parse_args()
    commands: dict[str, tuple[str, dict[str, str]]] = dict(
        zip(SERVERS, ((options.borg, {}), (options.borg, NO_SELF_TEST), (options.ours, {})), strict=True)
    )
    costs: dict[str, list[Cost]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as temporary:
        repository, requests = Path(temporary) / "repository", Path(temporary) / "requests"
        with Requests(requests, repository, create=True) as creating:
            creating.call("put", id=bytes(32), data=b"an object")
            creating.commit()
        serve(options.borg, requests)
        Requests(requests, repository, exclusive=False).__exit__()
        opening = requests.read_bytes()
        for turn in range(options.runs + 1):
            for name, (command, environment) in commands.items():
                cost = start(command, opening, environment)
                if turn:  # the first one writes byte code and warms the disk's cache
                    costs[name].append(cost)
    show({name: typical(taken) for name, taken in costs.items()})


def show(costs: Mapping[str, Cost]) -> None:
    ours = costs["ours"]
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    for name, cost in costs.items():
        figures = (
            f"{cost.wall * 1e3:.0f}",
            f"{cost.cpu * 1e3:.0f}",
            f"{cost.memory / 1e6:.1f}",
            f"{cost.wall / ours.wall:.1f}",
            f"{cost.cpu / ours.cpu:.1f}",
            f"{cost.memory / ours.memory:.1f}",
        )
        print(f"| {name} | " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()
