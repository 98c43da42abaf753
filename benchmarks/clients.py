"""Runs a real client through `borg serve` and through ours, in turn: what it waited, and what the server cost.

python -m benchmarks.clients --client BORG --borg "BORG serve" --ours "borg-serve" [--runs N]

Each run makes new trees and repositories. The figures are the medians of all runs. It takes 12 GB of memory.
"""

from __future__ import annotations

import argparse
import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from .serving import Cost, ballast, environment_of_servers, in_turn, launched, read_costs, typical
from .tables import save_table, table

HEADER = (
    *("files", "command", "borg wall", "ours wall", "borg server cpu", "ours server cpu", "borg MB", "ours MB"),
    *("wall", "server cpu", "memory"),
)
TREES = {"20 of 100 MiB": (20, 100 << 20), "50,000 of 2 KiB": (50_000, 2 << 10)}
"""The large ones first: small ones leave the memory in pieces, and the time it takes to find some is no server's."""

STEPS: Sequence[tuple[str, Sequence[str]]] = (
    ("create", ("create", "--compression", "none", "REPO::first", "TREE")),
    ("create, half changed", ("create", "--compression", "none", "REPO::second", "TREE")),
    ("extract", ("extract", "--dry-run", "REPO::second")),
    ("check", ("check", "REPO")),
    ("prune", ("prune", "--keep-last", "1", "REPO")),
    ("compact", ("compact", "REPO")),
)
CHANGED_BEFORE = "create, half changed"


def write_files(tree: Path, numbers: Sequence[int], size: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in numbers:
        file = tree / f"{number // 500}" / f"{number}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(chance.randbytes(size))


class Side:
    """A client with a server of its own, and their repository."""

    def __init__(self, root: Path, client: str, server: str) -> None:
        root.mkdir()
        self._root = root
        self._client = client
        self._figures = root / "figures"
        stand_in = root / "stand-in-for-ssh"
        stand_in.write_text(f"#!/bin/sh\nexec {shlex.join(launched(server, self._figures))}\n")
        stand_in.chmod(0o700)
        self._environment = environment_of_servers(
            {
                "BORG_BASE_DIR": str(root),
                "BORG_RSH": str(stand_in),
                "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            }
        )

    def run(self, tree: Path, *words: str) -> Cost:
        """Run the client; return what it waited in all, and what the server cost."""
        self._figures.unlink(missing_ok=True)
        location = f"ssh://host{self._root}/repository"
        command = [word.replace("REPO", location).replace("TREE", str(tree)) for word in words]
        begun = time.perf_counter()
        done = subprocess.run(
            [*shlex.split(self._client), *command],
            env=self._environment,
            cwd=self._root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        wall = time.perf_counter() - begun
        if done.returncode:
            sys.exit(f"{shlex.join(command)}: exit {done.returncode}: {done.stderr[-2000:].decode(errors='replace')}")
        return attrs.evolve(read_costs(self._figures)[0], wall=wall)


def measure(
    client: str, servers: Mapping[str, str], count: int, size: int, directory: Path, run: int
) -> Iterator[tuple[str, str, Cost]]:
    """Yield (command, server, cost) of a tree with `count` files of `size` bytes."""
    tree = directory / "tree"
    tree.mkdir()
    write_files(tree, range(count), size, 1)
    sides = {name: Side(directory / name, client, server) for name, server in servers.items()}
    for side in sides.values():
        side.run(tree, "init", "--encryption", "none", "REPO")
    for name, words in STEPS:
        if name == CHANGED_BEFORE:
            write_files(tree, range(0, count, 2), size, 2)
        for key in in_turn(sides, run):
            with ballast(directory, count * size):
                cost = sides[key].run(tree, *words)
            yield name, key, cost


def row(files: str, name: str, costs: Mapping[str, Cost]) -> Sequence[str]:
    borg, ours = costs["borg"], costs["ours"]
    return (
        *(files, name),
        *(f"{seconds:.2f}" for seconds in (borg.wall, ours.wall, borg.cpu, ours.cpu)),
        *(f"{cost.memory / 1e6:.0f}" for cost in (borg, ours)),
        *(f"{ratio:.1f}" for ratio in (borg.wall / ours.wall, borg.cpu / ours.cpu, borg.memory / ours.memory)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", required=True, help="command line of the client")
    parser.add_argument("--borg", required=True, help="command line of native borg serve")
    parser.add_argument("--ours", required=True, help="command line of our server")
    parser.add_argument("--runs", type=int, default=1, help="runs of each command, in turn")
    parser.add_argument("--directory", default="/dev/shm", help="where trees and repositories lie")
    parser.add_argument("--save", type=Path, help="a Markdown file whose table is to be replaced")
    options = parser.parse_args()
    servers = {"borg": options.borg, "ours": options.ours}
    rows: list[Sequence[str]] = []
    for files, (count, size) in TREES.items():
        costs: dict[str, dict[str, list[Cost]]] = defaultdict(lambda: defaultdict(list))
        for run in range(options.runs):
            with tempfile.TemporaryDirectory(dir=options.directory) as temporary:
                for name, server, cost in measure(options.client, servers, count, size, Path(temporary), run):
                    costs[name][server].append(cost)
        for name, taken in costs.items():
            rows.append(row(files, name, {server: typical(each) for server, each in taken.items()}))
            print(*table(HEADER, rows[-1:])[0 if len(rows) == 1 else 2 :], sep="\n", flush=True)
    if options.save:
        save_table(options.save, "clients", table(HEADER, rows))


if __name__ == "__main__":
    main()
