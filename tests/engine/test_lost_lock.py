"""A session whose lock was broken changes no file any more: whoever has the lock now has its transaction there. And a
session that has created a repository is not the only one in it.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from borg_serve_lib.engine.opening import HostRules, open_repository
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.errors import BorgServeError, InsufficientFreeSpaceError, NoSpace, WrongState
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.locking.base import RepositoryLock
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage

from .scenarios import CREATING, PATH, make_segments_small
from .support import WRITING, content, identity


@attrs.define
class Shared:
    """A repository of ten objects, and two who use it."""

    provider: MemoryProvider
    locks: MemoryLockManager

    def open(self, request: OpenRequest = WRITING) -> Repository:
        return open_repository(PATH, request, storages=self.provider, locks=self.locks)

    @property
    def storage(self) -> MemoryStorage:
        return self.provider.open(PATH)

    def intruder(self) -> Repository:
        """Break the lock; return a session that has it now, with two objects put and nothing committed."""
        self.locks.lock_for(PATH).break_lock()
        repository = self.open()
        for number in (100, 101):
            repository.put(identity(number), b"of somebody else")
        return repository

    def names(self) -> list[str]:
        return [name for name in self.storage.names() if self.storage.size(name) is not None]

    def files(self) -> dict[str, bytes]:
        return {name: self.storage.read(name) for name in self.names()}


@pytest.fixture
def shared() -> Shared:
    shared = Shared(MemoryProvider(), MemoryLockManager())
    shared.open(CREATING).close()
    make_segments_small(shared.storage, 1500)
    with_objects = shared.open()
    for number in range(10):
        with_objects.put(identity(number), bytes([number]) * 400)
    with_objects.put(MANIFEST_ID, b"manifest")
    with_objects.commit(compact=False)
    with_objects.close()
    return shared


def fill_the_disk(shared: Shared, repository: Repository) -> None:
    shared.storage.leave(100)
    with pytest.raises(NoSpace):
        repository.put(identity(20), bytes(400))
    shared.storage.capacity = None


def rollback(shared: Shared, repository: Repository) -> None:
    repository.rollback()


def close(shared: Shared, repository: Repository) -> None:
    with pytest.raises(BorgServeError):
        repository.close()


def commit(shared: Shared, repository: Repository) -> None:
    with pytest.raises(BorgServeError):
        repository.commit()


@pytest.mark.parametrize("end", [rollback, close, commit])
def test_after_a_full_disk_it_removes_nothing(shared: Shared, end: Callable[[Shared, Repository], None]) -> None:
    ours = shared.open()
    ours.put(identity(19), bytes(400))
    theirs = shared.intruder()
    before = shared.files()
    fill_the_disk(shared, ours)
    end(shared, ours)
    after = shared.files()
    assert {name: after[name][: len(data)] for name, data in before.items()} == before
    theirs.commit(compact=False)
    theirs.close()
    assert content(shared.open()).keys() >= {identity(100), identity(101)}


def put_many(repository: Repository) -> None:
    for number in range(20, 30):
        repository.put(identity(number), bytes(400))


def test_it_begins_no_new_segment(shared: Shared) -> None:
    ours = shared.open()
    ours.put(identity(19), bytes(400))
    theirs = shared.intruder()
    with pytest.raises(WrongState, match="removed by somebody else"):
        put_many(ours)
    theirs.put(MANIFEST_ID, b"manifest 2")
    theirs.commit(compact=False)
    theirs.close()
    repository = shared.open()
    assert content(repository).keys() == {*map(identity, range(10)), identity(100), identity(101), MANIFEST_ID}
    assert repository.check()


@pytest.mark.parametrize("damage", ["segment", "commit"])
def test_a_repair_changes_nothing(shared: Shared, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted((name for name in shared.names() if name.startswith("data/")), key=lambda name: int(name[7:]))
    damaged = names[0] if damage == "segment" else names[-1]
    data = bytearray(shared.storage.read(damaged))
    data[-1] ^= 1
    shared.storage.replace(damaged, bytes(data))
    ours = shared.open()
    noted = shared.files()

    def breaking(*_: object) -> None:
        shared.locks.lock_for(PATH).break_lock()

    monkeypatch.setattr("borg_serve_lib.engine.checking.Check._file_name", breaking)
    with pytest.raises(WrongState, match="removed by somebody else"):
        ours.check(repair=True)
    assert shared.files() == noted


class Overtaken(MemoryLockManager):
    """Lets somebody else use a repository between its creation and the lock of the session that creates it."""

    def __init__(self, use: Callable[[], None]) -> None:
        super().__init__()
        self._uses = [use]

    def lock_for(self, path: str, *others: object, **named: object) -> RepositoryLock:
        if self._uses:
            self._uses.pop()()
        return super().lock_for(path, *others, **named)  # type: ignore[arg-type]


def overtaken(rules: HostRules) -> tuple[Shared, Repository]:
    """Return a repository in which somebody else has committed an object, and the session that has created it."""

    def use() -> None:
        repository = shared.open()
        repository.put(identity(100), b"of somebody else")
        repository.commit(compact=False)
        repository.close()

    shared = Shared(MemoryProvider(), Overtaken(use))
    return shared, open_repository(PATH, CREATING, storages=shared.provider, locks=shared.locks, rules=rules)


def test_who_creates_a_repository_cannot_free_in_it_what_others_have_committed_append_only() -> None:
    shared, creator = overtaken(HostRules(append_only=True))
    creator.delete(identity(100))
    creator.commit(compact=True, threshold=0)
    creator.close()
    segments = [data for name, data in shared.files().items() if name.startswith("data/")]
    assert b"of somebody else" in b"".join(segments)


def test_a_first_commit_without_room_takes_nobody_elses_repository_away() -> None:
    shared, creator = overtaken(HostRules())
    creator.put(identity(1), b"one")
    shared.storage.leave(100)
    with pytest.raises(InsufficientFreeSpaceError):
        creator.commit()
    creator.close()
    shared.storage.capacity = None
    assert content(shared.open()) == {identity(100): b"of somebody else"}
