from __future__ import annotations

from collections.abc import Callable

import pytest

from borg_serve_lib.errors import NotPermitted
from borg_serve_lib.storage.base import Storage
from borg_serve_lib.storage.memory import MemoryProvider
from borg_serve_lib.storage.readonly import ReadOnlyProvider

from .support import fill

PATH = "/r"


@pytest.fixture
def inner() -> Storage:
    storage = MemoryProvider().create(PATH, make_parent_dirs=False)
    storage.make_directory("data")
    fill(storage, "config", b"content")
    return storage


def opened(inner: Storage) -> Storage:
    class Provider(MemoryProvider):
        def open(self, path: str) -> Storage:  # type: ignore[override]
            return inner

    return ReadOnlyProvider(Provider()).open(PATH)


CHANGES: dict[str, Callable[[Storage], object]] = {
    "create": lambda storage: storage.create("new"),
    "create_copy": lambda storage: storage.create_copy("config", "new"),
    "create_scratch": lambda storage: storage.create_scratch([b"content"]),
    "append": lambda storage: storage.append("config", b"x"),
    "overwrite": lambda storage: storage.overwrite("config", b"x"),
    "replace": lambda storage: storage.replace("config", b"x"),
    "rename": lambda storage: storage.rename("config", "new"),
    "link": lambda storage: storage.link("config", "new"),
    "remove": lambda storage: storage.remove("config"),
    "make_directory": lambda storage: storage.make_directory("new"),
    "remove_directory": lambda storage: storage.remove_directory("data"),
    "sync_directory": lambda storage: storage.sync_directory(),
    "destroy": lambda storage: storage.destroy(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_can_be_changed(inner: Storage, change: str) -> None:
    with pytest.raises(NotPermitted):
        CHANGES[change](opened(inner))
    assert {entry.name for entry in inner.entries()} == {"config", "data"}
    assert inner.read("config") == b"content"


def test_nothing_can_be_created() -> None:
    with pytest.raises(NotPermitted):
        ReadOnlyProvider(MemoryProvider()).create(PATH, make_parent_dirs=True)


def test_everything_can_be_read(inner: Storage) -> None:
    storage = opened(inner)
    assert storage.location == PATH
    assert storage.entries() == inner.entries()
    assert storage.read("config") == b"content"
    assert storage.size("config") == 7
    assert storage.link_count("config") == 1
    assert storage.free_space() == inner.free_space()
    with storage.open_reader("config") as reader:
        assert reader.read_at(3, 10) == b"tent"
    storage.close()


def test_every_change_of_the_port_is_tried_here() -> None:
    reading = {"entries", "size", "link_count", "free_space", "read", "open_reader", "close"}
    assert Storage.__abstractmethods__ | {"replace", "create_scratch"} == reading | CHANGES.keys()
