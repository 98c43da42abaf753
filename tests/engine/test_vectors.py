"""Every vector: opened and listed, checked and repaired as borg 1.4.5 does, except where it does wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from borg_serve_lib.engine.caches import CacheFiles
from borg_serve_lib.engine.log import SegmentLog
from borg_serve_lib.engine.repository import Repository
from borg_serve_lib.errors import BorgServeError, InvalidArgument
from borg_serve_lib.events.maintenance import TransactionsLost
from borg_serve_lib.format.config import RepositoryConfig
from borg_serve_lib.locking.identity import Identity
from borg_serve_lib.locking.judge import Processes
from borg_serve_lib.locking.manager import FileLockManager
from borg_serve_lib.reporting import Level, Reporter
from borg_serve_lib.storage.filesystem import FilesystemStorage
from tests import vectors_support as vectors
from tests.engine.support import READING, WRITING, Notes, content, opened

# What the vectors of other owners are about cannot be seen with locks in memory: tests/locking has these cases too.
LOCKED = {"foreign-lock", "foreign-shared-lock", "stale-lock"}
REFUSED = {"attic-magic"}

# borg dies of an integrity file that is no msgpack; we make the index anew and go on (spec section 22, rule 10). The
# commit that seals a new index is the one that borg adds after other kinds of damage.
OUR_TRANSACTION = {"garbage-integrity": 18}

# After such a recovery borg's check goes on with the transaction it saw before and deletes the commit that it has just
# made; with compaction (1.1) that lost data. We take the transaction again (spec sections 14 and 22, rule 10).
OUR_REPAIRED_TRANSACTION = {"corrupt-index": 18, "integrity-without-header-digest": 18, "garbage-integrity": 18}

# borg's repair does not look at the index that it is about to replace; ours says what it finds (a missing segment shows
# nowhere else).
OUR_REPAIR_FINDINGS = {"index-wrong-count": ["Index object count mismatch."]}

# borg forgets a committed transaction whose COMMIT has rotted, and the next writer deletes it (spec section 10); index
# and integrity data prove that it was committed, and we keep it.
KEPT_BY_US = "damaged-last-commit"

PLAIN_IDS = "plain-1.4.5"


def state_on_disk(path: Path) -> tuple[int | None, list[int]]:
    storage = FilesystemStorage(str(path))
    config = RepositoryConfig.parse((path / "config").read_bytes(), str(path))
    log = SegmentLog(storage, segments_per_dir=config.segments_per_dir, max_segment_size=config.max_segment_size)
    return CacheFiles(storage, Reporter()).index_transaction(), list(log.segments())


def readable(repository: Repository) -> tuple[dict[bytes, bytes], list[str]]:
    objects, unreadable = {}, []
    for object_id in repository.list():
        try:
            objects[object_id] = bytes(repository.get(object_id))
        except BorgServeError as error:
            unreadable.append(f"{object_id.hex()[:8]}: {type(error).__name__} {error}")
    return objects, unreadable


@pytest.mark.parametrize("name", sorted(set(vectors.names()) - LOCKED - REFUSED - {KEPT_BY_US}))
def test_opening_and_listing_gives_what_borg_gave(name: str, tmp_path: Path) -> None:
    path = vectors.unpack(name, tmp_path)
    wanted = vectors.expected(name)["open_list"]
    if "error" in wanted:
        assert name == "garbage-integrity"
        wanted = vectors.expected(PLAIN_IDS)["open_list"]
    repository = opened(path, READING)
    ids = repository.list()
    objects, unreadable = readable(repository)
    repository.close()
    assert (len(ids), vectors.ids_digest(ids)) == (wanted["objects"], wanted["ids_sha256"])
    assert sorted(unreadable) == sorted(wanted["unreadable"])
    if wanted["content_sha256"] is not None:
        assert vectors.content_digest(objects) == wanted["content_sha256"]
    transaction, segments = state_on_disk(path)
    assert transaction == OUR_TRANSACTION.get(name, wanted["transaction"])
    assert segments == [*wanted["segments"], *([18] if name in OUR_TRANSACTION else [])]


def lines(said_by_borg: list[str], our_transaction: int | None) -> list[str]:
    """What borg said, with our number of the last segment where ours is another."""
    own = f"finished segment check at segment {our_transaction}"
    return [
        own if our_transaction and line.startswith("finished segment check") else line
        for line in said_by_borg
        if "REPO/index." not in line
    ]


@pytest.mark.parametrize("name", sorted(set(vectors.names()) - LOCKED - REFUSED - {KEPT_BY_US}))
def test_check_says_what_borg_said(name: str, tmp_path: Path) -> None:
    path = vectors.unpack(name, tmp_path)
    wanted = vectors.expected(name)["cli_check"]
    notes = Notes()
    repository = opened(path, WRITING, reporter=notes)
    sound = repository.check()
    repository.close()
    assert sound == (wanted["rc"] == 0)
    said = [line.replace(str(path), "REPO") for line in notes.lines()]
    last = lines(wanted["out"], OUR_TRANSACTION.get(name))
    assert [line for line in said if line in last] == last
    if name == "garbage-integrity":
        assert "Repository index missing or corrupted" in said[1]


@pytest.mark.parametrize("name", sorted(set(vectors.names()) - LOCKED - REFUSED - {KEPT_BY_US, "append-only-1.4.5"}))
def test_repair_leaves_what_borg_left(name: str, tmp_path: Path) -> None:
    path = vectors.unpack(name, tmp_path)
    wanted = vectors.expected(name)
    notes = Notes()
    repository = opened(path, WRITING, reporter=notes)
    assert repository.check(repair=True) == (wanted["cli_repair"]["rc"] == 0)
    repository.close()
    said = [line.replace(str(path), "REPO") for line in notes.lines()]
    last = lines(wanted["cli_repair"]["out"], OUR_REPAIRED_TRANSACTION.get(name))
    if name in OUR_REPAIR_FINDINGS:
        last = [*last[:-1], *OUR_REPAIR_FINDINGS[name], "Finished full repository check, errors found and repaired."]
    assert [line for line in said if line in last] == last
    after = wanted["after_repair"]
    repository = opened(path, READING)
    objects = content(repository)
    repository.close()
    assert (len(objects), vectors.ids_digest(list(objects))) == (after["objects"], after["ids_sha256"])
    assert vectors.content_digest(objects) == after["content_sha256"]
    transaction, segments = state_on_disk(path)
    ours = OUR_REPAIRED_TRANSACTION.get(name)
    assert transaction == (ours or after["transaction"])
    assert segments == [*after["segments"], *([ours] if ours else [])]
    repository = opened(path, WRITING)
    assert repository.check()
    repository.close()


def kept(path: Path) -> tuple[int, str, str]:
    repository = opened(path, READING)
    objects = content(repository)
    repository.close()
    return len(objects), vectors.ids_digest(list(objects)), vectors.content_digest(objects)


def test_a_transaction_whose_commit_is_damaged_is_kept(tmp_path: Path) -> None:
    path = vectors.unpack(KEPT_BY_US, tmp_path)
    wanted = vectors.expected(PLAIN_IDS)["open_list"]
    everything = (wanted["objects"], wanted["ids_sha256"], wanted["content_sha256"])
    assert kept(path) == everything
    assert state_on_disk(path) == (17, wanted["segments"])
    notes = Notes()
    repository = opened(path, WRITING, reporter=notes)
    assert not repository.check()
    assert any("[segment 17, offset 8]" in line for line in notes.lines(Level.ERROR))
    repository.close()
    repository = opened(path, WRITING)
    repository.put(bytes(32), repository.get(bytes(32)))
    repository.commit(compact=False)
    assert repository.check()
    repository.close()
    assert kept(path) == everything


def test_a_repair_restores_a_damaged_commit(tmp_path: Path) -> None:
    path = vectors.unpack(KEPT_BY_US, tmp_path)
    wanted = vectors.expected(PLAIN_IDS)["open_list"]
    repository = opened(path, WRITING)
    assert repository.check(repair=True)
    assert repository.check()
    repository.close()
    assert kept(path) == (wanted["objects"], wanted["ids_sha256"], wanted["content_sha256"])


def test_without_integrity_data_a_damaged_commit_is_none(tmp_path: Path) -> None:
    path = vectors.unpack(KEPT_BY_US, tmp_path)
    (path / "integrity.17").unlink()
    notes = Notes()
    repository = opened(path, READING, reporter=notes)
    assert len(repository.list()) == vectors.expected(KEPT_BY_US)["open_list"]["objects"]
    repository.close()
    assert notes.of(TransactionsLost)


def test_a_repository_of_attic_is_refused_by_name(tmp_path: Path) -> None:
    path = vectors.unpack("attic-magic", tmp_path)
    with pytest.raises(BorgServeError) as caught:
        opened(path)
    assert type(caught.value).__name__ == vectors.expected("attic-magic")["open_list"]["error"]


def test_an_append_only_repository_is_not_repaired(tmp_path: Path) -> None:
    path = vectors.unpack("append-only-1.4.5", tmp_path)
    repository = opened(path)
    with pytest.raises(InvalidArgument, match="append-only mode"):
        repository.check(repair=True)
    repository.close()


class Dead(Processes):
    """A host on which only we run."""

    def alive(self, pid: int) -> bool:
        return pid == os.getpid()


def on_demohost(notes: Reporter) -> FileLockManager:
    return FileLockManager(
        Identity("demohost"),
        processes=Dead(),
        clock=time.monotonic,
        now=time.time,
        sleep=time.sleep,
        is_local_disk=bool,
        reporter=notes,
    )


@pytest.mark.parametrize("name", ["foreign-lock", "foreign-shared-lock"])
def test_the_lock_of_another_host_stops_writers(name: str, tmp_path: Path) -> None:
    path = vectors.unpack(name, tmp_path)
    with pytest.raises(BorgServeError) as caught:
        opened(path, WRITING, locks=on_demohost(Reporter()))
    wanted = "Failed to create/acquire the lock REPO/lock" + (".exclusive" if name == "foreign-lock" else "")
    told = str(caught.value).replace(str(path), "REPO")
    assert told.startswith(f"{wanted}, held by a {'writer' if name == 'foreign-lock' else 'reader'}, process ")
    assert told.endswith("(timeout).")


def test_the_shared_lock_of_another_host_lets_readers_in(tmp_path: Path) -> None:
    path = vectors.unpack("foreign-shared-lock", tmp_path)
    locks, roster = on_demohost(Reporter()), (path / "lock.roster").read_bytes()
    repository = opened(path, READING, locks=locks)
    assert vectors.ids_digest(repository.list()) == vectors.expected("foreign-shared-lock")["open_list"]["ids_sha256"]
    repository.close()
    assert (path / "lock.roster").read_bytes() == roster
    locks.lock_for(str(path)).break_lock()


def test_the_lock_of_a_dead_process_is_removed_with_the_warnings_of_borg(tmp_path: Path) -> None:
    path = vectors.unpack("stale-lock", tmp_path)
    notes = Notes()
    repository = opened(path, READING, locks=on_demohost(notes), reporter=notes)
    assert vectors.ids_digest(repository.list()) == vectors.expected("stale-lock")["open_list"]["ids_sha256"]
    repository.close()
    warnings = [f"{event.level.name} {event.message()}" for event in notes.events if event.level == Level.WARNING]
    assert warnings == vectors.expected("stale-lock")["open_list"]["log"]
    assert not (path / "lock.exclusive").exists()
    assert not (path / "lock.roster").exists()
