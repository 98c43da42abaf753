"""Leases: who is proved dead by them, who is proved alive, and where they prove nothing."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import attrs
import pytest

from borg_serve_lib import locking
from borg_serve_lib.errors import LockFailed, LockTimeout
from borg_serve_lib.events.locks import NoLease, StaleLockRemoved
from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.directory import prepared_name
from borg_serve_lib.locking.filelock import FileLock
from borg_serve_lib.locking.identity import Holder, Identity
from borg_serve_lib.locking.judge import BorgRules, LeaseJudge
from borg_serve_lib.locking.lease import _KEPT, Lease
from borg_serve_lib.locking.leasefiles import LeaseFiles, LeaseState, flock
from borg_serve_lib.locking.leftovers import Leftovers
from borg_serve_lib.locking.manager import FileLockManager
from borg_serve_lib.locking.owner import OwnerRecord, Verdict, render_record
from borg_serve_lib.reporting import Peer

from .support import Disk, FakeProcesses, Recorder, World, kill_for_good, ours_holding, real_manager
from .support import holding as holding_process

HERE, THERE = "here@1", "there@2"
EXCLUSIVE, SHARED = LockMode.EXCLUSIVE, LockMode.SHARED


@attrs.frozen
class Place:
    """One repository, seen by processes that may run on several machines."""

    path: Path
    reporter: Recorder = attrs.field(factory=Recorder)

    def identity(self, pid: int, host: str = HERE, boot: str = "boot") -> Identity:
        return Identity(host, pid=lambda: pid, read_boot_id=lambda: boot)

    def files(self, *, boot: str = "boot", local: bool = True) -> LeaseFiles:
        return LeaseFiles(str(self.path), self.identity(1, boot=boot), lambda _: local)

    def lease(
        self,
        pid: int,
        host: str = HERE,
        *,
        boot: str = "boot",
        local: bool = True,
        lock: Callable[[int], bool] = flock,
    ) -> Lease:
        identity = self.identity(pid, host, boot)
        files = LeaseFiles(str(self.path), identity, lambda _: local)
        return Lease(files, identity, now=lambda: 1e9, sleep=lambda _: None, lock=lock)

    def join(self, lease: Lease, user: object = "lock") -> Holder:
        holder = lease.join(user, self.reporter)
        lease.tell(user, "exclusive")
        return holder

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.glob("lock.lease.*"))

    def die(self, lease: Lease) -> None:
        """Let go of a lease as the kernel does when a process is gone."""
        assert lease._file
        lease._file.close()
        lease._file = None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_lease_is_there_and_kept_until_its_last_user_leaves(place: Place) -> None:
    lease = place.lease(7)
    holder = place.join(lease, "first")
    assert holder == Holder(HERE, 7, 0)
    assert place.join(lease, "second") == holder
    lease.leave("first")
    assert place.files().look(holder) == (LeaseState.KEPT, None)
    assert place.names() == ["lock.lease.here@1.7-0"]
    lease.leave("second")
    assert place.files().look(holder) == (LeaseState.ABSENT, None)
    assert place.names() == []
    lease.leave("second")  # twice is fine
    assert lease.holder is None


@pytest.mark.parametrize(
    ("boot", "local", "expected"),
    [
        ("boot", True, LeaseState.FREE),
        ("boot", False, LeaseState.FREE),  # same kernel, same mount
        ("another boot", True, LeaseState.FREE),  # nobody else can have mounted it
        ("another boot", False, LeaseState.UNCLEAR),  # the owner's machine may keep its locks to itself
        ("", False, LeaseState.UNCLEAR),
    ],
)
def test_a_lease_that_nobody_keeps_proves_a_death_where_all_locks_are_seen(
    place: Place, boot: str, local: bool, expected: LeaseState
) -> None:
    lease = place.lease(7, THERE)
    holder = place.join(lease)
    place.die(lease)
    with place.files(boot=boot, local=local).grip(holder) as state:
        assert state is expected
    forget(place)


def test_a_disk_that_was_mounted_anew_has_another_number_and_the_same_locks(place: Place) -> None:
    path = place.path / "lock.lease.there@2.7-0"
    for theirs, ours, expected in ((True, True, LeaseState.FREE), (False, True, LeaseState.UNCLEAR)):
        path.write_bytes(render_record(OwnerRecord(boot="boot", device=-5, local=theirs)))
        with place.files(local=ours).grip(Holder(THERE, 7, 0)) as state:
            assert state is expected
    forget(place)


def test_another_mount_of_the_same_kernel_is_another_place(place: Place) -> None:
    path = place.path / "lock.lease.there@2.7-0"
    path.write_bytes(render_record(OwnerRecord(boot="boot", device=-5)))
    assert place.files(local=False).look(Holder(THERE, 7, 0)) == (LeaseState.UNCLEAR, None)
    forget(place)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b'{"boot": 1}', b"\xff\xfe", b"[" * 4096, b'{"device": "x"}']
)
def test_a_lease_with_a_damaged_record_proves_nothing(place: Place, content: bytes) -> None:
    (place.path / "lock.lease.there@2.7-0").write_bytes(content)
    holder = Holder(THERE, 7, 0)
    with place.files().grip(holder) as state:
        assert state is (LeaseState.UNCLEAR if content else LeaseState.EMPTY)
    place.files().record(holder)  # whatever it says, it is no error
    forget(place)


def test_a_lease_that_was_never_written_to_may_be_taken_but_makes_nobodys_locks_ours(place: Place) -> None:
    (place.path / "lock.lease.here@1.7-0").touch()
    lease = place.lease(7)
    assert place.join(lease) == Holder(HERE, 7, 0)
    assert not lease.took_over
    lease.leave("lock")
    (place.path / "lock.lease.there@2.7-0").touch()
    leftovers(place).clear(frozenset())
    assert place.names() == []


def test_the_lease_of_a_machine_that_reaches_our_disk_through_us_proves_nothing(place: Place) -> None:
    """Over NFS, say: there its lock is one, but not one that we see."""
    lease = place.lease(7, THERE, boot="another boot", local=False)
    holder = place.join(lease)
    place.die(lease)
    assert place.files(local=True).look(holder) == (LeaseState.UNCLEAR, None)
    forget(place)


@pytest.mark.parametrize("obstacle", ["directory", "symlink", "pipe", "dangling"])
def test_what_is_no_file_proves_nothing_and_is_not_touched(place: Place, tmp_path: Path, obstacle: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"canary")
    path = place.path / "lock.lease.here@1.7-0"
    if obstacle == "directory":
        path.mkdir()
    elif obstacle == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(outside if obstacle == "symlink" else tmp_path / "nowhere")
    assert place.files().look(Holder(HERE, 7, 0)) == (LeaseState.UNCLEAR, None)
    lease = place.lease(7)
    assert place.join(lease) == Holder(HERE, 7, 1)  # the name is not free, so another one is taken
    lease.leave("lock")
    leftovers(place).forget()
    assert outside.read_bytes() == b"canary"
    assert not (tmp_path / "nowhere").exists()
    (path.rmdir if obstacle == "directory" else path.unlink)()
    assert place.names() == []


def test_a_name_that_leads_elsewhere_is_not_followed(place: Place) -> None:
    """Whoever can write to a roster can put any host into it."""
    (place.path / "lock.lease.x").mkdir()
    (place.path / "canary.7-0").write_bytes(render_record(OwnerRecord(boot="boot", device=place.path.stat().st_dev)))
    stranger = Holder("x/../canary", 7, 0)
    assert place.files().look(stranger) == (LeaseState.UNCLEAR, None)
    assert place.files().record(stranger) is None
    lease = place.lease(7, "x/../canary")
    lease.join("lock", place.reporter)
    lease.leave("lock")
    assert (place.path / "canary.7-0").exists()
    (place.path / "lock.lease.x").rmdir()
    assert place.names() == []


def test_a_name_that_another_container_uses_is_not_taken(place: Place) -> None:
    first, second, third = place.lease(7), place.lease(7), place.lease(7)
    assert [place.join(lease).thread for lease in (first, second, third)] == [0, 1, 2]
    second.leave("lock")
    assert place.names() == ["lock.lease.here@1.7-0", "lock.lease.here@1.7-2"]
    first.leave("lock")
    third.leave("lock")
    assert place.names() == []


def test_too_many_of_one_name_are_told_what_to_do(place: Place) -> None:
    leases = [place.lease(7) for _ in range(64)]
    for lease in leases:
        lease.join("lock", place.reporter)
    late = place.lease(7)
    with pytest.raises(LockFailed, match="BORG_HOST_ID"):
        late.join("lock", place.reporter)
    late.leave("lock")
    for lease in leases:
        lease.leave("lock")
    assert place.names() == []


def test_a_lease_tells_of_the_first_of_its_users_that_has_the_most(place: Place) -> None:
    now = 1000.0
    lease = place.lease(7)
    lease._now = lambda: now
    holder = lease.join("first", place.reporter, Peer(user="root", address="192.0.2.1", client="alice"))
    now += 5
    lease.join("second", place.reporter, Peer(user="bob"))
    now += 5
    lease.join("third", place.reporter)
    told = []
    for step in (
        lambda: None,
        lambda: lease.tell("third", "shared"),
        lambda: lease.tell("second", "shared", "check"),
        lambda: lease.tell("first", "exclusive"),
        lambda: lease.tell("first", "waiting"),
        lambda: lease.leave("second"),
        lambda: lease.leave("third"),
        lambda: lease.tell("gone", "exclusive"),
    ):
        step()
        record = place.files().record(holder)
        assert record
        told.append((record.mode, record.since, record.user, record.client, record.activity))
    assert told == [
        ("waiting", 1000.0, "alice", "192.0.2.1", ""),
        ("shared", 1010.0, "", "", ""),
        ("shared", 1005.0, "bob", "", "check"),
        ("exclusive", 1000.0, "alice", "192.0.2.1", ""),
        ("shared", 1005.0, "bob", "", "check"),
        ("shared", 1010.0, "", "", ""),
        ("waiting", 1000.0, "alice", "192.0.2.1", ""),
        ("waiting", 1000.0, "alice", "192.0.2.1", ""),
    ]
    lease.leave("first")


def test_breaking_the_lock_makes_names_free_again_that_nobody_could_judge(repo: Path, place: Place) -> None:
    for thread in range(64):
        (repo / f"lock.lease.here@1.7-{thread:x}").write_bytes(render_record(OwnerRecord(boot="another")))
    (repo / "lock.lease.nonsense").touch()
    (repo / "lock.lease.here@1.8-0").symlink_to("lock.lease.nonsense")
    alive = manager(World(), 9, HERE).lock_for(str(repo))
    alive.acquire(SHARED, 0)
    locks = manager(World(), 7, HERE)
    with pytest.raises(LockFailed, match="borg break-lock"), locks.shared(str(repo), wait=0):
        pytest.fail("entered")
    manager(World(), 10, HERE).lock_for(str(repo)).break_lock()
    assert sorted(path.name for path in repo.iterdir()) == [
        "lock.lease.here@1.8-0",
        "lock.lease.here@1.9-0",
        "lock.lease.nonsense",
    ]
    with locks.exclusive(str(repo), wait=0):
        pass
    alive.release()
    for name in ("lock.lease.here@1.8-0", "lock.lease.nonsense"):
        (repo / name).unlink()
    assert list(repo.iterdir()) == []


def test_the_lease_of_a_dead_predecessor_of_that_name_is_taken_over(place: Place) -> None:
    predecessor, lease = place.lease(7), place.lease(7)
    place.join(predecessor)
    place.die(predecessor)
    assert place.join(lease) == Holder(HERE, 7, 0)
    assert lease.took_over
    lease.took_over = False
    lease.leave("lock")
    assert place.names() == []


def test_the_lease_of_a_predecessor_stays_as_long_as_its_lock_files_may(place: Place) -> None:
    predecessor, lease = place.lease(7), place.lease(7)
    place.join(predecessor)
    place.die(predecessor)
    place.join(lease)
    lease.leave("lock")
    assert not lease.took_over
    assert place.names() == ["lock.lease.here@1.7-0"]
    place.join(lease)
    assert lease.took_over
    lease.took_over = False
    lease.leave("lock")
    assert place.names() == []


def test_the_lease_of_another_machine_with_our_name_is_not_taken_over(place: Place) -> None:
    predecessor, lease = place.lease(7, boot="another boot"), place.lease(7, local=False)
    place.join(predecessor)
    place.die(predecessor)
    assert place.join(lease) == Holder(HERE, 7, 1)
    assert not lease.took_over
    lease.leave("lock")
    assert place.names() == ["lock.lease.here@1.7-0"]
    forget(place)


def no_locks(descriptor: int) -> bool:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


@pytest.mark.parametrize(
    ("lock", "reason"), [(no_locks, "No locks available"), (lambda _: True, "a lock does not keep others out")]
)
def test_a_file_system_without_locks_is_told_and_has_no_leases(
    place: Place, lock: Callable[[int], bool], reason: str
) -> None:
    lease = place.lease(7, lock=lock)
    assert place.join(lease) == Holder(HERE, 7, 0)
    assert place.reporter.events == [NoLease(reason)]
    assert place.names() == []
    lease.leave("lock")


def test_a_disk_without_room_for_a_lease_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str, flags: int, mode: int = 0) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    lease = place.lease(7)
    assert place.join(lease) == Holder(HERE, 7, 0)
    assert place.reporter.events == [NoLease("No space left on device")]
    lease.leave("lock")


def test_a_lease_is_written_as_far_as_there_is_room(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    lease = place.lease(7)
    monkeypatch.setattr(os, "pwrite", full)
    holder = place.join(lease)
    assert place.files().look(holder) == (LeaseState.KEPT, None)
    lease.leave("lock")


@pytest.mark.parametrize("others", [b"", b"{}"])
def test_a_signal_in_the_very_moment_of_making_a_lease_leaves_none(
    place: Place, others: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is there, but nobody has been told its descriptor."""
    path = place.path / "lock.lease.here@1.7-0"

    def create(*arguments: object) -> int:
        monkeypatch.undo()
        path.write_bytes(others)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", create)
    lease = place.lease(7)
    with pytest.raises(KeyboardInterrupt):
        lease.join("lock", place.reporter)
    lease.leave("lock")
    assert path.exists() is (others != b"")
    forget(place)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of files that are dropped open
