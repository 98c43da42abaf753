"""Coverage-guided fuzzing of one target: `python -m tests.fuzz TARGET CORPUS [-max_total_time=600 ...]`.

Needs atheris (`pip install '.[fuzz]'`). CORPUS is a directory of inputs, made and filled with the seeds if it does not
exist. A finding is written as libFuzzer does: keep it under tests/fuzz/cases/TARGET/, where the test run takes it up.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["borg_serve_lib"]):
    from .targets import TARGETS

from .seeds import SEEDS


def main() -> None:
    """Fuzz until the time is over or something is found."""
    name, corpus, *options = sys.argv[1:]
    directory = Path(corpus)
    if not directory.exists():
        directory.mkdir(parents=True)
        for number, seed in enumerate(SEEDS[name]):
            (directory / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS[name])
    atheris.Fuzz()


main()
