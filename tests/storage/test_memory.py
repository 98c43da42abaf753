"""What only the twin in memory does: it forgets what was not synced, and it can be full."""

from __future__ import annotations

import pytest

from borg_serve_lib.errors import NoSpace, StorageError
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage

from .support import fill, names


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryProvider(capacity=100).create("/repository", make_parent_dirs=False)


def test_a_crash_takes_names_that_were_not_synced(storage: MemoryStorage) -> None:
    storage.make_directory("data")
    storage.sync_directory()
    storage.make_directory("data/0")
    writer = storage.create("data/1")
    writer.write(b"x")
    writer.sync()
    storage.crash()
    assert names(storage) == {"data": True}
    assert names(storage, "data") == {}


def test_a_crash_takes_content_that_was_not_synced(storage: MemoryStorage) -> None:
    writer = storage.create("segment")
    writer.write(b"synced")
    writer.sync()
    writer.write(b" and more")
    storage.sync_directory()
    storage.crash()
    assert storage.read("segment") == b"synced"


def test_a_crash_leaves_a_name_whose_content_never_was_synced(storage: MemoryStorage) -> None:
    fill(storage, "segment", b"x")
    storage.sync_directory()
    storage.crash()
    assert storage.read("segment") == b""


def test_a_crash_brings_back_what_was_removed_or_renamed_without_a_sync(storage: MemoryStorage) -> None:
    storage.replace("one", b"1")
    storage.replace("two", b"2")
    storage.rename("one", "three")
    storage.remove("two")
    storage.crash()
    assert names(storage) == {"one": False, "two": False}
    storage.rename("one", "three")
    storage.remove("two")
    storage.sync_directory()
    storage.crash()
    assert names(storage) == {"three": False}
    assert storage.read("three") == b"1"


def test_a_crash_undoes_a_patch_that_was_not_synced(storage: MemoryStorage) -> None:
    storage.replace("index.1", b"0123")
    patch = storage.create_copy("index.1", "index.2")
    patch.view[:2] = b"__"
    patch.sync()
    patch.view[2:] = b"__"
    patch.close()
    storage.sync_directory()
    assert storage.read("index.2") == b"____"
    storage.crash()
    assert storage.read("index.2") == b"__23"


def test_a_full_disk_takes_what_fits_and_tells(storage: MemoryStorage) -> None:
    fill(storage, "other", bytes(90))
    assert storage.free_space() == 10
    writer = storage.create("segment")
    with pytest.raises(NoSpace):
        writer.write(b"0123456789", b"abc")
    assert writer.position == 10
    assert storage.read("segment") == b"0123456789"
    assert storage.free_space() == 0
    with pytest.raises(NoSpace):
        storage.replace("other", b"x")
    assert storage.read("other") == bytes(90)
    with pytest.raises(NoSpace):
        storage.create_copy("segment", "copy")
    assert names(storage) == {"other": False, "segment": False}


def test_a_further_name_takes_no_room_and_a_removed_file_gives_its_own_back(storage: MemoryStorage) -> None:
    fill(storage, "one", bytes(40))
    storage.link("one", "two")
    assert storage.free_space() == 60
    storage.remove("one")
    assert storage.free_space() == 60
    storage.remove("two")
    assert storage.free_space() == 100


def test_what_was_closed_is_of_no_use_any_more(storage: MemoryStorage) -> None:
    fill(storage, "segment", b"x")
    reader = storage.open_reader("segment")
    reader.close()
    with pytest.raises(StorageError):
        reader.read_at(0, 1)
    writer = storage.create("new")
    writer.close()
    with pytest.raises(StorageError):
        writer.write(b"x")


def test_each_provider_keeps_repositories_of_its_own() -> None:
    one, other = MemoryProvider(), MemoryProvider()
    one.create("/repository", make_parent_dirs=False)
    assert other.create("/repository", make_parent_dirs=False).entries() == []
