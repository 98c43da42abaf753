"""What every storage does, on disk and in memory."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from borg_serve_lib.engine.settings import README_TEXT
from borg_serve_lib.errors import (
    AlreadyExists,
    DoesNotExist,
    FileExists,
    FileMissing,
    ParentPathDoesNotExist,
    PathAlreadyExists,
    StorageError,
)
from borg_serve_lib.storage.base import Storage

from .support import PLACES, Place, fill, names


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return PLACES[request.param](tmp_path)


@pytest.fixture
def storage(place: Place) -> Storage:
    return place.make()


# --- finding and making


def test_a_new_repository_is_an_empty_directory_at_its_path(place: Place) -> None:
    storage = place.make()
    assert storage.entries() == []
    assert storage.location == place.path("repository")


def test_what_one_storage_wrote_another_one_opened_later_reads(place: Place, storage: Storage) -> None:
    fill(storage, "config", b"content")
    assert place.provider.open(storage.location).read("config") == b"content"


def test_a_path_where_nothing_is_does_not_exist(place: Place) -> None:
    with pytest.raises(DoesNotExist) as refusal:
        place.provider.open(place.path("nothing"))
    assert place.path("nothing") in str(refusal.value)


def test_a_repository_is_not_made_where_one_is(place: Place, storage: Storage) -> None:
    fill(storage, "README", README_TEXT)
    fill(storage, "config", b"content")
    with pytest.raises(AlreadyExists):
        place.make()
    assert storage.read("README") == README_TEXT


def test_a_creation_that_was_cut_short_is_taken_up(place: Place, storage: Storage) -> None:
    fill(storage, "README", README_TEXT[:10])
    fill(storage, "config-abcdefgh.tmp", b"[repo")
    storage.make_directory("data")
    assert place.make().location == storage.location
    assert storage.read("README") == README_TEXT[:10]


def test_a_repository_that_lost_its_config_is_no_creation_that_was_cut_short(place: Place, storage: Storage) -> None:
    fill(storage, "README", README_TEXT)
    storage.make_directory("data")
    storage.make_directory("data/0")
    with pytest.raises(AlreadyExists):
        place.make()


@pytest.mark.parametrize("hard_links", [True, False])
def test_replacing_by_something_new_does_not_replace(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def refuse(old: str, new: str) -> None:
        raise StorageError(errno.EPERM, "Operation not permitted", old)

    if not hard_links:
        monkeypatch.setattr(storage, "link", refuse)
    storage.replace("config", b"one", must_be_new=True)
    with pytest.raises(FileExists):
        storage.replace("config", b"other", must_be_new=True)
    assert storage.read("config") == b"one"
    assert names(storage) == {"config": False}


def test_a_repository_is_not_made_inside_another(place: Place, storage: Storage) -> None:
    fill(storage, "README", README_TEXT)
    with pytest.raises(AlreadyExists) as refusal:
        place.provider.create(f"{storage.location}/data/inner", make_parent_dirs=True)
    assert storage.location in str(refusal.value)
    assert names(storage) == {"README": False}


def test_a_repository_is_not_made_where_other_things_are(place: Place) -> None:
    place.provider.create(place.path("outer/inner"), make_parent_dirs=True)
    with pytest.raises(PathAlreadyExists):
        place.make("outer")


def test_missing_parent_directories_are_made_only_when_asked_for(place: Place) -> None:
    path = place.path("a/b/repository")
    with pytest.raises(ParentPathDoesNotExist):
        place.provider.create(path, make_parent_dirs=False)
    with pytest.raises(DoesNotExist):
        place.provider.open(path)
    assert place.provider.create(path, make_parent_dirs=True).location == path


def test_a_destroyed_repository_is_gone_and_can_be_made_anew(place: Place, storage: Storage) -> None:
    fill(storage, "config", b"x")
    storage.make_directory("data")
    storage.make_directory("data/0")
    fill(storage, "data/0/1", b"y")
    storage.destroy()
    with pytest.raises(DoesNotExist):
        place.provider.open(storage.location)
    assert place.make().entries() == []


# --- looking


def test_entries_tell_files_from_directories(storage: Storage) -> None:
    storage.make_directory("data")
    storage.make_directory("data/0")
    fill(storage, "data/0/17", b"")
    fill(storage, "config", b"x")
    assert names(storage) == {"data": True, "config": False}
    assert names(storage, "data") == {"0": True}
    assert names(storage, "data/0") == {"17": False}


def test_the_size_is_that_of_regular_files_alone(storage: Storage) -> None:
    storage.make_directory("data")
    fill(storage, "config", b"12345")
    assert storage.size("config") == 5
    assert storage.size("data") is None
    assert storage.size("missing") is None
    assert storage.size("config/below") is None


def test_a_file_is_counted_under_every_name(storage: Storage) -> None:
    fill(storage, "config", b"old")
    assert storage.link_count("config") == 1
    storage.link("config", "config.old")
    assert storage.link_count("config") == storage.link_count("config.old") == 2
    storage.remove("config")
    assert storage.link_count("config.old") == 1
    assert storage.read("config.old") == b"old"


def test_some_space_is_free(storage: Storage) -> None:
    free = storage.free_space()
    assert free is not None
    assert free > 0


MISSING: dict[str, Callable[[Storage], object]] = {
    "read": lambda storage: storage.read("gone"),
    "open_reader": lambda storage: storage.open_reader("gone"),
    "create_copy": lambda storage: storage.create_copy("gone", "new"),
    "overwrite": lambda storage: storage.overwrite("gone", b"x"),
    "rename": lambda storage: storage.rename("gone", "new"),
    "link": lambda storage: storage.link("gone", "new"),
    "link_count": lambda storage: storage.link_count("gone"),
    "entries": lambda storage: storage.entries("gone"),
    "sync_directory": lambda storage: storage.sync_directory("gone"),
}


@pytest.mark.parametrize("operation", MISSING)
def test_what_is_missing_is_named(storage: Storage, operation: str) -> None:
    with pytest.raises(FileMissing) as error:
        MISSING[operation](storage)
    assert error.value.name == "gone"
    assert storage.entries() == []


BELOW_NOTHING: dict[str, Callable[[Storage], object]] = {
    "create": lambda storage: storage.create("gone/new"),
    "append": lambda storage: storage.append("gone/new", b"x"),
    "replace": lambda storage: storage.replace("gone/new", b"x"),
    "make_directory": lambda storage: storage.make_directory("gone/new"),
}


@pytest.mark.parametrize("operation", BELOW_NOTHING)
def test_nothing_is_made_in_a_missing_directory(storage: Storage, operation: str) -> None:
    with pytest.raises(FileMissing) as error:
        BELOW_NOTHING[operation](storage)
    assert error.value.name.startswith("gone/new")
    assert storage.entries() == []


# --- reading and writing


def test_parts_are_written_one_after_the_other_and_seen_at_once(storage: Storage) -> None:
    writer = storage.create("segment")
    reader = storage.open_reader("segment")
    writer.write(b"one", memoryview(b"two"), bytearray(b"three"))
    assert writer.position == 11
    assert reader.size == 11
    assert reader.read_at(0, 100) == b"onetwothree"
    writer.write()
    writer.write(b"")
    writer.write(b"!")
    assert writer.position == 12
    assert reader.read_at(11, 1) == b"!"
    writer.close()
    reader.close()


def test_a_new_file_never_takes_the_place_of_one_that_is_there(storage: Storage) -> None:
    fill(storage, "segment", b"old")
    with pytest.raises(FileExists) as error:
        storage.create("segment")
    assert error.value.name == "segment"
    assert storage.read("segment") == b"old"


def test_reads_end_where_the_file_ends(storage: Storage) -> None:
    fill(storage, "segment", b"0123456789")
    with storage.open_reader("segment") as reader:
        assert reader.read_at(3, 4) == b"3456"
        assert reader.read_at(8, 4) == b"89"
        assert reader.read_at(10, 4) == b""
        assert reader.read_at(1000, 4) == b""
        reader.will_need(0, 1 << 40)
        assert bytes(reader.map()) == b"0123456789"


def test_a_removed_file_can_be_read_to_the_end_by_those_who_have_it_open(storage: Storage) -> None:
    fill(storage, "segment", b"0123456789")
    reader = storage.open_reader("segment")
    mapped = reader.map()
    storage.remove("segment")
    assert storage.size("segment") is None
    assert reader.read_at(5, 5) == b"56789"
    assert bytes(mapped) == b"0123456789"
    reader.close()
    reader.close()


def test_an_empty_file_has_an_empty_map(storage: Storage) -> None:
    fill(storage, "segment")
    with storage.open_reader("segment") as reader:
        assert bytes(reader.map()) == b""


def test_a_map_is_read_only(storage: Storage) -> None:
    fill(storage, "index", b"content")
    with storage.open_reader("index") as reader:
        assert reader.map().readonly


def test_a_copy_is_changed_in_place_and_the_source_stays(storage: Storage) -> None:
    fill(storage, "index.1", b"0123456789")
    fill(storage, "index.3.tmp", b"left by a crash, and longer than the copy")
    patch = storage.create_copy("index.1", "index.3.tmp")
    assert bytes(patch.view) == b"0123456789"
    patch.view[2:4] = b"_x"
    patch.write_at(3, b"_")
    assert patch.size == 10
    assert [patch.read_at(0, 4), patch.read_at(8, 4), patch.read_at(10, 1)] == [b"01__", b"89", b""]
    patch.sync()
    patch.close()
    patch.close()
    assert storage.read("index.3.tmp") == b"01__456789"
    assert storage.read("index.1") == b"0123456789"


def test_a_scratch_file_has_no_name_and_is_changed_in_place(storage: Storage) -> None:
    scratch = storage.create_scratch([b"01234", b"", b"56789"])
    assert names(storage) == {}
    assert scratch.read_at(0, 100) == b"0123456789"
    scratch.write_at(2, b"__")
    assert scratch.size == 10
    assert [scratch.read_at(0, 4), scratch.read_at(8, 4), scratch.read_at(10, 1)] == [b"01__", b"89", b""]
    scratch.close()
    scratch.close()
    assert names(storage) == {}


def test_appended_text_follows_what_is_there(storage: Storage) -> None:
    storage.append("transactions", b"one\n")
    storage.append("transactions", b"two\n")
    assert storage.read("transactions") == b"one\ntwo\n"


@pytest.mark.parametrize("data", [b"", b"ab", b"abcdef", b"abcdefgh"])
def test_overwriting_changes_the_beginning_and_no_name(storage: Storage, data: bytes) -> None:
    fill(storage, "config", b"123456")
    storage.link("config", "other")
    storage.overwrite("config", data)
    assert storage.read("config") == storage.read("other") == data + b"123456"[len(data) :]


def test_replacing_leaves_nothing_of_the_old_file_and_no_other(storage: Storage) -> None:
    storage.replace("nonce", b"a long one")
    storage.link("nonce", "kept")
    storage.replace("nonce", b"short")
    assert storage.read("nonce") == b"short"
    assert storage.read("kept") == b"a long one"
    assert names(storage) == {"nonce": False, "kept": False}


# --- names


def test_a_file_renamed_to_a_name_in_use_takes_its_place(storage: Storage) -> None:
    fill(storage, "index.tmp", b"new")
    fill(storage, "index", b"old")
    storage.rename("index.tmp", "index")
    assert storage.read("index") == b"new"
    assert names(storage) == {"index": False}


def test_a_further_name_is_a_new_one(storage: Storage) -> None:
    fill(storage, "config", b"new")
    fill(storage, "config.old", b"old")
    with pytest.raises(FileExists):
        storage.link("config", "config.old")
    assert storage.read("config.old") == b"old"


def test_removing_what_is_not_there_is_fine(storage: Storage) -> None:
    storage.remove("gone")
    storage.remove("gone/below")
    assert storage.remove_directory("gone")


def test_a_directory_is_made_once_and_removed_when_empty(storage: Storage) -> None:
    storage.make_directory("data")
    storage.make_directory("data")
    fill(storage, "data/1", b"")
    assert not storage.remove_directory("data")
    storage.remove("data/1")
    assert storage.remove_directory("data")
    assert storage.entries() == []


def test_directories_can_be_synced_wherever_they_are(storage: Storage) -> None:
    storage.make_directory("data")
    storage.sync_directory()
    storage.sync_directory("data")


def test_closing_twice_is_fine(storage: Storage) -> None:
    writer = storage.create("segment")
    writer.write(b"x")
    writer.sync()
    writer.close()
    writer.close()
    storage.close()
    storage.close()


def test_a_file_that_is_larger_than_expected_is_not_read(storage: Storage) -> None:
    fill(storage, "nonce", bytes(100))
    assert storage.read("nonce", 100) == bytes(100)
    with pytest.raises(StorageError) as caught:
        storage.read("nonce", 99)
    assert (caught.value.errno, caught.value.name) == (errno.EFBIG, "nonce")