@pytest.mark.parametrize("action", ["acquire", "break_lock"])
def test_an_exception_at_whatever_moment_leaves_no_dead_owners_lease_locked(repo: Path, action: str) -> None:
    """A signal handler may raise one between any two instructions, also on the way out of a `with`."""
    path = repo / "lock.lease.there@2.7-0"
    for last in range(1, 10_000):
        (repo / "lock.exclusive").mkdir(exist_ok=True)
        (repo / "lock.exclusive" / "there@2.7-0").touch()
        path.write_bytes(render_record(OwnerRecord(boot="before", local=True)))
        lock = manager(World(), 5, HERE).lock_for(str(repo))
        count = interrupted_at(last, lambda lock=lock: act(lock, action))  # type: ignore[misc]
        if path.exists():
            with path.open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.release()
        lock.break_lock()
        if count < last:
            break
    assert 100 < last < 9_000


def act(lock: FileLock, action: str) -> None:
    if action == "break_lock":
        lock.break_lock()
    else:
        lock.acquire(EXCLUSIVE, 0)
        lock.release()


def interrupted_at(last: int, action: Callable[[], object]) -> int:
    """Run `action` with an exception at the `last` instruction in what opens leases; return how many there were."""
    files = [f"{locking.__path__[0]}/{name}.py" for name in ("leasefiles", "judge")]
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == last:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    with suppress(KeyboardInterrupt):
        try:
            action()
        finally:
            sys.settrace(before)
    return count


