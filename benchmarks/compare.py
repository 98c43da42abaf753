"""Runs the same requests into `borg serve` and into ours, in turn, and prints the costs as ratios.

python -m benchmarks.compare --borg "BORG serve" --ours "PYTHON -m borg_serve_lib" [--runs N] [--only WORD]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs

from .scenarios import BASES, SCENARIOS, Scenario, fresh_copy, prepare
from .serving import Cost, in_turn, serve, typical
from .tables import save_table, table

HEADER = ("scenario", "borg wall", "ours wall", "borg cpu", "ours cpu", "borg MB", "ours MB", "wall", "cpu", "memory")
MADE_BY_US = ("many",)
"""Prepared repositories of which native borg would need minutes."""


def measure(
    scenario: Scenario, commands: Mapping[str, str], base: Path | None, work: Path, runs: int
) -> dict[str, Cost]:
    repository, requests = work / "repository", work / "requests"
    fresh_copy(base, repository)
    scenario.write(requests, repository)
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for run in range(min(runs, scenario.most_runs)):
        for name in in_turn(commands, run):
            if scenario.rewrites:
                fresh_copy(base, repository)
            costs[name].append(serve(commands[name], requests))
    requests.unlink()
    fresh_copy(None, repository)
    return {name: typical(taken) for name, taken in costs.items()}


def net(cost: Cost, start: Cost) -> Cost:
    """Return `cost` without the time that starting takes."""
    return attrs.evolve(cost, wall=max(cost.wall - start.wall, 1e-6), cpu=max(cost.cpu - start.cpu, 1e-6))


def row(scenario: Scenario, borg: Cost, ours: Cost) -> Sequence[str]:
    ratios = {"wall": borg.wall / ours.wall, "cpu": borg.cpu / ours.cpu, "memory": borg.memory / ours.memory}
    shown = (
        f"**{ratio:.1f}** ({scenario.targets[figure]:g})" if figure in scenario.targets else f"{ratio:.1f}"
        for figure, ratio in ratios.items()
    )
    return (
        scenario.name,
        *(f"{seconds:.3f}" for seconds in (borg.wall, ours.wall, borg.cpu, ours.cpu)),
        *(f"{cost.memory / 1e6:.0f}" for cost in (borg, ours)),
        *shown,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--borg", required=True, help="command line of native borg serve")
    parser.add_argument("--ours", required=True, help="command line of our server")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn")
    parser.add_argument("--memory", default="/dev/shm", help="a directory in memory: shows the cost of computing")
    parser.add_argument("--disk", help="a directory on a disk")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--save", type=Path, help="a Markdown file whose table is to be replaced")
    options = parser.parse_args()
    commands = {"borg": options.borg, "ours": options.ours}
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name or scenario is SCENARIOS[0]]
    rows: list[Sequence[str]] = []
    with ExitStack() as stack:
        memory, disk = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
            for directory in (options.memory, options.disk)
        )
        needed = {scenario.base for scenario in chosen}
        bases = {
            name: prepare(name, memory, options.ours if name in MADE_BY_US else options.borg)
            for name in BASES
            if name in needed
        }
        start: dict[str, Cost] = {}
        for scenario in chosen:
            place = disk if scenario.on_disk else memory
            costs = measure(scenario, commands, bases.get(scenario.base or ""), place, options.runs)
            start = start or costs
            if scenario.net:
                costs = {name: net(cost, start[name]) for name, cost in costs.items()}
            rows.append(row(scenario, costs["borg"], costs["ours"]))
            print(*table(HEADER, rows[-1:])[0 if len(rows) == 1 else 2 :], sep="\n", flush=True)
    if options.save:
        save_table(options.save, "requests", table(HEADER, rows))


if __name__ == "__main__":
    main()
