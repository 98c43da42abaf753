"""What only a real file system does: permissions, links, full disks, interrupted calls, the order of syncs."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from borg_serve_lib.engine.settings import README_TEXT
from borg_serve_lib.errors import (
    AlreadyExists,
    DoesNotExist,
    FileMissing,
    InvalidRepository,
    NoSpace,
    NotPermitted,
    PathAlreadyExists,
    PathPermissionDenied,
    StorageError,
)
from borg_serve_lib.storage.filesystem import FilesystemStorage
from borg_serve_lib.storage.places import FilesystemProvider

from .support import fill

OLD_FILE = b"0123456789"


@pytest.fixture
def storage(tmp_path: Path) -> FilesystemStorage:
    return FilesystemProvider().create(str(tmp_path / "repository"), make_parent_dirs=False)


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    found = os.umask(0o022)
    yield os.umask
    os.umask(found)


class System:
    """Stands in for functions of `os`: notes the calls and lets some of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.calls: list[str] = []

    def watch(self, *functions: str) -> None:
        for function in functions:
            self._monkeypatch.setattr(os, function, self._noting(function, getattr(os, function)))

    def _noting(self, name: str, function: Callable[..., object]) -> Callable[..., object]:
        def noting(*arguments: object, **options: object) -> object:
            self.calls.append(name)
            return function(*arguments, **options)

        return noting

    def fail(self, function: str, *numbers: int) -> None:
        """Let the next calls fail with these error numbers, and the ones after them succeed."""
        waiting, real = list(numbers), getattr(os, function)

        def failing(*arguments: object, **options: object) -> object:
            if waiting:
                number = waiting.pop(0)
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        self._monkeypatch.setattr(os, function, failing)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


# --- finding and making


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with pytest.raises(InvalidRepository):
        FilesystemProvider().open(str(path))
    with pytest.raises(PathAlreadyExists):
        FilesystemProvider().create(str(path), make_parent_dirs=False)
    with pytest.raises(DoesNotExist):
        FilesystemProvider().open(str(path / "below"))
    with pytest.raises(PathAlreadyExists):
        FilesystemProvider().create(str(path / "below"), make_parent_dirs=True)
    assert path.read_bytes() == b"x"


def test_an_empty_directory_becomes_the_repository(tmp_path: Path) -> None:
    path = tmp_path / "made by the admin"
    path.mkdir(0o711)
    assert FilesystemProvider().create(str(path), make_parent_dirs=False).entries() == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o711


def test_a_readme_of_something_else_makes_no_repository(tmp_path: Path) -> None:
    (tmp_path / "README").write_bytes(b"Put backups here.\n" + b"-" * 100 + README_TEXT)
    path = str(tmp_path / "repository")
    assert FilesystemProvider().create(path, make_parent_dirs=False).location == path


def test_whether_a_repository_lies_above_the_trees_is_not_looked_for(tmp_path: Path) -> None:
    for directory in ("outer", "outer/tree"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "README").write_bytes(README_TEXT)
    outer, tree = tmp_path / "outer", tmp_path / "outer" / "tree"
    with pytest.raises(AlreadyExists) as refusal:
        FilesystemProvider([str(outer)]).create(str(tree / "a" / "b"), make_parent_dirs=True)
    assert str(refusal.value).endswith(f"{tree}.")
    (tree / "README").unlink()
    with pytest.raises(AlreadyExists):
        FilesystemProvider([str(outer)]).create(str(tree / "a"), make_parent_dirs=False)
    assert FilesystemProvider([str(tree)]).create(str(tree / "a" / "b"), make_parent_dirs=True).entries() == []


@pytest.mark.parametrize("function", ["stat", "mkdir"])
def test_a_place_that_may_not_be_entered_is_a_refusal(tmp_path: Path, system: System, function: str) -> None:
    system.fail(function, errno.EACCES)
    with pytest.raises(PathPermissionDenied) as refusal:
        FilesystemProvider().create(str(tmp_path / "repository"), make_parent_dirs=False)
    assert str(tmp_path / "repository") in str(refusal.value)


