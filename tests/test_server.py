"""The server: what its parts decide reaches its connections. No disk: storages and locks are the twins in memory."""

from __future__ import annotations

import os
import pwd
from typing import Any

import msgpack
import pytest

import borg_serve_lib
from borg_serve_lib import (
    AccessPolicy,
    ClientLog,
    Connection,
    Decision,
    Event,
    Homes,
    MemoryLockManager,
    MemoryProvider,
    PathPolicy,
    Reporter,
    ServeOptions,
    Server,
    UsageError,
    Verb,
    path_resolver,
)
from borg_serve_lib.errors import PathNotAllowed
from borg_serve_lib.events.session import PathRefused, PathResolved
from borg_serve_lib.locking.memory import MemoryLock
from borg_serve_lib.process import current_directory
from borg_serve_lib.reporting import Level
from borg_serve_lib.server import account_home
from borg_serve_lib.storage.base import StorageProvider


class Recorder(Reporter):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)


class Untouchable(StorageProvider):
    """A place that nobody may look at."""

    def open(self, path: str) -> Any:
        raise AssertionError(path)

    def create(self, path: str, *, make_parent_dirs: bool) -> Any:
        raise AssertionError(path)


def resolver(raw: bytes) -> str:
    return "/srv/" + raw.decode("utf-8", "surrogateescape")


def server(options: ServeOptions | None = None, **parts: Any) -> Server:
    return Server(
        options or ServeOptions(),
        paths=parts.pop("paths", PathPolicy()),
        resolver=parts.pop("resolver", resolver),
        storages=parts.pop("storages", None) or MemoryProvider(("/srv",)),
        locks=parts.pop("locks", None) or MemoryLockManager(),
        **parts,
    )


def log_to(lines: list[bytes], level: Level = Level.WARNING) -> ClientLog:
    return ClientLog(lines.append, level=level, now=lambda: 0.0)


def connect(to: Server, lines: list[bytes] | None = None, level: Level = Level.WARNING) -> Connection:
    return to.connect(log_to([] if lines is None else lines, level))


def ask(connection: Connection, method: str, **arguments: object) -> dict[str, Any]:
    data = msgpack.packb({"i": 1, "m": method, "a": arguments})
    while data:
        room = connection.get_buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        connection.buffer_updated(count)
        data = data[count:]
    answer: dict[str, Any] = msgpack.unpackb(
        b"".join(bytes(part) for reply in connection for part in reply), unicode_errors="surrogateescape"
    )
    return answer


def test_clients_are_told_that_this_is_borg_1_4_5() -> None:
    answer = ask(connect(server()), "negotiate", client_data={"client_version": [1, 4, 5, -1]})
    assert answer["r"] == {"server_version": [1, 4, 5, -1]}


def test_a_path_that_is_not_allowed_is_refused_before_storage_is_touched() -> None:
    recorder = Recorder()
    to = server(paths=PathPolicy(("/srv/mine",)), storages=Untouchable(), reporter=recorder)
    answer = ask(connect(to), "open", path="other", create=True)
    assert (answer["exception_class"], answer["exception_args"]) == ("PathNotAllowed", ["other"])
    assert PathRefused("other", "/srv/other") in recorder.events
    assert not any(isinstance(event, PathResolved) for event in recorder.events)


def test_a_path_that_is_refused_on_its_way_is_reported_too() -> None:
    def refuse(raw: bytes) -> str:
        raise PathNotAllowed(raw.decode())

    recorder = Recorder()
    to = server(paths=PathPolicy(("/srv/mine",)), resolver=refuse, reporter=recorder)
    assert ask(connect(to), "open", path="other")["exception_class"] == "PathNotAllowed"
    (event,) = (event for event in recorder.events if isinstance(event, PathRefused))
    assert event == PathRefused("other", "")
    assert event.message() == "refused path 'other', which leads outside"


def test_the_session_goes_on_after_a_refused_path() -> None:
    connection = connect(server(paths=PathPolicy(("/srv/mine",))))
    assert "exception_class" in ask(connection, "open", path="other", create=True)
    assert "r" in ask(connection, "open", path="mine", create=True)


def test_an_allowed_path_is_reported_to_the_host_and_at_debug_level_to_the_client() -> None:
    recorder = Recorder()
    lines: list[bytes] = []
    to = server(reporter=recorder)
    assert "r" in ask(connect(to, lines, Level.DEBUG), "open", path="mine", create=True)
    assert PathResolved("mine", "/srv/mine") in recorder.events
    assert any(b"resolved path 'mine' to '/srv/mine'" in line for line in lines)
    quiet: list[bytes] = []
    ask(connect(server(), quiet), "open", path="mine", create=True)
    assert quiet == []


def test_undecodable_bytes_of_a_path_are_reported_escaped() -> None:
    recorder = Recorder()
    to = server(paths=PathPolicy(("/srv/mine",)), reporter=recorder)
    connection = connect(to)
    data = msgpack.packb({"i": 1, "m": "open", "a": {"path": b"\xff"}}, use_bin_type=False)
    connection.get_buffer()[: len(data)] = data
    connection.buffer_updated(len(data))
    assert len(list(connection)) == 1
    assert PathRefused("\\xff", "/srv/\udcff") in recorder.events


