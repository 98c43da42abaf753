"""Scratch: files without names, as long as the disk has room for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from borg_serve_lib.buffers import Buffer
from borg_serve_lib.engine import scratch as scratch_module
from borg_serve_lib.engine.scratch import Scratch
from borg_serve_lib.errors import NoSpace, StorageError
from borg_serve_lib.storage.base import ScratchFile
from borg_serve_lib.storage.filesystem import FilesystemStorage
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage
from borg_serve_lib.storage.readonly import ReadOnlyStorage
from tests.confinement.support import AVAILABLE
from tests.tiny import treat_all_as_many

from .support import READING, created, identity, opened


class Disk(FilesystemStorage):
    """`free`: the bytes that it says are free, an error that it raises instead, or None."""

    free: int | StorageError | None = None

    def free_space(self) -> int | None:
        if isinstance(self.free, StorageError):
            raise self.free
        return self.free


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(str(tmp_path))


@pytest.mark.parametrize("free", [None, 80])
def test_there_is_room_where_much_more_is_free(disk: Disk, free: int | None) -> None:
    disk.free = free
    room = Scratch(disk).make_room(10, [b"01234", b"56789"])
    assert room is not None
    assert room.read_at(0, 100) == b"0123456789"
    room.close()


@pytest.mark.parametrize("free", [0, 79, StorageError(5, "Input/output error", "")])
def test_there_is_no_room_that_the_repository_may_need(disk: Disk, free: int | StorageError) -> None:
    disk.free = free
    assert Scratch(disk).make_room(10, [bytes(10)]) is None


def test_nothing_is_written_where_nothing_may_be(disk: Disk) -> None:
    scratch = Scratch(ReadOnlyStorage(disk))
    assert scratch.make_room(10, [bytes(10)]) is None


def test_what_fails_after_all_means_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_module, "_ROOM_TO_LEAVE", 0)
    storage = MemoryProvider((str(tmp_path),)).create(str(tmp_path / "r"), make_parent_dirs=False)
    assert isinstance(storage, MemoryStorage)
    storage.capacity = 5
    with pytest.raises(NoSpace):
        storage.create_scratch([bytes(10)])
    assert Scratch(storage).make_room(10, [bytes(10)]) is None


CONFINED = """
import sys
from borg_serve_lib.confinement.landlock import Landlock
from borg_serve_lib.confinement.process import confine_process
from borg_serve_lib.engine.scratch import Scratch
from borg_serve_lib.storage.base import ScratchFile
from borg_serve_lib.storage.filesystem import FilesystemStorage
if sys.argv[2] == "True":
    confine_process(Landlock(), [sys.argv[1]], writable=True, strictly=True)
scratch = Scratch(FilesystemStorage(sys.argv[1]))
print(scratch.make_room(4, [b"room"]).read_at(0, 4).decode())
"""


def test_a_confined_process_has_scratch_files_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONFINED, str(tmp_path), str(AVAILABLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("room\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_session_leaves_no_scratch_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    treat_all_as_many(monkeypatch)
    path = tmp_path / "repository"
    made = 0

    def counted(storage: FilesystemStorage, parts: Iterable[Buffer]) -> ScratchFile:
        nonlocal made
        made += 1
        return create(storage, parts)

    create = FilesystemStorage.create_scratch
    monkeypatch.setattr(FilesystemStorage, "create_scratch", counted)
    before = set(os.listdir("/proc/self/fd"))
    repository = created(path)
    for times in range(3):
        for number in range(40):
            repository.put(identity(number), b"%d" % times)
        repository.commit(compact=False)
    repository.delete(identity(1))
    repository.rollback()
    repository.delete(identity(2))
    repository.commit(compact=True, threshold=0.0)
    assert repository.check(repair=True)
    assert repository.check()
    repository.close()
    made_before = made
    for file in path.glob("index.*"):
        file.unlink()
    repository = opened(path)
    repository.put(identity(3), b"new")
    repository.close()
    repository = opened(path, READING)
    assert set(repository.list()) == {identity(number) for number in range(40)} - {identity(2)}
    repository.close()
    assert made > made_before > 0
    assert set(os.listdir("/proc/self/fd")) == before
