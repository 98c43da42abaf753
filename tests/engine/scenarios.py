"""What a repository may be doing when a fault comes: sessions on a small repository of many segments."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache

import attrs
import pytest

from borg_serve_lib.engine.opening import HostRules, open_repository
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.locking.memory import MemoryLockManager
from borg_serve_lib.reporting import Reporter
from borg_serve_lib.storage.base import Storage, StorageProvider
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage
from tests.tiny import treat_all_as_many

from .support import READING, WRITING, content, identity

PATH = "/repository"
CREATING = OpenRequest(create=True, exclusive=True, lock_wait=0)
Content = dict[bytes, bytes]


class Story:
    """What is told of a session while it goes on: `committed` holds for sure, `coming` is what a commit that is under
    way makes of it.
    """

    def __init__(self, committed: Content, key: bytes = b"") -> None:
        self.committed = committed
        self.coming = committed
        self.key = self.coming_key = key

    def commit(self, repository: Repository, coming: Content, **how: object) -> None:
        self.coming = coming
        repository.commit(**how)  # type: ignore[arg-type]
        self.committed = coming

    def save_key(self, repository: Repository, key: bytes) -> None:
        self.coming_key = key
        repository.save_key(key)
        self.key = key


Run = Callable[[Repository, Story], None]


@attrs.frozen
class Scenario:
    """`prepare` makes the state to begin with and returns what is in it; `run` is the session, which can be begun
    again after an error if it is `repeatable`.
    """

    prepare: Callable[[MemoryProvider], Content]
    run: Run
    request: OpenRequest = WRITING
    repeatable: bool = True

    def begin(self) -> tuple[MemoryProvider, Content]:
        """Return the state to begin with and what is in it; prepared once, and copied ever after."""
        storages, wanted = pickle.loads(_prepared(self.prepare))
        return storages, wanted


@cache
def _prepared(prepare: Callable[[MemoryProvider], Content]) -> bytes:
    storages = MemoryProvider()
    return pickle.dumps((storages, prepare(storages)))


def session(
    storages: StorageProvider, request: OpenRequest = WRITING, reporter: Reporter | None = None, path: str = PATH
) -> Repository:
    """Open a repository, with randomness and time that are always the same."""
    return open_repository(
        path,
        request,
        storages=storages,
        locks=MemoryLockManager(),
        rules=HostRules(),
        reporter=reporter or Reporter(),
        random_bytes=lambda count: bytes(range(count % 256)) if count < 256 else bytes(count),
        now=lambda: 1_700_000_000.0,
    )


# --- states to begin with


def nothing(storages: MemoryProvider) -> Content:
    return {}


def new(storages: MemoryProvider) -> Content:
    session(storages, CREATING).close()
    make_segments_small(storages.open(PATH))
    return {}


def make_segments_small(storage: Storage, size: int = 1500) -> None:
    """Let a segment end after `size` bytes and a directory after 4 segments."""
    config = storage.read("config").replace(b"= 524288000", b"= %d" % size).replace(b"dir = 1000", b"dir = 4")
    storage.replace("config", config)


def stocked(storages: MemoryProvider) -> Content:
    """Five transactions, some of their objects superseded or deleted since."""
    new(storages)
    repository = session(storages)
    wanted: Content = {}
    for round_ in range(5):
        for number in range(round_, 12, round_ + 1):
            wanted[identity(number)] = bytes([round_]) * (40 * number + 1)
        for number in (round_ + 3, round_ + 30):
            wanted.pop(identity(number), None)
        wanted[MANIFEST_ID] = b"manifest %d" % round_
        for object_id in repository.list():
            if object_id not in wanted:
                repository.delete(object_id)
        for object_id, data in wanted.items():
            if not repository.contains(object_id) or repository.get(object_id) != data:
                repository.put(object_id, data)
        repository.commit(compact=False)
    repository.close()
    return wanted


def without_caches(*kinds: str) -> Callable[[MemoryProvider], Content]:
    def prepare(storages: MemoryProvider) -> Content:
        wanted = stocked(storages)
        remove(storages.open(PATH), *kinds)
        return wanted

    return prepare


def remove(storage: MemoryStorage, *kinds: str) -> None:
    for entry in storage.entries():
        if entry.name.split(".")[0] in kinds:
            storage.remove(entry.name)
    storage.sync_directory()


def on_a_disk_with(free: int) -> Callable[[MemoryProvider], Content]:
    """Like `stocked`, with `free` bytes left."""

    def prepare(storages: MemoryProvider) -> Content:
        wanted = stocked(storages)
        storages.open(PATH).leave(free)
        return wanted

    return prepare


def interrupted(storages: MemoryProvider) -> Content:
    """A transaction was cut short after some segments."""
    wanted = stocked(storages)
    repository = session(storages)
    for number in range(20):
        repository.put(identity(number), bytes(300))
    repository.close()
    sync_all(storages.open(PATH))
    return wanted


def damaged(storages: MemoryProvider) -> Content:
    """An object in every second segment has rotted; returned is what a repair makes of it."""
    wanted = stocked(storages)
    damage(storages)
    copy = MemoryProvider()
    stocked(copy)
    damage(copy)
    repository = session(copy)
    assert repository.check(repair=True)
    repaired = content(repository)
    repository.close()
    assert repaired
    assert repaired != wanted
    return repaired


def damage(storages: MemoryProvider) -> None:
    storage = storages.open(PATH)
    large = sorted(name for name in storage.names() if (storage.size(name) or 0) > 400 and name.startswith("data/"))
    for name in large[::2]:
        data = bytearray(storage.read(name))
        data[100] ^= 1
        storage.replace(name, bytes(data))


def sync_all(storage: MemoryStorage) -> None:
    for directory in ["", *(name for name in storage.names() if storage.size(name) is None)]:
        for entry in storage.entries(directory):
            if not entry.is_directory:
                name = f"{directory}/{entry.name}" if directory else entry.name
                storage.overwrite(name, b"")
        storage.sync_directory(directory)


# --- sessions


def put_and_commit(repository: Repository, story: Story) -> None:
    coming = dict(story.committed)
    for number in range(8):
        coming[identity(number)] = b"new" * (100 * number)
        repository.put(identity(number), coming[identity(number)])
    coming[MANIFEST_ID] = b"the manifest"
    repository.put(MANIFEST_ID, coming[MANIFEST_ID])
    story.commit(repository, coming, compact=False)


def delete_and_compact(repository: Repository, story: Story) -> None:
    coming = dict(story.committed)
    for object_id in sorted(coming)[1::3]:
        del coming[object_id]
        repository.delete(object_id)
    coming[identity(40)] = b"forty"
    repository.put(identity(40), b"forty")
    story.commit(repository, coming, compact=True, threshold=0.0, cleanup_commits=True)


def compact_twice(repository: Repository, story: Story) -> None:
    """As after `borg prune`: one transaction without compaction, one with nothing but it."""
    coming = dict(story.committed)
    for object_id in sorted(coming)[2::2]:
        del coming[object_id]
        repository.delete(object_id)
    story.commit(repository, coming, compact=False)
    repository.put(MANIFEST_ID, b"again")
    story.commit(repository, {**coming, MANIFEST_ID: b"again"}, compact=True, threshold=0.1, cleanup_commits=False)


def delete_all(repository: Repository, story: Story) -> None:
    for object_id in repository.list():
        repository.delete(object_id)
    story.commit(repository, {}, compact=True, threshold=0.1)


def in_files(run: Run) -> Run:
    """As in a repository of millions of objects, of which little is in memory."""

    def run_in_files(repository: Repository, story: Story) -> None:
        with pytest.MonkeyPatch.context() as patch:
            treat_all_as_many(patch)
            run(repository, story)

    return run_in_files


def roll_back(repository: Repository, story: Story) -> None:
    for number in range(6):
        repository.put(identity(number), b"never" * 200)
    repository.rollback()
    put_and_commit(repository, story)


def save_keys(repository: Repository, story: Story) -> None:
    for key in (b"first key\nof two lines", b"another key", b""):
        story.save_key(repository, key)


def reserve_nonces(repository: Repository, story: Story) -> None:
    repository.commit_nonce_reservation(1000, None)
    repository.commit_nonce_reservation(2000, 1000)
    assert repository.get_free_nonce() == 2000


def check(repository: Repository, story: Story) -> None:
    assert repository.check()


def check_in_parts(repository: Repository, story: Story) -> None:
    repository.check(max_duration=1e-9)
    repository.check(max_duration=1e-9)


def repair(repository: Repository, story: Story) -> None:
    assert repository.check(repair=True)


def read(repository: Repository, story: Story) -> None:
    assert content(repository) == story.committed


def read_then_write(repository: Repository, story: Story) -> None:
    read(repository, story)
    put_and_commit(repository, story)


SHARED = OpenRequest(exclusive=None, lock_wait=0)

SCENARIOS: dict[str, Scenario] = {
    "create": Scenario(nothing, put_and_commit, CREATING, repeatable=False),
    "first transaction": Scenario(new, put_and_commit),
    "put and commit": Scenario(stocked, put_and_commit),
    "delete and compact": Scenario(stocked, delete_and_compact),
    "compact twice": Scenario(stocked, compact_twice),
    "delete all": Scenario(stocked, delete_all),
    "delete and compact, tables in files": Scenario(stocked, in_files(delete_and_compact)),
    "replay, tables in files": Scenario(without_caches("index", "hints"), in_files(put_and_commit)),
    "roll back": Scenario(stocked, roll_back),
    "clean up after another": Scenario(interrupted, put_and_commit),
    "save keys": Scenario(stocked, save_keys),
    "delete on a full disk": Scenario(on_a_disk_with(0), delete_and_compact),
    "compact on a nearly full disk": Scenario(on_a_disk_with(40_000), compact_twice),
    "reserve nonces": Scenario(stocked, reserve_nonces, repeatable=False),
    "check": Scenario(stocked, check),
    "check in parts": Scenario(stocked, check_in_parts),
    "repair what is sound": Scenario(stocked, repair),
    "repair without caches": Scenario(without_caches("index", "hints", "integrity"), repair),
    "replay for a reader": Scenario(without_caches("index"), read, READING),
    "replay for a writer": Scenario(without_caches("index", "integrity"), put_and_commit),
    "replay without hints": Scenario(without_caches("hints"), delete_and_compact),
    "replay for a lock that grows": Scenario(without_caches("index", "hints"), read_then_write, SHARED),
}