def test_a_lock_that_its_holder_has_lost_sight_of_is_his_until_his_process_ends(repo: Path, place: Place) -> None:
    manager(World(), 7, HERE).lock_for(str(repo)).acquire(EXCLUSIVE, 0)
    gc.collect()
    with pytest.raises(LockTimeout), manager(World(), 8, HERE, 7).exclusive(str(repo), wait=0):
        pytest.fail("entered")
    (lease,) = (lease for lease in _KEPT if lease.files.repository == str(repo))
    place.die(lease)
    _KEPT.remove(lease)
    with manager(World(), 8, HERE).exclusive(str(repo), wait=0):
        pass
    assert list(repo.iterdir()) == []


def test_a_lease_swept_away_while_it_is_being_taken_is_taken_again(place: Place) -> None:
    swept = []

    def lock(descriptor: int) -> bool:
        if not swept:
            swept.append((place.path / "lock.lease.here@1.7-0").unlink())
        return flock(descriptor)

    lease = place.lease(7, lock=lock)
    holder = place.join(lease)
    assert place.files().look(holder) == (LeaseState.KEPT, None)
    lease.leave("lock")
    assert place.names() == []


def test_a_lease_that_is_only_looked_at_is_waited_for(place: Place) -> None:
    path = place.path / "lock.lease.here@1.7-0"
    path.write_bytes(render_record(OwnerRecord(boot="boot", device=place.path.stat().st_dev)))
    looking = os.open(path, os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_EX)
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            os.close(looking)

    identity = place.identity(7)
    lease = Lease(place.files(), identity, now=lambda: 0.0, sleep=sleep)
    assert lease.join("lock", place.reporter) == Holder(HERE, 7, 0)
    assert len(waited) == 2
    assert sum(waited) < 0.1
    assert lease.took_over
    lease.took_over = False
    lease.leave("lock")
    assert place.names() == []


