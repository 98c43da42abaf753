"""Repositories to test with, on the real file system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from borg_serve_lib.engine.opening import HostRules, open_repository
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.reporting import Event, Level, Reporter
from borg_serve_lib.storage.places import FilesystemProvider

WRITING = OpenRequest(exclusive=True, lock_wait=0)
READING = OpenRequest(exclusive=False, lock_wait=0)


class Notes(Reporter):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)

    def lines(self, level: Level = Level.INFO) -> list[str]:
        return [event.message() for event in self.events if event.level >= level and event.topic == "borg.repository"]

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def opened(path: Path, request: OpenRequest = WRITING, **overrides: object) -> Repository:
    settings: dict[str, object] = {
        "storages": FilesystemProvider(),
        "locks": MemoryLockManager(),
        "rules": HostRules(),
        "reporter": Reporter(),
    }
    return open_repository(str(path), request, **(settings | overrides))  # type: ignore[arg-type]


def created(path: Path, **overrides: object) -> Repository:
    return opened(path, OpenRequest(create=True, exclusive=True, lock_wait=0), **overrides)


def identity(number: int) -> bytes:
    """Return an id that is not the manifest's."""
    return (number + 1).to_bytes(4, "big") * 8


def content(repository: Repository) -> dict[bytes, bytes]:
    return {object_id: bytes(repository.get(object_id)) for object_id in repository.list()}


Change = Callable[[Repository], None]