def test_the_hosts_quota_is_written_into_new_repositories() -> None:
    storages = MemoryProvider(("/srv",))
    ask(connect(server(ServeOptions(storage_quota=20_000_000), storages=storages)), "open", path="r", create=True)
    assert b"storage_quota = 20000000" in storages.open("/srv/r").read("config")


def test_the_hosts_append_only_rule_holds_for_existing_repositories() -> None:
    storages, locks = MemoryProvider(("/srv",)), MemoryLockManager()
    first = connect(server(storages=storages, locks=locks))
    ask(first, "open", path="r", create=True, exclusive=True)
    first.close()
    strict = connect(server(ServeOptions(append_only=True), storages=storages, locks=locks))
    ask(strict, "open", path="r", exclusive=True)
    assert ask(strict, "destroy")["exception_class"] == "ValueError"
    strict.close()
    free = connect(server(storages=storages, locks=locks))
    ask(free, "open", path="r", exclusive=True)
    assert "r" in ask(free, "destroy")


def test_the_hosts_access_policy_is_asked() -> None:
    class NoNewRepositories(AccessPolicy):
        def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
            return Decision(verb is not Verb.CREATE, "no new repositories here")

    answer = ask(connect(server(access=NoNewRepositories())), "open", path="r", create=True)
    assert "no new repositories here" in str(answer["exception_args"])


def test_connections_of_one_server_know_nothing_of_each_other() -> None:
    to = server()
    first, second = connect(to), connect(to)
    ask(first, "open", path="a", create=True, exclusive=True)
    ask(second, "open", path="b", create=True, exclusive=True)
    ask(first, "put", id=bytes(32), data=b"of the first")
    assert ask(second, "__len__")["r"] == 0
    assert ask(first, "__len__")["r"] == 1


def test_two_connections_to_one_repository_respect_each_others_lock() -> None:
    to = server()
    first, second = connect(to), connect(to)
    ask(first, "open", path="r", create=True, exclusive=True)
    refused = ask(second, "open", path="r", exclusive=True, lock_wait=0)
    assert refused["exception_class"] == "LockTimeout"
    first.close()
    assert "r" in ask(second, "open", path="r", exclusive=True, lock_wait=0)


# --- what the machine contributes -------------------------------------------------------------------------------------


def test_paths_are_resolved_from_the_given_directory_and_homes() -> None:
    homes = Homes("/nowhere/base", "/nowhere/home", None, True, {"someone": "/nowhere/someone"}.get)
    resolve = path_resolver(homes, "/nowhere", PathPolicy())
    assert resolve(b"x") == "/nowhere/x"
    assert resolve(b"/~/x") == "/nowhere/base/x"
    assert resolve(b"/~") == "/nowhere/home"
    assert resolve(b"~someone/x") == "/nowhere/someone/x"
    assert resolve(b"~nobody/x") == "/nowhere/~nobody/x"


def test_restricted_clients_do_not_learn_which_accounts_there_are() -> None:
    homes = Homes(None, "/nowhere/home", None, True, {"someone": "/nowhere/someone"}.get)
    resolve = path_resolver(homes, "/nowhere", PathPolicy(("/srv",)))
    assert resolve(b"/~") == "/nowhere/home"
    assert resolve(b"~someone") == "/nowhere/someone"
    with pytest.raises(PathNotAllowed, match="~someone/x"):  # where its home lies nothing is looked at
        resolve(b"~someone/x")
    with pytest.raises(PathNotAllowed, match="~nobody/x"):
        resolve(b"~nobody/x")


def test_a_refused_client_does_not_learn_where_its_path_led() -> None:
    lines: list[bytes] = []
    ask(connect(server(paths=PathPolicy(("/srv/mine",))), lines, Level.DEBUG), "open", path="other")
    assert not any(b"/srv/other" in line for line in lines)


def test_accounts_have_homes() -> None:
    me = pwd.getpwuid(os.getuid())
    assert account_home("") == me.pw_dir
    assert account_home(me.pw_name) == me.pw_dir


@pytest.mark.parametrize("name", ["no such account", "\udcff", "x\0"])
def test_names_without_an_account_have_no_home(name: str) -> None:
    assert account_home(name) is None


def test_a_process_whose_account_is_unknown_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert account_home("") is None


def test_a_current_directory_that_is_gone_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    with pytest.raises(UsageError, match="the current directory cannot be used: No such file or directory"):
        current_directory()


# --- the public names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", borg_serve_lib.__all__)
def test_every_public_name_can_be_had_and_is_documented(name: str) -> None:
    value = getattr(borg_serve_lib, name)
    assert name == "__version__" or value.__doc__


def test_public_names_are_listed_without_being_loaded() -> None:
    assert set(borg_serve_lib.__all__) <= set(dir(borg_serve_lib))


def test_each_public_name_has_one_home() -> None:
    homes = [name for names in borg_serve_lib._MODULES.values() for name in names]
    assert sorted(homes) == sorted(borg_serve_lib.__all__)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'borg_serve_lib' has no attribute 'nosuch'"):
        _ = borg_serve_lib.nosuch


