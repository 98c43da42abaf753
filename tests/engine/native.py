"""Native borg's engine, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import attrs

WRITING = {"exclusive": True}
CREATING = {"create": True, "exclusive": True}


@attrs.frozen
class Outcome:
    """`results` of the actions done; `error`: class and text of what ended them, if anything did; `told`: its log."""

    results: list[Any]
    told: list[str]
    error: tuple[str, str] | None = None

    def sound(self) -> list[Any]:
        """Return the results of actions that all succeeded."""
        assert self.error is None, (self.error, self.told)
        return self.results


class NativeEngine:
    """The engine of the borg at `program`. `base`: a directory for what borg keeps of repositories it has seen."""

    def __init__(self, program: Path, base: Path) -> None:
        helper = Path(__file__).with_name("native_engine.py")
        self._process = subprocess.Popen(
            [program.with_name("python"), helper],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "BORG_BASE_DIR": str(base), "PYTHONPATH": ""},
        )

    def perform(self, path: Path, *actions: tuple[Any, ...], opening: dict[str, bool] | None = None) -> Outcome:
        """Open the repository at `path`, do all `actions`, and close it."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"path": str(path), "open": WRITING if opening is None else opening, "do": actions}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        error = answer.get("error")
        return Outcome(answer["results"], answer["told"], tuple(error) if error else None)

    def close(self) -> None:
        self._process.communicate()
