"""Runs in the Python of a native borg: does with its engine what the lines on stdin say, a JSON value for each.

A line is `{"path": ..., "open": {...}, "do": [[name, argument ...], ...]}`; the answer is `{"results": [...]}`, with
`"error": [class, text]` added when opening or an action failed. Bytes are hexadecimal.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from borg.logger import setup_logging
from borg.repository import Repository

os.fsync = lambda descriptor: None  # the machine that runs the tests does not crash
if hasattr(os, "fdatasync"):
    os.fdatasync = os.fsync


def put(repository: Any, object_id: str, data: str) -> None:
    repository.put(bytes.fromhex(object_id), bytes.fromhex(data))


def delete(repository: Any, object_id: str) -> None:
    repository.delete(bytes.fromhex(object_id))


def commit(repository: Any, compact: bool, threshold: float, cleanup_commits: bool) -> None:
    repository.commit(compact=compact, threshold=threshold, cleanup_commits=cleanup_commits)


def rollback(repository: Any) -> None:
    repository.rollback()


def content(repository: Any) -> dict[str, str]:
    return {one.hex(): bytes(repository.get(one)).hex() for one in repository.list()}


def check(repository: Any, repair: bool) -> bool:
    return bool(repository.check(repair=repair))


def load_key(repository: Any) -> str:
    return repository.load_key().decode()


ACTIONS = {action.__name__: action for action in (put, delete, commit, rollback, content, check, load_key)}


def perform(request: dict[str, Any]) -> dict[str, Any]:
    results: list[object] = []
    try:
        with Repository(request["path"], lock_wait=1, **request["open"]) as repository:
            for name, *arguments in request["do"]:
                results.append(ACTIONS[name](repository, *arguments))
    except Exception as error:  # noqa: BLE001  # the other end decides what it means
        return {"results": results, "error": [type(error).__name__, str(error)]}
    return {"results": results}


class Told(logging.Handler):
    """Keeps what is logged."""

    lines: list[str] = []  # noqa: RUF012

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


setup_logging(level="warning")
logging.getLogger().addHandler(Told(logging.WARNING))
for line in sys.stdin:
    Told.lines.clear()
    print(json.dumps({**perform(json.loads(line)), "told": Told.lines}), flush=True)  # noqa: T201
