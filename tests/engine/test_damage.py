"""Damage of every kind at every kind of place: the right answer or one clear error, and repair saves what is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import attrs
import pytest

from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.errors import BorgServeError, IntegrityError, InternalError, InvalidRepository, StorageQuotaExceeded
from borg_serve_lib.format import segment as segment_format
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.storage.memory import MemoryProvider, MemoryStorage
from tests.format.sources import Bytes

from .scenarios import PATH, Content, session, stocked
from .support import READING, identity

KEY = b"a key of\nseveral lines"
Files = dict[str, bytes]


@attrs.frozen
class Sound:
    """The repository before the damage. `versions`: whatever was ever put under an id; `places`: segment of each."""

    files: Files
    content: Content
    versions: dict[bytes, set[bytes]]
    places: dict[bytes, str]


@cache
def sound() -> Sound:
    storages = MemoryProvider()
    wanted = stocked(storages)
    repository = session(storages)
    repository.save_key(KEY)
    repository.commit_nonce_reservation(1000, None)
    repository.close()
    storage = storages.open(PATH)
    files = {name: storage.read(name) for name in storage.names() if storage.size(name) is not None}
    versions: dict[bytes, set[bytes]] = {}
    places: dict[bytes, str] = {}
    for name in sorted(segments(files), key=lambda name: int(name.split("/")[2])):
        for tag, object_id, _, _, data in segment_format.entries(Bytes(files[name]), 0):
            if tag == 0:
                versions.setdefault(object_id, set()).add(bytes(data))
                places[object_id] = name
    return Sound(files, wanted, versions, {object_id: places[object_id] for object_id in wanted})


LAST_COMMIT = "data/4/19"


def test_the_last_commit_is_where_these_tests_take_it_to_be() -> None:
    assert max(segments(sound().files), key=lambda name: int(name.split("/")[2])) == LAST_COMMIT


def segments(files: Files) -> list[str]:
    return [name for name in files if name.startswith("data/")]


# --- kinds of damage

Damage = tuple[str, Files]


def flipped(files: Files, name: str, position: int, bit: int) -> Damage:
    data = bytearray(files[name])
    data[position] ^= 1 << bit
    return f"{name}: bit {bit} of byte {position}", {**files, name: bytes(data)}


def changed(files: Files, name: str, what: str, data: bytes) -> Damage:
    return f"{name}: {what}", {**files, name: data}


def places_of_interest(files: Files) -> Iterator[tuple[str, int]]:
    """Yield every byte of what is small, and of the large: heads, and a sample of the rest."""
    for name, data in files.items():
        kind = name.split(".")[0].split("/")[0]
        if kind == "index":
            used = [offset for offset in range(18, len(data), 40) if data[offset + 32 : offset + 36] < b"\xff" * 4]
            yield from ((name, position) for position in range(18))
            yield from ((name, offset + step) for offset in used[:8] for step in range(0, 40, 3))
            yield from ((name, position) for position in range(18, len(data), 4001))
        elif kind == "data":
            yield from ((name, position) for position in range(min(len(data), 70)))
            yield from ((name, position) for position in range(70, len(data), 41))
        elif kind == "config":
            yield from ((name, position) for position in range(len(data)))
        else:
            yield from ((name, position) for position in range(0, len(data), 5))


def bit_flips() -> Iterator[Damage]:
    files = sound().files
    for number, (name, position) in enumerate(places_of_interest(files)):
        yield flipped(files, name, position, number % 8)


def other_damage() -> Iterator[Damage]:
    files = sound().files
    for name, data in files.items():
        for length in sorted({0, 1, 7, 8, 9, 17, 18, 40, len(data) // 2, len(data) - 17, len(data) - 9, len(data) - 1}):
            if 0 <= length < len(data):
                yield changed(files, name, f"cut to {length} bytes", data[:length])
                yield changed(files, name, f"zeros from {length}", data[:length].ljust(len(data), b"\0"))
        for more in (b"\0", b"\xff" * 9, b"x" * 100, data):
            yield changed(files, name, f"{len(more)} bytes appended", data + more)
        yield changed(files, name, "text instead", b"There is no such thing here.\n" * 3)
        yield f"{name}: missing", {one: files[one] for one in files if one != name}
    names = sorted(files)
    for one, other in zip(names, names[1:] + names[:1], strict=True):
        yield f"{one} and {other}: swapped", {**files, one: files[other], other: files[one]}
    for kind in ("index", "hints", "integrity"):
        (name,) = (one for one in names if one.startswith(f"{kind}."))
        number = int(name.split(".")[1])
        for other_number in (0, number - 2, number + 1, 10**9):
            yield (
                f"{name}: of another transaction, {other_number}",
                {f"{kind}.{other_number}" if one == name else one: data for one, data in files.items()},
            )
    for name in segments(files)[::3]:
        data = files[name]
        for size in (0, 8, 9, 40, 20_971_520, 20_971_521, 2**31, 2**32 - 1):
            head = data[:12] + size.to_bytes(4, "little") + data[16:]
            yield changed(files, name, f"an entry of {size} bytes", head)


# --- what comes of it


def storage_with(files: Files) -> tuple[MemoryProvider, MemoryStorage]:
    storages = MemoryProvider()
    storage = storages.create(PATH, make_parent_dirs=False)
    storage.make_directory("data")
    for name, data in sorted(files.items()):
        if name.startswith("data/"):
            storage.make_directory(name.rpartition("/")[0])
        writer = storage.create(name)
        writer.write(data)
    return storages, storage


def attempt(action: Callable[[], object]) -> object:
    """Return what an action gives or the one clear error it ends with; anything else is a failure of the test."""
    try:
        return action()
    except BorgServeError as raised:
        error = raised
    assert not isinstance(error, InternalError)
    assert str(error)
    assert "\n" not in str(error)
    return error


def using(storages: MemoryProvider, action: Callable[[Repository], object], *, reading: bool = False) -> object:
    def use() -> object:
        repository = session(storages, READING) if reading else session(storages)
        try:
            return action(repository)
        finally:
            repository.close()

    return attempt(use)


def gets(repository: Repository) -> dict[bytes, object]:
    """Return each object or the error it ends with; of all that is listed and all that there was."""
    listed = attempt(repository.list)
    ids = {*sound().content, *(listed if isinstance(listed, list) else ())}
    return {object_id: attempt(lambda object_id=object_id: bytes(repository.get(object_id))) for object_id in ids}


def damaged_segments(files: Files) -> set[str]:
    return {name for name in segments(sound().files) if files.get(name) != sound().files[name]}


def examine(files: Files) -> None:
    before, damaged = sound(), damaged_segments(files)
    storages, _ = storage_with(files)

    found = using(storages, gets, reading=True)
    if not damaged and isinstance(found, dict):
        assert found == before.content
    objects = found if isinstance(found, dict) else {}
    for object_id, data in objects.items():
        if isinstance(data, bytes):
            assert data in before.versions[object_id]
            assert damaged or data == before.content[object_id]

    storages, _ = storage_with(files)
    checked = using(storages, lambda repository: repository.check())
    missed = [one for one in objects if one in before.content and objects[one] != before.content[one]]
    went_back = not files.get(LAST_COMMIT)  # by hand, that is: the transaction before is the last one then
    assert checked is not True or not missed or went_back
    if files.get("config") == before.files["config"] and not went_back:
        assert isinstance(checked, bool), f"a check that finds damage ends with it: {checked!r}"
        assert checked is True or damaged

    storages, storage = storage_with(files)
    repaired = using(storages, lambda repository: repository.check(repair=True))
    if repaired is not True:
        assert files.get("config") != before.files["config"] or not segments(files)
        assert isinstance(repaired, BorgServeError) or not segments(files)
        assert {name: storage.read(name) for name in segments(files)} == {name: files[name] for name in segments(files)}
        return
    assert using(storages, lambda repository: repository.check()) is True
    saved = using(storages, lambda repository: {one: bytes(repository.get(one)) for one in repository.list()})
    assert isinstance(saved, dict)
    for object_id, data in saved.items():
        assert data in before.versions[object_id]
    for object_id, data in before.content.items():
        if before.places[object_id] not in damaged and not went_back:
            assert saved.get(object_id) == data
    if isinstance(using(storages, put_and_commit), StorageQuotaExceeded):
        return  # the config says so now
    after = using(storages, lambda repository: repository.get(identity(50)), reading=True)
    assert after == b"new"
    assert using(storages, lambda repository: repository.check()) is True


def put_and_commit(repository: Repository) -> None:
    repository.put(identity(50), b"new")
    repository.put(MANIFEST_ID, b"new manifest")
    repository.commit()


PARTS = 12


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", [bit_flips, other_damage])
def test_damage_ends_well(
    kind: Callable[[], Iterator[Damage]], part: int, record_property: Callable[[str, object], None]
) -> None:
    cases = list(kind())[part::PARTS]
    for what, files in cases:
        try:
            examine(files)
        except BaseException as error:
            error.add_note(what) if hasattr(error, "add_note") else None
            raise
    record_property("damaged repositories", len(cases))


def test_an_error_in_data_names_segment_and_offset() -> None:
    object_id, name = next((one, place) for one, place in sound().places.items() if sound().content[one])
    data = sound().files[name]
    at = data.index(object_id) + 32
    storages, _ = storage_with({**sound().files, name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]})
    repository = session(storages, READING)
    with pytest.raises(IntegrityError, match=rf"segment {name.split('/')[2]}, offset {at - 41}\]"):
        repository.get(object_id)
    repository.close()


def test_a_repository_without_data_directory_is_none() -> None:
    storages, storage = storage_with({name: data for name, data in sound().files.items() if name == "config"})
    storage.remove_directory("data")
    assert isinstance(using(storages, gets), InvalidRepository)
