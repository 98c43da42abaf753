"""Check and repair of segments with more entries than are kept: they say and do the same, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from pathlib import Path

import pytest

from borg_serve_lib.engine import checking
from borg_serve_lib.engine.log import SegmentLog
from borg_serve_lib.engine.scratch import Scratch
from borg_serve_lib.engine.source import SegmentSource
from borg_serve_lib.errors import BorgServeError, IntegrityError
from borg_serve_lib.format import hashindex
from borg_serve_lib.format.heads import checked_heads

from .scenarios import session
from .support import Notes, content, created, identity, opened
from .test_damage import Files, bit_flips, other_damage, sound, storage_with

SIZE = 300
ENTRY = SIZE + 41


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each segment be read twice, the second time entry by entry."""
    monkeypatch.setattr(checking, "_MOST_KEPT", 0)
    monkeypatch.setattr(checking, "checked_heads", partial(checked_heads, window=50, piece=1))


def filled(path: Path) -> dict[bytes, bytes]:
    """Make a repository with nine objects in segment 0 and a DELETE and a new version of two in segment 2."""
    repository = created(path)
    for number in range(9):
        repository.put(identity(number), bytes([number]) * SIZE)
    repository.commit(compact=False)
    repository.delete(identity(0))
    repository.put(identity(1), b"new")
    repository.commit(compact=False)
    wanted = content(repository)
    repository.close()
    return wanted


def damage(path: Path) -> None:
    """Damage the last entry but one of segment 0."""
    file = path / "data/0/0"
    raw = bytearray(file.read_bytes())
    raw[8 + 7 * ENTRY + 100] ^= 1
    file.write_bytes(raw)


def on_opening(monkeypatch: pytest.MonkeyPatch, nth: int, action: Callable[[], None]) -> Counter[int]:
    """Do something before segment 0 is read through for the `nth` time; return how often each segment was."""
    counts: Counter[int] = Counter()
    source = SegmentLog.source

    def opening(self: SegmentLog, segment: int) -> SegmentSource:
        counts[segment] += 1
        if (segment, counts[segment]) == (0, nth):
            action()
        return source(self, segment)

    monkeypatch.setattr(SegmentLog, "source", opening)
    return counts


def told(path: Path, *, repair: bool = False) -> tuple[bool, list[str]]:
    """Return what a check returns, and all that it tells."""
    notes = Notes()
    repository = opened(path, reporter=notes)
    try:
        return repository.check(repair=repair), notes.lines()
    finally:
        repository.close()


# --- read once or twice


def test_what_is_few_enough_to_keep_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    counts = on_opening(monkeypatch, 0, lambda: None)
    assert told(path)[0]
    assert counts[0] == counts[2] == 1


def test_what_is_too_much_to_keep_is_read_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    monkeypatch.setattr(checking, "usable_cores", lambda: 2)
    monkeypatch.setattr(checking, "_MOST_KEPT", 4 * 37 * 5)
    counts = on_opening(monkeypatch, 0, lambda: None)
    assert told(path)[0]
    assert (counts[0], counts[2]) == (2, 1)  # nine entries, and two


def test_a_partial_check_reads_everything_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    keep_nothing(monkeypatch)
    counts = on_opening(monkeypatch, 0, lambda: None)
    repository = opened(path)
    assert repository.check(max_duration=1000)
    repository.close()
    assert counts[0] == counts[2] == 1


# --- the same either way


def outcome(files: Files, *, repair: bool) -> object:
    """Return what a check returns or fails with, all that it tells, and the files that it leaves."""
    notes = Notes()
    storages, storage = storage_with(files)
    result: object
    try:
        repository = session(storages, reporter=notes)
        try:
            result = repository.check(repair=repair)
        finally:
            repository.close()
    except BorgServeError as error:
        result = str(error)
    left = {name: storage.read(name) for name in storage.names() if storage.size(name) is not None}
    return result, notes.lines(), left


def look_at_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no room for all objects that are yet to be deleted."""
    monkeypatch.setattr(hashindex, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(Scratch, "make_room", lambda self, size, parts: None)


@pytest.mark.parametrize("repair", [False, True], ids=["check", "repair"])
@pytest.mark.parametrize("keep_less", [keep_nothing, look_at_parts])
def test_how_much_is_kept_makes_no_difference(
    keep_less: Callable[[pytest.MonkeyPatch], None], repair: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [("none", sound().files), *islice(chain(bit_flips(), other_damage()), None, None, 7)]
    for what, files in cases:
        wanted = outcome(files, repair=repair)
        with monkeypatch.context() as patched:
            keep_less(patched)
            assert outcome(files, repair=repair) == wanted, what


# --- damage that comes between the two readings


def test_a_check_finds_what_is_damaged_between_the_two_readings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path)
    keep_nothing(monkeypatch)
    with monkeypatch.context() as patched:
        on_opening(patched, 2, lambda: damage(path))
        found = told(path)
    assert not found[0]
    assert [line for line in found[1] if "checksum mismatch [segment 0, offset" in line]
    assert found == told(path)  # as if it had been damaged all the time


def test_what_is_damaged_while_a_wrong_index_is_compared_ends_the_check(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path)
    file = path / "data/0/2"
    raw = file.read_bytes()
    file.write_bytes(raw[:8] + raw[8 + 41 :])  # without its DELETE
    keep_nothing(monkeypatch)
    assert any("Index object count mismatch" in line for line in told(path)[1])
    on_opening(monkeypatch, 4, lambda: damage(path))
    with pytest.raises(IntegrityError, match=r"checksum mismatch \[segment 0, offset"):
        told(path)


def test_a_repair_does_not_go_by_a_part_of_what_is_damaged_between_the_two_readings(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = filled(path)
    keep_nothing(monkeypatch)
    with monkeypatch.context() as patched:
        on_opening(patched, 2, lambda: damage(path))
        with pytest.raises(IntegrityError, match=r"checksum mismatch \[segment 0, offset"):
            told(path, repair=True)
    assert told(path, repair=True)[0]
    del wanted[identity(7)]
    repository = opened(path)
    assert content(repository) == wanted
    assert repository.check()
    repository.close()