def test_while_a_death_is_certified_nobody_takes_that_name(place: Place) -> None:
    dead, successor = place.lease(7), place.lease(7)
    holder = place.join(dead)
    place.die(dead)
    judge = LeaseJudge(place.lease(8), BorgRules(place.identity(8), FakeProcesses()))
    with judge.certify(holder) as verdict:
        assert verdict is Verdict.DEAD
        assert place.join(successor) == Holder(HERE, 7, 1)
    successor.leave("lock")
    leftovers(place).clear(frozenset())
    assert place.names() == []


def leftovers(place: Place) -> Leftovers:
    identity = place.identity(99)
    return Leftovers(place.files(), LeaseJudge(place.lease(99), BorgRules(identity, FakeProcesses())))


def forget(place: Place) -> None:
    """Remove the leases that nobody keeps, as who breaks the lock does: there are no others."""
    leftovers(place).forget()
    assert place.names() == []


def test_what_a_dead_process_left_while_it_waited_goes_with_its_lease(place: Place) -> None:
    alive, dead = place.lease(7, THERE), place.lease(8, THERE)
    for lease in (alive, dead):
        name = place.join(lease).lock_name
        (place.path / f"lock.waiting.{name}").touch()
        (place.path / f"lock.exclusive.{name[-3:]}.tmp").mkdir()
        (place.path / f"lock.exclusive.{name[-3:]}.tmp" / name).touch()
        (place.path / f"lock.exclusive.{prepared_name(name)}.tmp").mkdir()
    (place.path / "lock.exclusive.empty.tmp").mkdir()  # nobody can say whose
    place.die(dead)
    leftovers(place).clear(frozenset())
    left = sorted(path.name for path in place.path.glob("lock.*"))
    assert left.pop(2).startswith("lock.exclusive.there@2.7-0.")
    assert left == [
        "lock.exclusive.7-0.tmp",
        "lock.exclusive.empty.tmp",
        "lock.lease.there@2.7-0",
        "lock.waiting.there@2.7-0",
    ]
    place.die(alive)
    leftovers(place).clear(frozenset())
    assert [path.name for path in place.path.iterdir()] == ["lock.exclusive.empty.tmp"]
    (place.path / "lock.exclusive.empty.tmp").rmdir()


