"""A fault at every step of every scenario: what was committed is whole, check is clean, and work goes on.

Each state that a fault leaves is opened by our engine and by native borg's. States that are alike are examined once.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from borg_serve_lib.errors import BorgServeError, DoesNotExist, InvalidRepository
from borg_serve_lib.events.maintenance import CheckFailed
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage
from borg_serve_lib.storage.places import FilesystemProvider
from tests.conftest import folder_in_memory
from tests.storage.faults import Faults, FaultyProvider, Stopped

from .native import NativeEngine
from .scenarios import CREATING, PATH, SCENARIOS, Content, Scenario, Story, damaged, repair, session
from .support import Notes, content, identity

NEXT = (identity(77), b"the next transaction")
KEPT, NAMES_LOST, CONTENT_LOST, ALL_LOST = "kept", "names lost", "content lost", "all lost"
LOSSES = (KEPT, NAMES_LOST, CONTENT_LOST, ALL_LOST)
"""What becomes of things not synced when the process ends: nothing (it was killed), or they go with the power."""

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
BEGINNINGS = ("create", "first transaction")
COUNT = "crash points"
State = frozenset[tuple[str, bytes]]
Record = Callable[[str, object], None]


@attrs.frozen
class Expectation:
    """What may be in the repository after the fault, and the keys it may have."""

    contents: tuple[Content, ...]
    keys: frozenset[bytes]


@attrs.define
class Examiner:
    """Opens what a fault has left, with both engines; states that are alike only once."""

    native: NativeEngine
    folder: Path
    seen: set[object] = attrs.field(factory=set)
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def examine(self, storages: MemoryProvider, expected: Expectation, *, creating: bool) -> None:
        """`creating`: the repository may not have come to be, or have no transaction yet."""
        state: State = frozenset()
        if exists(storages):
            state = state_of(storages.open(PATH))
            storages.open(PATH).capacity = None
        key = (state, repr(expected))
        if key in self.seen:
            return
        self.seen.add(key)
        # What a first transaction leaves that was cut short blocks every writer that is native borg, and borg check.
        if not creating or has_commit(state):
            self._by_native(state, expected)
        self._by_ours(storages, expected, creating=creating)

    def _by_ours(self, storages: MemoryProvider, expected: Expectation, *, creating: bool) -> None:
        notes = Notes()
        try:
            repository = session(storages, reporter=notes)
        except (DoesNotExist, InvalidRepository):
            # It did not come to be: making it again is all that is needed.
            assert creating
            session(storages, CREATING).close()
            repository = session(storages, reporter=notes)
        found = content(repository)
        assert found in expected.contents
        assert repository.load_key() in expected.keys
        if found or not creating:
            assert repository.check()
        repository.put(*NEXT)
        repository.commit(compact=True, threshold=0.0, cleanup_commits=True)
        assert content(repository) == {**found, NEXT[0]: NEXT[1]}
        repository.rollback()
        assert repository.check(), notes.lines()
        assert not notes.of(CheckFailed)
        repository.close()

    def _by_native(self, state: State, expected: Expectation) -> None:
        path = self.folder / str(next(self.numbers))
        lay_out(state, path)
        put = ("put", NEXT[0].hex(), NEXT[1].hex())
        commit = ("commit", True, 0.0, True)
        outcome = self.native.perform(path, ("content",), ("load_key",), ("check", False), put, commit, ("content",))
        before, key, sound, _, _, after = outcome.sound()
        found = {bytes.fromhex(one): bytes.fromhex(data) for one, data in before.items()}
        assert found in expected.contents
        assert key.encode() in expected.keys
        assert sound
        assert after == {**before, NEXT[0].hex(): NEXT[1].hex()}
        assert self.native.perform(path, ("check", False)).sound() == [True]
        shutil.rmtree(path)


def exists(storages: MemoryProvider) -> bool:
    try:
        storages.open(PATH)
    except DoesNotExist:
        return False
    return True


def state_of(storage: MemoryStorage) -> State:
    return frozenset(
        (name, storage.read(name)) if storage.size(name) is not None else (f"{name}/", b"") for name in storage.names()
    )


def lay_out(state: State, path: Path) -> None:
    path.mkdir()
    for name, data in sorted(state):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            file.mkdir(exist_ok=True)
        else:
            file.write_bytes(data)


def has_commit(state: State) -> bool:
    return any(name.startswith("index.") for name, _ in state)


@pytest.fixture(scope="module")
def examiner(clients: dict[str, Path]) -> Iterator[Examiner]:
    with folder_in_memory() as folder:
        native = NativeEngine(clients["1.4.5"], folder / "base")
        yield Examiner(native, folder)
        native.close()


def play(scenario: Scenario, faults: Faults) -> tuple[MemoryProvider, Story, BaseException | None]:
    """Run a scenario into its fault; return the storage, how far it came, and what ended it."""
    storages, begun_with = scenario.begin()
    story = Story(begun_with)
    ended: BaseException | None = None
    repository = None
    try:
        repository = session(FaultyProvider(storages, faults), scenario.request)
        scenario.run(repository, story)
    except (Stopped, BorgServeError) as error:
        ended = error
    if repository is not None:
        try:
            repository.close()
        except Stopped as error:
            ended = error
    return storages, story, ended


def expectation(story: Story) -> Expectation:
    return Expectation((story.committed, story.coming), frozenset({story.key, story.coming_key}))


def steps_of(scenario: Scenario) -> int:
    faults = Faults()
    _, _, ended = play(scenario, faults)
    assert ended is None
    return len(faults.steps)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_stop_at_any_step_loses_nothing(name: str, examiner: Examiner, record_property: Record) -> None:
    scenario, tried = SCENARIOS[name], 0
    for at in range(1, steps_of(scenario) + 1):
        for torn, loss in itertools.product((False, True), LOSSES):
            storages, story, ended = play(scenario, Faults(at=at, stop=True, torn=torn))
            assert isinstance(ended, Stopped)
            if exists(storages) and loss != KEPT:
                storages.open(PATH).crash(names=loss != CONTENT_LOST, content=loss != NAMES_LOST)
            examiner.examine(storages, expectation(story), creating=name in BEGINNINGS)
            tried += 1
    record_property(COUNT, tried)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_an_error_at_any_step_loses_nothing(
    name: str, lasting: bool, examiner: Examiner, record_property: Record
) -> None:
    scenario, tried = SCENARIOS[name], 0
    for at, error in itertools.product(range(1, steps_of(scenario) + 1), ERRORS):
        storages, story, ended = play(scenario, Faults(at=at, error=error, lasting=lasting))
        assert not isinstance(ended, Stopped)
        examiner.examine(storages, expectation(story), creating=name in BEGINNINGS)
        tried += 1
    record_property(COUNT, tried)


def test_a_repair_that_was_stopped_can_be_begun_again(examiner: Examiner, record_property: Record) -> None:
    scenario = Scenario(damaged, repair)
    steps = steps_of(scenario)
    for at, torn, loss in itertools.product(range(1, steps + 1), (False, True), LOSSES):
        storages, story, _ = play(scenario, Faults(at=at, stop=True, torn=torn))
        if loss != KEPT:
            storages.open(PATH).crash(names=loss != CONTENT_LOST, content=loss != NAMES_LOST)
        repository = session(storages)
        assert repository.check(repair=True)
        assert content(repository) == story.committed
        repository.close()
        examiner.examine(storages, expectation(story), creating=False)
    record_property(COUNT, steps * 2 * len(LOSSES))


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.repeatable])
def test_after_an_error_the_same_session_can_try_again(name: str, record_property: Record) -> None:
    scenario, tried = SCENARIOS[name], 0
    for at, error in itertools.product(range(1, steps_of(scenario) + 1), ERRORS):
        storages, begun_with = scenario.begin()
        story = Story(begun_with)
        repository = session(FaultyProvider(storages, Faults(at=at, error=error)), scenario.request)
        try:
            scenario.run(repository, story)
        except BorgServeError:
            repository.rollback()
            assert content(repository) in expectation(story).contents
            story.committed = content(repository)
            scenario.run(repository, story)
        repository.rollback()
        assert content(repository) == story.committed == story.coming
        repository.close()
        tried += 1
    record_property(COUNT, tried)


@pytest.mark.parametrize("name", SCENARIOS)
def test_writes_that_are_cut_short_change_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = SCENARIOS[name]
    storages, begun_with = scenario.begin()
    state = state_of(storages.open(PATH)) if exists(storages) else None
    write, states = os.write, []
    for limit in (None, 1, 7):
        path = tmp_path / str(limit)
        if state is not None:
            lay_out(state, path)
        if limit is not None:
            monkeypatch.setattr(os, "write", lambda file, data, limit=limit: write(file, bytes(data[:limit])))
            monkeypatch.setattr(
                os, "writev", lambda file, parts, limit=limit: write(file, b"".join(map(bytes, parts))[:limit])
            )
        repository = session(FilesystemProvider(), scenario.request, path=str(path))
        scenario.run(repository, Story(begun_with))
        repository.close()
        monkeypatch.undo()
        states.append({file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()})
    assert states[0] == states[1] == states[2]
