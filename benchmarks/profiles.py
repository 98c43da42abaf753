"""Tells where the processor time of our server goes in each scenario, in percent.

Of the scenarios that are net of the start the imports are left out.

python -m benchmarks.profiles --python PYTHON [--runs N] [--only WORD] [--save PAGE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from .sampled import IMPORTING
from .scenarios import BASES, SCENARIOS, Scenario, fresh_copy, prepare
from .serving import serve
from .tables import save_table, table

HEADER = ("scenario", "where the processor time goes, in percent")
_LEAST = 4  # percent
_MOST_SAID = 7


def profile(scenario: Scenario, python: str, base: Path | None, work: Path, runs: int) -> Counter[str]:
    """Return place -> samples of some runs together."""
    repository, requests, figures = work / "repository", work / "requests", work / "figures"
    fresh_copy(base, repository)
    scenario.write(requests, repository)
    places: Counter[str] = Counter()
    for _ in range(min(runs, scenario.most_runs)):
        if scenario.rewrites:
            fresh_copy(base, repository)
        serve(f"{python} -m benchmarks.sampled {figures}", requests)
        places.update(json.loads(figures.read_text()))
    requests.unlink()
    fresh_copy(None, repository)
    if scenario.net:
        del places[IMPORTING]
    return places


def said(places: Counter[str]) -> str:
    """Return the places that count, with their shares."""
    total = sum(places.values()) or 1
    shares = [(place, 100 * count / total) for place, count in places.most_common(_MOST_SAID)]
    return ", ".join(f"`{place}` {share:.0f}" for place, share in shares if share >= _LEAST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="a Python in which borg_serve_lib is installed")
    parser.add_argument("--runs", type=int, default=5, help="runs of each")
    parser.add_argument("--memory", default="/dev/shm", help="a directory in memory")
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--save", type=Path, help="a Markdown file whose table is to be replaced")
    options = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name and not scenario.on_disk]
    rows = []
    with tempfile.TemporaryDirectory(dir=options.memory) as directory:
        work = Path(directory)
        needed = {scenario.base for scenario in chosen}
        server = f"{options.python} -m borg_serve_lib serve"
        bases = {name: prepare(name, work, server) for name in BASES if name in needed}
        for scenario in chosen:
            rows.append(
                (
                    scenario.name,
                    said(profile(scenario, options.python, bases.get(scenario.base or ""), work, options.runs)),
                )
            )
            print(*table(HEADER, rows[-1:])[0 if len(rows) == 1 else 2 :], sep="\n", flush=True)
    if options.save:
        save_table(options.save, "profiles", table(HEADER, rows))


if __name__ == "__main__":
    main()
