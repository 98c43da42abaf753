"""Serves as `borg-serve serve` does, and counts where its processor time goes.

python -m benchmarks.sampled FIGURES <REQUESTS     (a JSON object, place -> samples, goes to the file FIGURES)

At each tick of the clock of its processor time it looks at what each thread is doing: the innermost function of ours. A
function of C, such as one that reads or writes, counts for the function of ours that has called it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

from borg_serve_cli import main as serve

_EVERY = 0.001  # seconds; the kernel may round that up to its own tick
_PACKAGE = "borg_serve_lib/"
IMPORTING = "importing modules"
ELSEWHERE = "elsewhere"

_places: Counter[str] = Counter()


def _sample(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of handlers
    frames = sys._current_frames()
    mine = _place(frames.pop(threading.main_thread().ident or 0))
    others = [place for place in map(_place, frames.values()) if place != ELSEWHERE]
    _places.update(others or [mine])  # while others work the main thread waits for them


def _place(frame: FrameType | None) -> str:
    while frame is not None:
        name, code = frame.f_code.co_name, frame.f_code.co_filename
        if name == "<module>" or "importlib" in code:
            return IMPORTING
        if _PACKAGE in code:
            module = code.rpartition(_PACKAGE)[2].removesuffix(".py")
            return f"{module}.{name}"
        frame = frame.f_back
    return ELSEWHERE


def main() -> None:
    """Serve the requests at standard input."""
    figures = Path(sys.argv.pop(1))
    sys.argv[1:] = ["serve"]
    signal.signal(signal.SIGPROF, _sample)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    try:
        status = serve()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        figures.write_text(json.dumps(_places))
    sys.exit(status)


if __name__ == "__main__":
    main()
