"""Random histories: the repository does what a plain dict does, across rollbacks, compactions and reopenings."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from borg_serve_lib.engine.opening import HostRules
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.errors import InvalidArgument, StorageQuotaExceeded
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.storage.base import StorageProvider
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage
from borg_serve_lib.storage.places import FilesystemProvider
from tests.engine.support import WRITING, OpenRequest, content, identity, opened

IDS = st.one_of(st.integers(0, 12).map(identity), st.just(MANIFEST_ID))
DATA = st.binary(max_size=600)


class History(RuleBasedStateMachine):
    """Committed and pending content as dicts, beside a repository with tiny segments."""

    repository: Repository

    def __init__(self) -> None:
        super().__init__()
        self.committed: dict[bytes, bytes] = {}
        self.pending: dict[bytes, bytes] = {}
        self.path = Path(tempfile.mkdtemp())
        self.rules = HostRules()
        self.segments: set[tuple[str, bytes]] = set()

    def provider(self) -> StorageProvider:
        raise NotImplementedError

    @initialize()
    def create(self) -> None:
        self.storages = self.provider()
        request = OpenRequest(create=True, exclusive=True, lock_wait=0)
        opened(self.path / "repository", request, storages=self.storages).close()
        storage = self.storages.open(str(self.path / "repository"))
        config = storage.read("config").replace(b"= 524288000", b"= 1500").replace(b"dir = 1000", b"dir = 4")
        storage.replace("config", config)
        storage.close()
        self.repository = self.open()

    def teardown(self) -> None:
        if hasattr(self, "repository"):
            self.repository.close()
        shutil.rmtree(self.path)

    def open(self) -> Repository:
        return opened(self.path / "repository", WRITING, storages=self.storages, rules=self.rules)

    @rule(object_id=IDS, data=DATA)
    def put(self, object_id: bytes, data: bytes) -> None:
        try:
            self.repository.put(object_id, data)
        except StorageQuotaExceeded:
            with pytest.raises(StorageQuotaExceeded):
                self.repository.commit()
            self.pending = dict(self.committed)
        else:
            self.pending[object_id] = data

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        object_id = data.draw(st.sampled_from(sorted(self.pending)))
        self.repository.delete(object_id)
        del self.pending[object_id]

    @rule()
    def commit(self) -> None:
        self.repository.commit(compact=False)
        self.committed = dict(self.pending)

    @rule(threshold=st.sampled_from([0, 0.1, 0.5, 0.9]), cleanup=st.booleans())
    def commit_and_compact(self, threshold: float, cleanup: bool) -> None:
        self.repository.commit(compact=True, threshold=threshold, cleanup_commits=cleanup)
        self.committed = dict(self.pending)

    @rule()
    def commit_as_old_clients_do(self) -> None:
        """Clients before 1.2 let each commit compact."""
        self.repository.commit()
        self.committed = dict(self.pending)

    @rule()
    def rollback(self) -> None:
        self.repository.rollback()
        self.pending = dict(self.committed)

    @rule(
        forget=st.sets(st.sampled_from(["index", "hints", "integrity"])),
        append_only=st.booleans(),
        storage_quota=st.sampled_from([0, 0, 5_000, 20_000]),
    )
    def reopen(self, forget: set[str], append_only: bool, storage_quota: int) -> None:
        self.repository.close()
        self.rules = HostRules(append_only=append_only, storage_quota=storage_quota)
        storage = self.storages.open(str(self.path / "repository"))
        for entry in storage.entries():
            if entry.name.split(".")[0] in forget:
                storage.remove(entry.name)
        storage.close()
        self.repository = self.open()
        self.pending = dict(self.committed)
        self.segments = self.all_segments()

    @precondition(lambda self: self.pending == self.committed and self.committed)
    @rule(repair=st.booleans())
    def check(self, repair: bool) -> None:
        self.repository.rollback()
        if repair and self.rules.append_only:
            with pytest.raises(InvalidArgument):
                self.repository.check(repair=True)
        else:
            assert self.repository.check(repair=repair)

    @invariant()
    def content_is_the_models(self) -> None:
        if hasattr(self, "repository"):
            assert content(self.repository) == self.pending
            assert len(self.repository) == len(self.pending)
            assert set(self.repository.scan()) == set(self.pending)

    @invariant()
    def an_append_only_repository_loses_no_committed_segment(self) -> None:
        if self.rules.append_only:
            assert self.segments <= self.all_segments()

    def all_segments(self) -> set[tuple[str, bytes]]:
        """Return name and content of the segments up to the last COMMIT."""
        storage = self.storages.open(str(self.path / "repository"))
        numbers = [int(entry.name.split(".")[1]) for entry in storage.entries() if entry.name.startswith("index.")]
        names = {
            f"data/{directory.name}/{entry.name}"
            for directory in storage.entries("data")
            for entry in storage.entries(f"data/{directory.name}")
            if numbers and int(entry.name) <= max(numbers)
        }
        return {(name, storage.read(name)) for name in names}


class HistoryOnDisk(History):
    def provider(self) -> StorageProvider:
        return FilesystemProvider()


class HistoryInMemory(History):
    def provider(self) -> MemoryProvider:
        return MemoryProvider()

    @rule(names=st.booleans(), content=st.booleans())
    def crash(self, names: bool, content: bool) -> None:
        storage = self.storages.open(str(self.path / "repository"))
        assert isinstance(storage, MemoryStorage)
        storage.crash(names=names, content=content)
        self.repository.close()
        self.repository = self.open()
        self.pending = dict(self.committed)
        self.segments = self.all_segments()


QUICK = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestOnDisk = HistoryOnDisk.TestCase
TestOnDisk.settings = QUICK
TestInMemory = HistoryInMemory.TestCase
TestInMemory.settings = QUICK
