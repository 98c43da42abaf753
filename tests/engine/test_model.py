"""Random histories: the repository does what a plain dict does, across rollbacks, compactions and reopenings."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.storage.base import StorageProvider
from borg_serve_lib.storage.memory import MemoryProvider
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
        self.repository = opened(self.path / "repository", WRITING, storages=self.storages)

    def teardown(self) -> None:
        if hasattr(self, "repository"):
            self.repository.close()
        shutil.rmtree(self.path)

    @rule(object_id=IDS, data=DATA)
    def put(self, object_id: bytes, data: bytes) -> None:
        self.repository.put(object_id, data)
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
    def rollback(self) -> None:
        self.repository.rollback()
        self.pending = dict(self.committed)

    @rule(forget=st.sets(st.sampled_from(["index", "hints", "integrity"])))
    def reopen(self, forget: set[str]) -> None:
        self.repository.close()
        storage = self.storages.open(str(self.path / "repository"))
        for entry in storage.entries():
            if entry.name.split(".")[0] in forget:
                storage.remove(entry.name)
        storage.close()
        self.repository = opened(self.path / "repository", WRITING, storages=self.storages)
        self.pending = dict(self.committed)

    @precondition(lambda self: self.pending == self.committed and self.committed)
    @rule(repair=st.booleans())
    def check(self, repair: bool) -> None:
        self.repository.rollback()
        assert self.repository.check(repair=repair)

    @invariant()
    def content_is_the_models(self) -> None:
        if hasattr(self, "repository"):
            assert content(self.repository) == self.pending
            assert len(self.repository) == len(self.pending)
            assert set(self.repository.scan()) == set(self.pending)


class HistoryOnDisk(History):
    def provider(self) -> StorageProvider:
        return FilesystemProvider()


class HistoryInMemory(History):
    def provider(self) -> StorageProvider:
        return MemoryProvider()


QUICK = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
TestOnDisk = HistoryOnDisk.TestCase
TestOnDisk.settings = QUICK
TestInMemory = HistoryInMemory.TestCase
TestInMemory.settings = QUICK
