"""Runs the same requests into `borg serve` and into ours, in turn, and prints the costs as ratios.

python -m benchmarks.compare --borg "BORG serve" --ours "PYTHON -m borg_serve_lib" [--runs N] [--only WORD]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .scenarios import SCENARIOS, Scenario, fresh_copy, prepare
from .serving import Cost, median, serve

HEADER = ("scenario", "borg wall", "ours wall", "borg cpu", "ours cpu", "borg MB", "ours MB", "wall", "cpu", "mem")


def measure(scenario: Scenario, commands: dict[str, str], base: Path | None, work: Path, runs: int) -> dict[str, Cost]:
    repository, requests = work / "repository", work / "requests"
    scenario.write(requests, repository)
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            fresh_copy(base, repository)
            costs[name].append(serve(command, requests))
    requests.unlink()
    return {name: typical(taken) for name, taken in costs.items()}


def typical(costs: list[Cost]) -> Cost:
    return Cost(
        median(cost.wall for cost in costs),
        median(cost.cpu for cost in costs),
        int(median(cost.memory for cost in costs)),
    )


def row(scenario: Scenario, costs: dict[str, Cost], start: dict[str, Cost]) -> tuple[str, ...]:
    borg, ours = costs["borg"], costs["ours"]
    if scenario.net and start:
        borg, ours = (
            Cost(max(cost.wall - begun.wall, 1e-6), max(cost.cpu - begun.cpu, 1e-6), cost.memory)
            for cost, begun in ((borg, start["borg"]), (ours, start["ours"]))
        )
    ratios = {"wall": borg.wall / ours.wall, "cpu": borg.cpu / ours.cpu}
    shown = {
        figure: f"{ratio:.1f}" + (f" ({scenario.target:g})" if figure == scenario.figure else "")
        for figure, ratio in ratios.items()
    }
    return (
        scenario.name,
        f"{borg.wall:.3f}",
        f"{ours.wall:.3f}",
        f"{borg.cpu:.3f}",
        f"{ours.cpu:.3f}",
        f"{borg.memory / 1e6:.0f}",
        f"{ours.memory / 1e6:.0f}",
        shown["wall"],
        shown["cpu"],
        f"{borg.memory / ours.memory:.1f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--borg", required=True, help="command line of native borg serve")
    parser.add_argument("--ours", required=True, help="command line of our server")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn")
    parser.add_argument("--directory", default="/dev/shm", help="where the repositories lie; a tmpfs shows CPU costs")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    options = parser.parse_args()
    commands = {"borg": options.borg, "ours": options.ours}
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name or not scenario.net]
    with tempfile.TemporaryDirectory(dir=options.directory) as temporary:
        work = Path(temporary)
        bases = {
            name: prepare(name, work, options.borg) for name in {scenario.base for scenario in chosen if scenario.base}
        }
        print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER), flush=True)
        start: dict[str, Cost] = {}
        for scenario in chosen:
            costs = measure(scenario, commands, bases.get(scenario.base or ""), work, options.runs)
            start = start or costs
            print("| " + " | ".join(row(scenario, costs, start)) + " |", flush=True)


if __name__ == "__main__":
    main()