# --- the host's limits


@pytest.mark.parametrize(("asked", "waited"), [(500, 2), (1, 1), (None, 2)])
def test_no_client_waits_longer_for_a_lock_than_the_host_lets_it(
    asked: int | None, waited: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    monkeypatch.setattr(MemoryLock, "acquire", lambda self, mode, wait: waits.append(wait))
    ask(connect(server(ServeOptions(max_lock_wait=2))), "open", path="r", create=True, exclusive=True, lock_wait=asked)
    assert waits == [waited]


def test_who_waits_for_a_client_is_told_what_the_host_calls_it() -> None:
    to = server()
    holder = to.connect(log_to([]), user="backup", address="192.0.2.1", client="alice")
    assert "r" in ask(holder, "open", path="r", create=True, exclusive=True)
    told = str(ask(to.connect(log_to([]), user="backup", client="bob"), "open", path="r", lock_wait=0))
    assert "for alice, from 192.0.2.1" in told
    holder.close()


def test_a_connection_that_is_cancelled_waits_for_no_lock() -> None:
    class Over(BaseException):
        pass

    to = server()
    holder, waiting = connect(to), connect(to)
    assert "r" in ask(holder, "open", path="r", create=True, exclusive=True)
    waiting.cancel(Over())
    waiting.cancel(KeyboardInterrupt())  # the first one counts
    with pytest.raises(Over):
        ask(waiting, "open", path="r", exclusive=True, lock_wait=None)
    waiting.close()
    holder.close()


def test_a_server_that_only_reads_takes_no_lock_and_writes_nothing() -> None:
    storages, locks = MemoryProvider(("/srv",)), MemoryLockManager()
    first = connect(server(storages=storages, locks=locks))
    ask(first, "open", path="r", create=True, exclusive=True)
    ask(first, "put", id=bytes(32), data=b"manifest")
    ask(first, "commit")
    reading = connect(server(ServeOptions(permissions="read-only"), storages=storages, locks=locks))
    assert "r" in ask(reading, "open", path="r", exclusive=True, lock_wait=0)
    assert ask(reading, "get", id=bytes(32))["r"] in ("manifest", b"manifest")
    assert "not permitted here (permissions: read-only)" in str(ask(reading, "put", id=bytes(32), data=b"x"))
    refused = ask(connect(server(ServeOptions(permissions="read-only"))), "open", path="new", create=True)
    assert "not permitted here (permissions: read-only)" in str(refused)


# --- rights


class NoDeleting(AccessPolicy):
    looks_at_objects = True

    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
        return Decision(verb is not Verb.DELETE, "no deleting")


def test_what_compaction_moved_does_not_become_the_sessions_own() -> None:
    storages, locks = MemoryProvider(("/srv",)), MemoryLockManager()
    first = connect(server(storages=storages, locks=locks))
    ask(first, "open", path="r", create=True, exclusive=True)
    for number, size in ((1, 100), (2, 5000)):
        ask(first, "put", id=bytes([number]) * 32, data=bytes(size))
    ask(first, "commit")
    first.close()
    second = connect(server(storages=storages, locks=locks, access=NoDeleting()))
    ask(second, "open", path="r", exclusive=True)
    ask(second, "put", id=bytes([2]) * 32, data=b"x")
    assert "r" in ask(second, "commit", compact=True, threshold=0.0)
    assert "no deleting" in str(ask(second, "delete", id=bytes([1]) * 32))
    assert "r" in ask(second, "get", id=bytes([1]) * 32)


def test_a_policy_of_ones_own_adds_to_the_permissions_and_does_not_replace_them() -> None:
    class Everything(AccessPolicy):
        def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
            return Decision(True)

    to = server(ServeOptions(permissions="read-only"), access=Everything())
    assert "permissions: read-only" in str(ask(connect(to), "open", path="r", create=True))


def test_permissions_that_do_not_exist_are_refused_at_the_start() -> None:
    with pytest.raises(UsageError, match="no kind of permissions"):
        server(ServeOptions(permissions="readonly"), access=NoDeleting())


def test_where_compaction_is_forbidden_nothing_brings_it_about() -> None:
    class NoCompaction(AccessPolicy):
        def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
            return Decision(verb is not Verb.COMPACT, "no compacting")

    storages = MemoryProvider(("/srv",))
    to = server(ServeOptions(storage_quota=10_000_000), storages=storages, access=NoCompaction())
    connection = connect(to)
    ask(connection, "open", path="r", create=True, exclusive=True)
    for _ in range(3):
        assert "r" in ask(connection, "put", id=bytes([1]) * 32, data=bytes(3_000_000))
    ask(connection, "commit", compact=True, threshold=0.0)
    names = storages.open("/srv/r").entries("data/0")
    assert "exception_class" in ask(connection, "put", id=bytes([1]) * 32, data=bytes(3_000_000))
    ask(connection, "commit", compact=True, threshold=0.0)
    assert {entry.name for entry in names} <= {entry.name for entry in storages.open("/srv/r").entries("data/0")}