def test_sweeping_removes_the_leases_of_the_dead_and_no_others(place: Place) -> None:
    alive, dead, named = place.lease(7), place.lease(8), place.lease(9)
    place.join(alive)
    place.join(dead)
    still_named = place.join(named)
    place.die(dead)
    place.die(named)
    (place.path / "lock.lease.nonsense").touch()
    leftovers(place).clear(frozenset({still_named}))
    assert place.names() == ["lock.lease.here@1.7-0", "lock.lease.here@1.9-0", "lock.lease.nonsense"]
    alive.leave("lock")
    leftovers(place).clear(frozenset())
    assert place.names() == ["lock.lease.nonsense"]
    (place.path / "lock.lease.nonsense").unlink()


def test_a_child_made_by_fork_takes_a_lease_of_its_own_and_leaves_the_parents_alone(place: Place) -> None:
    identity = Identity(HERE)
    lease = Lease(
        LeaseFiles(str(place.path), identity, lambda _: True), identity, now=lambda: 0.0, sleep=lambda _: None
    )
    parents = lease.join("lock", place.reporter)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            own = lease.join("another", place.reporter)
            kept = place.files().look(parents)[0] is LeaseState.KEPT
            lease.leave("another")
            status = 0 if kept and own.pid == os.getpid() != parents.pid else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert place.names() == [f"lock.lease.{parents.lock_name}"]
    lease.leave("lock")


