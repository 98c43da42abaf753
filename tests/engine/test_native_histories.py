"""The same histories, by native borg alone and by native borg and ours in turn: the same segments, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from borg_serve_lib.buffers import InMemory
from borg_serve_lib.format import hintsfile
from borg_serve_lib.format.hints import Hints
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.storage.places import FilesystemProvider
from tests.conftest import folder_in_memory

from .native import CREATING, NativeEngine
from .scenarios import make_segments_small, session
from .support import content, identity

HISTORIES = 100
TRANSACTIONS = 8
Action = tuple[object, ...]


@pytest.fixture(scope="module")
def native(clients: dict[str, Path]) -> Iterator[NativeEngine]:
    with folder_in_memory() as base:
        engine = NativeEngine(clients["1.4.5"], base)
        yield engine
        engine.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


def transaction(chance: random.Random, there: dict[bytes, bytes]) -> list[Action]:
    """Return the actions of one session, and do to `there` what they do to the repository."""
    actions: list[Action] = []
    begun_with = dict(there)
    for _ in range(chance.randrange(1, 14)):
        kind = chance.choice(["put", "put", "put", "delete", "overwrite"])
        if kind == "put" or not there:
            object_id = identity(chance.randrange(30)) if chance.random() < 0.9 else MANIFEST_ID
        else:
            object_id = chance.choice(sorted(there))
        if kind == "delete" and object_id in there:
            actions.append(("delete", object_id.hex()))
            del there[object_id]
        else:
            there[object_id] = chance.randbytes(chance.choice([0, 1, 30, 200, 900]))
            actions.append(("put", object_id.hex(), there[object_id].hex()))
    if begun_with and chance.random() < 0.15:  # what a first transaction leaves makes native borg fail ever after
        there.clear()
        there.update(begun_with)
        return [*actions, ("rollback",)]
    compact = chance.random() < 0.6
    return [*actions, ("commit", compact, chance.choice([0.0, 0.1, 0.5, 0.9]), chance.random() < 0.2)]


def by_ours(path: Path, actions: list[Action]) -> None:
    repository = session(FilesystemProvider(), path=str(path))
    does: dict[str, Callable[..., object]] = {
        "put": lambda object_id, data: repository.put(bytes.fromhex(object_id), bytes.fromhex(data)),
        "delete": lambda object_id: repository.delete(bytes.fromhex(object_id)),
        "commit": repository.commit,
        "rollback": repository.rollback,
    }
    for name, *arguments in actions:
        does[str(name)](*arguments)
    repository.close()


def segments(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.glob("data/*/*")}


def hints(path: Path) -> Hints:
    (file,) = path.glob("hints.*")
    return hintsfile.decode(InMemory(file.read_bytes()))


def made(native: NativeEngine, path: Path) -> Path:
    native.perform(path, opening=CREATING).sound()
    make_segments_small(FilesystemProvider().open(str(path)))
    return path


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_ours_and_native_borg_write_the_same(
    seed: int, native: NativeEngine, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(seed)
    alone, shared = made(native, folder / "alone"), made(native, folder / "shared")
    there: dict[bytes, bytes] = {}
    for turn in range(TRANSACTIONS):
        actions = transaction(chance, there)
        native.perform(alone, *actions).sound()
        if (turn + seed) % 2:
            by_ours(shared, actions)
        else:
            native.perform(shared, *actions).sound()
        assert segments(shared) == segments(alone)
        assert hints(shared) == hints(alone)
        (found, sound) = native.perform(shared, ("content",), ("check", False)).sound()
        assert {bytes.fromhex(one): bytes.fromhex(data) for one, data in found.items()} == there
        assert sound
        repository = session(FilesystemProvider(), path=str(shared))
        assert content(repository) == there
        repository.close()
    record_property("histories shared with native borg", 1)
