"""Measures how time and memory grow: with the number of objects, with their size, with the number of connections.

python -m benchmarks.scale --borg "BORG serve" --ours "borg-serve" [--objects N ...] [--save PAGE]

Linux only: the memory of many servers is counted with shared pages shared out (Pss).
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .compare import net
from .scenarios import KIB, MIB, commits, fresh_copy, get, open_, put
from .serving import Cost, environment_of_servers, serve
from .tables import save_table, table

OBJECTS = (100_000, 1_000_000, 10_000_000)
SIZES = (100, KIB, 10 * KIB, 100 * KIB, MIB, 8 * MIB)
BYTES = 200 * MIB
MOST_OBJECTS = 40_000
IDLE, ACTIVE = 50, 8

Commands = Mapping[str, str]


def run(commands: Commands, write: Callable[[Path, Path], None], base: Path | None, work: Path) -> dict[str, Cost]:
    """Run what `write` writes once on each server, on a copy of `base`."""
    repository, requests = work / "repository", work / "requests"
    fresh_copy(base, repository)
    write(requests, repository)
    costs = {}
    for name, command in commands.items():
        fresh_copy(base, repository)
        costs[name] = serve(command, requests)
    requests.unlink()
    return costs


def by_number(commands: Commands, work: Path, numbers: Sequence[int]) -> list[str]:
    """Return the table of a repository with ever more objects of 8 bytes."""
    rows = []
    for number in numbers:
        base = work / "base"
        fresh_copy(None, base)
        put(number, 8)(work / "requests", base)
        made = serve(commands["ours"], work / "requests")
        for what, write in (("one get", get(1)), ("one put", commits(1))):
            costs = run(commands, write, base, work)
            rows.append(_row(f"{number:,}", what, costs["borg"], costs["ours"]))
        rows.append((f"{number:,}", "all put at once", "", f"{made.wall:.2f}", "", f"{made.memory / 1e6:.0f}"))
    return table(("objects", "session", "borg s", "ours s", "borg MB", "ours MB"), rows)


def _row(*cells: str | Cost) -> Sequence[str]:
    costs = [cell for cell in cells if isinstance(cell, Cost)]
    return (
        *(cell for cell in cells if isinstance(cell, str)),
        *(f"{cost.wall:.3f}" for cost in costs),
        *(f"{cost.memory / 1e6:.0f}" for cost in costs),
    )


def by_size(commands: Commands, work: Path) -> list[str]:
    """Return the table of objects of ever larger size; microseconds of processor time for each object."""
    empty = work / "empty"
    put(0, 1)(work / "requests", empty)
    serve(commands["borg"], work / "requests")
    start = run(commands, open_, empty, work)
    rows = []
    for size in SIZES:
        count = min(MOST_OBJECTS, BYTES // size)
        costs = run(commands, put(count, size), None, work)
        base = work / "base"
        fresh_copy(None, base)
        put(count, size)(work / "requests", base)
        serve(commands["borg"], work / "requests")
        got = run(commands, get(count), base, work)
        each = (net(cost[name], start[name]).cpu / count * 1e6 for cost in (costs, got) for name in commands)
        rows.append((f"{size:,}", *(f"{microseconds:.1f}" for microseconds in each)))
    return table(("bytes", "put, borg", "put, ours", "get, borg", "get, ours"), rows)


def by_connections(commands: Commands, work: Path) -> list[str]:
    """Return the table of many servers at once: idle ones with the same repository open, active ones with their own."""
    repository = work / "shared"
    fresh_copy(None, repository)
    put(1000, KIB)(work / "requests", repository)
    serve(commands["borg"], work / "requests")
    open_(work / "requests", repository)
    opening = (work / "requests").read_bytes()
    idle = {name: idle_memory(command, opening) for name, command in commands.items()}
    active = {}
    for name, command in commands.items():
        for number in range(ACTIVE):
            fresh_copy(None, work / f"repository-{number}")
            put(MOST_OBJECTS // 2, KIB)(work / f"requests-{number}", work / f"repository-{number}")
        begun = time.perf_counter()
        with ThreadPoolExecutor(ACTIVE) as pool:
            list(pool.map(lambda number: serve(command, work / f"requests-{number}"), range(ACTIVE)))  # noqa: B023
        active[name] = time.perf_counter() - begun
    rows = [
        (f"{IDLE} idle, MB in all", *(f"{idle[name] / 1e6:.0f}" for name in commands)),
        (
            f"{ACTIVE} that put {MOST_OBJECTS // 2:,} objects of 1 KiB each, s",
            *(f"{active[name]:.2f}" for name in commands),
        ),
    ]
    return table(("servers", "borg", "ours"), rows)


def idle_memory(command: str, opening: bytes) -> int:
    """Return the bytes of memory that many servers have which wait for their clients."""
    servers = [
        subprocess.Popen(
            shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment_of_servers()
        )
        for _ in range(IDLE)
    ]
    try:
        for server in servers:
            assert server.stdin is not None
            server.stdin.write(opening)
            server.stdin.flush()
        time.sleep(IDLE / 5)
        return sum(_pss(server.pid) for server in servers)
    finally:
        for server in servers:
            server.communicate()


def _pss(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("\nPss:")[1].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--borg", required=True, help="command line of native borg serve")
    parser.add_argument("--ours", required=True, help="command line of our server")
    parser.add_argument("--objects", type=int, nargs="*", default=OBJECTS, help="how many objects")
    parser.add_argument("--directory", default="/dev/shm", help="where the repositories lie")
    parser.add_argument("--save", type=Path, help="a Markdown file whose tables are to be replaced")
    options = parser.parse_args()
    commands = {"borg": options.borg, "ours": options.ours}
    with tempfile.TemporaryDirectory(dir=options.directory) as temporary:
        work = Path(temporary)
        tables = {
            "connections": by_connections(commands, work),
            "sizes": by_size(commands, work),
            "objects": by_number(commands, work, options.objects),
        }
    for name, lines in tables.items():
        print(*lines, "", sep="\n")
        if options.save:
            save_table(options.save, name, lines)


if __name__ == "__main__":
    main()