def test_a_child_made_by_fork_gives_back_nothing_of_its_parents(tmp_path: Path) -> None:
    lock = real_manager(HERE).lock_for(str(tmp_path))
    lock.acquire(LockMode.EXCLUSIVE, 0)
    before = sorted(path.name for path in tmp_path.rglob("lock*"))
    child = os.fork()
    if child == 0:
        held = lock.holds_exclusive()
        lock.release()
        os._exit(held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sorted(path.name for path in tmp_path.rglob("lock*")) == before
    assert lock.holds_exclusive()
    lock.release()
    assert list(tmp_path.iterdir()) == []


# --- locks that are backed by leases


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "repo").mkdir()
    return tmp_path / "repo"


def manager(world: World, pid: int, host: str, *dead: int, reporter: Recorder | None = None) -> FileLockManager:
    disk = Disk(world)
    disk.processes.dead = set(dead)
    disk.reporter = reporter or disk.reporter
    return disk.manager(pid, host)


@pytest.mark.parametrize("mode", ["EXCLUSIVE", "SHARED"])
@pytest.mark.parametrize("host", ["elsewhere@2", "same@1"])
def test_a_killed_process_of_whatever_host_is_proved_dead(repo: Path, mode: str, host: str) -> None:
    reporter = Recorder()
    with holding_process(ours_holding(repo, mode, host)) as process:
        kill_for_good(process)
        with real_manager("same@1", reporter).exclusive(str(repo), wait=0):
            assert not list(repo.glob(f"lock.lease.{host}.{process.pid}*"))
    assert (StaleLockRemoved(f"{host}.{process.pid}-0") in reporter.events) is (mode == "EXCLUSIVE")
    assert list(repo.iterdir()) == []


def test_a_process_whose_id_was_given_to_another_one_is_proved_dead(repo: Path) -> None:
    with holding_process(ours_holding(repo, "EXCLUSIVE", HERE)) as process:
        kill_for_good(process)
        # All processes are alive here: that id has been given away again.
        with manager(World(), 5, HERE).exclusive(str(repo), wait=0):
            pass
    assert list(repo.iterdir()) == []


def test_a_process_of_another_container_is_not_taken_for_dead(repo: Path) -> None:
    """Its id means nobody here, and the host id is the same: by borg's rules its lock would be removed."""
    with holding_process(ours_holding(repo, "EXCLUSIVE", HERE)) as process:
        here = manager(World(), 5, HERE, process.pid)
        with pytest.raises(LockTimeout), here.exclusive(str(repo), wait=1):
            pytest.fail("entered")
        with pytest.raises(LockTimeout), here.shared(str(repo), wait=1):
            pytest.fail("entered")


@pytest.mark.parametrize("mode", [EXCLUSIVE, SHARED])
def test_a_process_of_another_container_with_our_very_name_keeps_its_lock(repo: Path, mode: LockMode) -> None:
    """Borg takes a lock that has its own name for its own."""
    world = World()
    first, second = manager(world, 7, HERE).lock_for(str(repo)), manager(world, 7, HERE).lock_for(str(repo))
    first.acquire(mode, 0)
    with pytest.raises(LockTimeout):
        second.acquire(EXCLUSIVE, 1)
    first.release()
    second.acquire(EXCLUSIVE, 0)
    assert second.holds_exclusive()
    second.release()
    assert list(repo.iterdir()) == []


def test_readers_with_the_same_name_in_two_containers_sign_off_one_by_one(repo: Path) -> None:
    world = World()
    first, second = manager(world, 7, HERE).lock_for(str(repo)), manager(world, 7, HERE).lock_for(str(repo))
    first.acquire(SHARED, 0)
    second.acquire(SHARED, 0)
    first.release()
    with pytest.raises(LockTimeout):
        manager(world, 8, HERE).lock_for(str(repo)).acquire(EXCLUSIVE, 1)
    second.release()
    assert list(repo.iterdir()) == []


def test_a_dead_reader_with_our_own_name_stops_us_no_more(repo: Path) -> None:
    """In containers every server may have the same process id."""
    with holding_process(ours_holding(repo, "SHARED", HERE)) as process:
        kill_for_good(process)
        with manager(World(), process.pid, HERE).exclusive(str(repo), wait=0) as lock:
            assert lock.holds_exclusive()
    assert list(repo.iterdir()) == []


def test_a_lock_by_a_kernel_that_is_gone_is_proved_stale(repo: Path, place: Place) -> None:
    """The machine was started again, and the process id given to another one."""
    lock = manager(World(), 7, HERE).lock_for(str(repo))
    lock.acquire(EXCLUSIVE, 0)
    place.die(lock._lease)
    path = repo / "lock.lease.here@1.7-0"
    path.write_bytes(render_record(OwnerRecord(boot="before", local=True)))
    with manager(World(), 8, HERE).exclusive(str(repo), wait=0):
        pass
    assert list(repo.iterdir()) == []