def test_a_repository_that_may_not_be_entered_is_a_refusal(storage: FilesystemStorage, system: System) -> None:
    system.fail("stat", errno.EACCES)
    with pytest.raises(PathPermissionDenied):
        FilesystemProvider().open(storage.location)


def test_a_failing_disk_is_told_when_a_repository_is_looked_for(tmp_path: Path, system: System) -> None:
    system.fail("stat", errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        FilesystemProvider().open(str(tmp_path))
    system.fail("stat", errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        FilesystemProvider().create(str(tmp_path / "repository"), make_parent_dirs=False)


@pytest.mark.parametrize(("mask", "file", "directory"), [(0o077, 0o600, 0o700), (0o007, 0o660, 0o770)])
def test_what_is_made_has_the_rights_that_the_umask_leaves(
    tmp_path: Path, umask: Callable[[int], int], mask: int, file: int, directory: int
) -> None:
    umask(mask)
    storage = FilesystemProvider().create(str(tmp_path / "a" / "b"), make_parent_dirs=True)
    storage.make_directory("data")
    fill(storage, "data/1", b"x")
    storage.replace("nonce", b"x")
    storage.append("transactions", b"x")
    storage.create_copy("data/1", "data/2").close()
    place = Path(storage.location)
    for name in ("data/1", "data/2", "nonce", "transactions"):
        assert stat.S_IMODE((place / name).stat().st_mode) == file, name
    for made in (place.parent, place, place / "data"):
        assert stat.S_IMODE(made.stat().st_mode) == directory, made


def test_destroying_follows_no_link_out_of_the_repository(storage: FilesystemStorage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x")
    (Path(storage.location) / "data").symlink_to(outside)
    fill(storage, "config", b"x")
    storage.destroy()
    assert not Path(storage.location).exists()
    assert (outside / "kept").read_bytes() == b"x"


def test_a_repository_that_cannot_be_removed_is_none_any_more(storage: FilesystemStorage, system: System) -> None:
    fill(storage, "config", b"x")
    storage.make_directory("data")
    system.fail("rmdir", errno.EBUSY)
    with pytest.raises(StorageError, match="busy"):
        storage.destroy()
    assert storage.size("config") is None


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS])
def test_an_empty_directory_that_its_parent_keeps_is_no_repository(
    storage: FilesystemStorage, system: System, number: int
) -> None:
    fill(storage, "config", b"x")
    system.fail("rmdir", number)
    storage.destroy()
    assert os.listdir(storage.location) == []
    FilesystemProvider().create(storage.location, make_parent_dirs=False)


# --- errors of the system

ERRORS = [
    (errno.ENOSPC, NoSpace),
    (errno.EDQUOT, NoSpace),
    (errno.EACCES, NotPermitted),
    (errno.EPERM, NotPermitted),
    (errno.EROFS, NotPermitted),
    (errno.ENOENT, FileMissing),
    (errno.EIO, StorageError),
    (errno.EMFILE, StorageError),
]
OPERATIONS: dict[str, tuple[str, Callable[[FilesystemStorage], object]]] = {
    "entries": ("scandir", lambda storage: storage.entries()),
    "size": ("stat", lambda storage: storage.size("config")),
    "free_space": ("statvfs", lambda storage: storage.free_space()),
    "open_reader": ("open", lambda storage: storage.open_reader("config")),
    "read": ("pread", lambda storage: storage.read("config")),
    "create": ("open", lambda storage: storage.create("new")),
    "append": ("writev", lambda storage: storage.append("config", b"x")),
    "overwrite": ("writev", lambda storage: storage.overwrite("config", b"x")),
    "overwrite, sync": ("fdatasync", lambda storage: storage.overwrite("config", b"0")),
    "create_copy": ("posix_fallocate", lambda storage: storage.create_copy("config", "new")),
    "replace, write": ("writev", lambda storage: storage.replace("config", b"new")),
    "replace, sync": ("fdatasync", lambda storage: storage.replace("config", b"new")),
    "replace, directory": ("fsync", lambda storage: storage.replace("config", b"new")),
    "replace, rename": ("replace", lambda storage: storage.replace("config", b"new")),
    "rename": ("replace", lambda storage: storage.rename("config", "new")),
    "link": ("link", lambda storage: storage.link("config", "new")),
    "make_directory": ("mkdir", lambda storage: storage.make_directory("new")),
    "sync_directory": ("fsync", lambda storage: storage.sync_directory()),
}
MISSING_IS_FINE = {"size"}


@pytest.mark.parametrize(("number", "kind"), ERRORS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_error_of_the_system_is_ours_and_nothing_is_left_behind(
    storage: FilesystemStorage, system: System, operation: str, number: int, kind: type[StorageError]
) -> None:
    fill(storage, "config", OLD_FILE)
    function, operate = OPERATIONS[operation]
    system.fail(function, number)
    if operation in MISSING_IS_FINE and kind is FileMissing:
        operate(storage)
        return
    with pytest.raises(kind) as error:
        operate(storage)
    assert error.value.errno == number
    assert os.strerror(number) in str(error.value)
    assert sorted(os.listdir(storage.location)) == ["config"]
    expected = b"x123456789" if number and operation == "overwrite, written" else OLD_FILE
    assert (Path(storage.location) / "config").read_bytes() == expected


def test_a_file_that_needs_room_to_be_removed_is_emptied_first(storage: FilesystemStorage, system: System) -> None:
    fill(storage, "segment", OLD_FILE)
    system.watch("truncate")
    system.fail("unlink", errno.ENOSPC)
    storage.remove("segment")
    assert storage.size("segment") is None
    assert system.calls == ["truncate"]


def test_a_file_with_further_names_is_never_emptied(storage: FilesystemStorage, system: System) -> None:
    fill(storage, "segment", OLD_FILE)
    storage.link("segment", "hard link of a snapshot")
    system.fail("unlink", errno.ENOSPC)
    with pytest.raises(NoSpace):
        storage.remove("segment")
    assert storage.read("hard link of a snapshot") == OLD_FILE


def test_a_file_that_may_not_be_removed_is_told(storage: FilesystemStorage, system: System) -> None:
    fill(storage, "segment", OLD_FILE)
    system.fail("unlink", errno.EPERM)
    with pytest.raises(NotPermitted):
        storage.remove("segment")
    storage.make_directory("data")
    system.fail("rmdir", errno.EACCES)
    with pytest.raises(NotPermitted):
        storage.remove_directory("data")


# --- writing


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8])
def test_writes_that_the_system_cuts_short_go_on(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    write = os.write

    def short_writev(descriptor: int, parts: tuple[bytes, ...]) -> int:
        return write(descriptor, b"".join(parts)[:step])

    def short_write(descriptor: int, data: memoryview) -> int:
        return write(descriptor, data[:step])

    monkeypatch.setattr(os, "writev", short_writev)
    monkeypatch.setattr(os, "write", short_write)
    writer = storage.create("segment")
    writer.write(b"one", b"", memoryview(b"two"), b"three")
    assert writer.position == 11
    writer.close()
    assert storage.read("segment") == b"onetwothree"


def test_the_disk_is_set_to_work_early_on_what_is_written(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *advice: told.append(advice))
    mib = 1 << 20
    with closing(storage.create("big")) as writer:
        for _ in range(7):
            writer.write(bytes(mib), bytes(2 * mib))
    early = os.POSIX_FADV_DONTNEED
    assert told == [(0, 9 * mib, early), (9 * mib, 9 * mib, early)]


def test_a_disk_that_fills_up_in_the_middle_of_a_write_is_told(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, system: System
) -> None:
    write = os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: write(descriptor, b"".join(parts)[:4]))
    system.fail("write", errno.ENOSPC)
    writer = storage.create("segment")
    with pytest.raises(NoSpace):
        writer.write(b"one", b"two")
    assert writer.position == 4
    writer.close()
    assert storage.read("segment") == b"onet"