def test_where_leases_prove_nothing_borgs_rules_are_left(repo: Path, place: Place) -> None:
    lock = manager(World(), 7, HERE).lock_for(str(repo))
    lock.acquire(EXCLUSIVE, 0)
    place.die(lock._lease)
    (repo / "lock.lease.here@1.7-0").write_bytes(render_record(OwnerRecord(boot="of another machine")))

    def elsewhere(*dead: int) -> FileLockManager:
        world = World()
        return FileLockManager(
            place.identity(8),
            processes=FakeProcesses(*dead),
            clock=world.clock,
            now=world.clock,
            sleep=world.sleep,
            is_local_disk=lambda _: False,
            reporter=Recorder(),
        )

    with pytest.raises(LockTimeout), elsewhere().exclusive(str(repo), wait=1):
        pytest.fail("entered")
    with elsewhere(7).exclusive(str(repo), wait=0):
        pass
    assert [path.name for path in repo.iterdir()] == ["lock.lease.here@1.7-0"]  # not proved dead, so it is kept
    elsewhere().lock_for(str(repo)).break_lock()
    assert list(repo.iterdir()) == []


def test_breaking_a_lock_removes_the_leases_of_the_dead(repo: Path, place: Place) -> None:
    lock = manager(World(), 7, HERE).lock_for(str(repo))
    lock.acquire(EXCLUSIVE, 0)
    place.die(lock._lease)
    manager(World(), 8, THERE).lock_for(str(repo)).break_lock()
    assert list(repo.iterdir()) == []


def test_a_timeout_names_the_living_holder_and_says_to_wait(repo: Path) -> None:
    with holding_process(ours_holding(repo, "EXCLUSIVE", THERE)) as process, pytest.raises(LockTimeout) as caught:
        manager(World(), 5, HERE).lock_for(str(repo)).acquire(SHARED, 1)
    told = str(caught.value)
    assert told.startswith(
        f"Failed to create/acquire the lock {repo}/lock.exclusive, held by a writer, process {process.pid} on {THERE}, "
        "since 20"
    )
    assert told.endswith("; alive: wait until it is done, with a longer --lock-wait (timeout).")
    assert caught.value.path == f"{repo}/lock.exclusive"


def test_a_timeout_names_readers_nobody_can_judge_and_says_how_to_break_the_lock(repo: Path) -> None:
    (repo / "lock.roster").write_text('{"shared": [["borg@3", 9, 0], ["borg@3", 10, 0]]}')
    with pytest.raises(LockTimeout) as caught:
        manager(World(), 5, HERE).lock_for(str(repo)).acquire(EXCLUSIVE, 1)
    told = str(caught.value)
    assert f"the lock {repo}/lock, held by a reader, process" in told
    assert "on borg@3, and 1 more; nobody here can say whether it is alive" in told
    assert "borg break-lock" in told
    (wired,) = caught.value.wire_args
    assert told == f"Failed to create/acquire the lock {wired} (timeout)."
    manager(World(), 5, HERE).lock_for(str(repo)).break_lock()
    assert list(repo.iterdir()) == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("step", ["open", "lock"])
def test_a_lease_that_cannot_be_looked_at_now_proves_nobody_dead(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: str, error: int
) -> None:
    lease = place.lease(7)
    holder = place.join(lease)
    judge = LeaseJudge(place.lease(99), BorgRules(place.identity(99), FakeProcesses(7)))

    with monkeypatch.context() as failing:
        failing.setattr(*((os, "open") if step == "open" else (fcntl, "flock")), failing_with(error))
        assert judge.judge(holder) is Verdict.UNKNOWN
        with judge.certify(holder) as verdict:
            assert verdict is Verdict.UNKNOWN
    lease.leave("lock")


def failing_with(error: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_disk_without_locks_borgs_rules_hold(place: Place, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    lease = place.lease(7)
    holder = place.join(lease)
    judge = LeaseJudge(place.lease(99), BorgRules(place.identity(99), FakeProcesses(7)))
    with monkeypatch.context() as failing:
        failing.setattr(fcntl, "flock", failing_with(error))
        assert judge.judge(holder) is Verdict.DEAD
    lease.leave("lock")
    assert place.names() == []