def test_reads_that_the_system_cuts_short_go_on(storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(storage, "segment", OLD_FILE)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, length, offset: pread(descriptor, min(length, 3), offset))
    with storage.open_reader("segment") as reader:
        assert reader.read_at(1, 8) == OLD_FILE[1:9]
        assert reader.read_at(8, 8) == OLD_FILE[8:]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_copy_is_made_by_hand_where_the_system_makes_none(
    storage: FilesystemStorage, system: System, number: int
) -> None:
    content = os.urandom((1 << 20) + 7)
    fill(storage, "index.1", content)
    system.fail("copy_file_range", number)
    patch = storage.create_copy("index.1", "index.2")
    assert bytes(patch.view) == content
    patch.close()
    assert storage.read("index.2") == content


def test_a_file_is_replaced_in_the_order_that_survives_a_power_failure(
    storage: FilesystemStorage, system: System
) -> None:
    storage.replace("nonce", b"old")
    system.watch("writev", "fdatasync", "fsync", "replace")
    storage.replace("nonce", b"new")
    assert system.calls == ["writev", "fdatasync", "fsync", "replace", "fsync"]


def test_a_file_system_without_syncs_of_directories_is_fine(storage: FilesystemStorage, system: System) -> None:
    system.fail("fsync", errno.EINVAL)
    storage.sync_directory()


@pytest.mark.parametrize("error", [OSError(errno.EOPNOTSUPP, "no"), AttributeError("O_TMPFILE")])
def test_a_scratch_file_loses_its_name_where_it_needs_one(
    storage: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    opened, original = [], os.open

    def with_a_name_only(path: str, flags: int, *arguments: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise error
        opened.append(path)
        return original(path, flags, *arguments)

    monkeypatch.setattr(os, "open", with_a_name_only)
    scratch = storage.create_scratch([b"content"])
    assert [Path(path).suffix for path in opened] == [".tmp"]
    assert scratch.read_at(0, 10) == b"content"
    assert storage.entries() == []
    scratch.close()


def test_no_descriptor_is_left_open_or_handed_down(storage: FilesystemStorage, system: System) -> None:
    fill(storage, "index.1", OLD_FILE)
    before = set(os.listdir("/proc/self/fd"))
    patch = storage.create_copy("index.1", "index.2")
    scratch = storage.create_scratch([OLD_FILE])
    reader = storage.open_reader("index.1")
    reader.map()
    writer = storage.create("segment")
    for descriptor in set(os.listdir("/proc/self/fd")) - before:
        if os.path.exists(f"/proc/self/fd/{descriptor}"):
            assert not os.get_inheritable(int(descriptor))
    for opened in (patch, scratch, reader, writer):
        opened.close()
    storage.replace("nonce", b"x")
    storage.sync_directory()
    system.fail("posix_fallocate", errno.ENOSPC)
    with pytest.raises(NoSpace):
        storage.create_copy("index.1", "index.3")
    system.fail("writev", errno.ENOSPC)
    with pytest.raises(NoSpace):
        storage.create_scratch([OLD_FILE])
    assert set(os.listdir("/proc/self/fd")) == before


# --- what is no file


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_file_is_not_waited_for(storage: FilesystemStorage, kind: str) -> None:
    path = Path(storage.location) / "config"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(StorageError, match="not a regular file"):
        storage.read("config")


@pytest.mark.parametrize("operation", ["append", "overwrite", "create_copy"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for_by_writers_either(
    storage: FilesystemStorage, operation: str
) -> None:
    os.mkfifo(Path(storage.location) / "pipe")
    if operation == "create_copy":
        with suppress(StorageError, ValueError):
            storage.create_copy("pipe", "copy").close()
    else:
        with pytest.raises(StorageError):
            getattr(storage, operation)("pipe", b"x")


def test_a_pipe_named_readme_above_a_new_repository_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README")
    FilesystemProvider().create(str(tmp_path / "repository"), make_parent_dirs=False).close()
