"""A client without a network and a repository without a disk, to test what lies between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack

from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.errors import ObjectNotFound, PathNotAllowed
from borg_serve_lib.policy.access import AccessPolicy, AllowAll, Decision, Verb
from borg_serve_lib.reporting import Event, FanOut, Level, Reporter
from borg_serve_lib.rpc.connection import Connection
from borg_serve_lib.rpc.services import Services
from borg_serve_lib.wire.loglines import ClientLog

REPOSITORY_ID = bytes(range(100, 132))
ALLOWED_PATH = "/srv/r"


def oid(number: int) -> bytes:
    return bytes([number]) * 32


class FakeRepository:
    """Objects in a dictionary. `journal`: all calls but the reading ones. `failures`: method -> what it raises."""

    def __init__(self, path: str = ALLOWED_PATH) -> None:
        self.id = REPOSITORY_ID
        self.path = path
        self.objects: dict[bytes, bytes] = {}
        self.own: set[bytes] = set()
        self.journal: list[tuple[Any, ...]] = []
        self.announced: list[list[bytes]] = []
        self.failures: dict[str, BaseException] = {}
        self.key = b""
        self.key_of_another = False  # one that was saved behind this session's back
        self.nonce: int | None = None
        self.closed = 0
        self.reads_slowly = True

    def _note(self, method: str, *values: object) -> None:
        assert not self.closed, f"{method} after close"
        self.journal.append((method, *values))
        if method in self.failures:
            raise self.failures[method]

    def get(self, object_id: bytes) -> memoryview:
        self._note("get", object_id)
        if object_id not in self.objects:
            raise ObjectNotFound(object_id.hex(), self.path)
        return memoryview(self.objects[object_id])

    def announce(self, object_ids: Iterable[bytes]) -> None:
        if "announce" in self.failures:
            raise self.failures["announce"]
        self.announced.append(list(object_ids))

    def is_own(self, object_id: bytes) -> bool | None:
        return object_id in self.own if object_id in self.objects else None

    def put(self, object_id: bytes, data: Any) -> None:
        self._note("put", object_id, bytes(data))
        self.objects[object_id] = bytes(data)
        self.own.add(object_id)

    def delete(self, object_id: bytes) -> None:
        self._note("delete", object_id)
        if self.objects.pop(object_id, None) is None:
            raise ObjectNotFound(object_id.hex(), self.path)

    def list_batches(self, limit: int | None, marker: bytes | None) -> Any:
        self._note("list", limit, marker)
        ids = sorted(object_id for object_id in self.objects if marker is None or object_id > marker)
        return iter([tuple(ids[:limit])])

    def scan_batches(self, limit: int | None, marker: bytes | None) -> Any:
        self._note("scan", limit, marker)
        return iter([tuple(list(self.objects)[:limit])])

    def __len__(self) -> int:
        self._note("__len__")
        return len(self.objects)

    def commit(self, compact: bool = True, threshold: float = 0.1, cleanup_commits: bool = False) -> None:
        self._note("commit", compact, threshold, cleanup_commits)

    def rollback(self) -> None:
        self._note("rollback")

    def destroy(self) -> None:
        self._note("destroy")
        self.closed += 1

    def check(self, repair: bool = False, max_duration: float = 0) -> bool:
        self._note("check", repair, max_duration)
        return True

    def save_key(self, keydata: bytes, *, replace: bool = True) -> bool:
        assert type(keydata) is bytes
        self._note("save_key", keydata)
        if self.key_of_another and not replace:
            return False
        self.key = keydata
        return True

    def load_key(self) -> bytes:
        self._note("load_key")
        return self.key

    def break_lock(self) -> None:
        self._note("break_lock")

    def get_free_nonce(self) -> int | None:
        self._note("get_free_nonce")
        return self.nonce

    def commit_nonce_reservation(self, next_unreserved: int, start_nonce: int | None) -> None:
        self._note("commit_nonce_reservation", next_unreserved, start_nonce)
        self.nonce = next_unreserved

    def close(self) -> None:
        self.closed += 1
        if "close" in self.failures:
            raise self.failures["close"]


class Denying(AccessPolicy):
    """Forbids some verbs and remembers what it was asked."""

    def __init__(self, *denied: Verb, looks_at_objects: bool = False) -> None:
        self.denied = denied
        self.looks_at_objects = looks_at_objects
        self.asked: list[tuple[Verb, bytes | None]] = []

    def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
        self.asked.append((verb, object_id))
        return Decision(verb not in self.denied, f"{verb.value} is not for you")


class Events(Reporter):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Host:
    """Serves connections. `repositories`: all that were opened, the last one last; `opened`: how they were."""

    def __init__(self, access: AccessPolicy | None = None, *, level: Level = Level.WARNING) -> None:
        self.repositories: list[FakeRepository] = []
        self.opened: list[tuple[str, OpenRequest]] = []
        self.failure: BaseException | None = None  # of the next open
        self.reporter = Events()
        self.lines: list[bytes] = []
        log = ClientLog(self.lines.append, level=level, now=lambda: 0.0)
        self.services = Services(
            resolve_path=self._resolve,
            open_repository=self._open,  # type: ignore[arg-type]  # as good as a repository
            access=access or AllowAll(),
            reporter=FanOut([log, self.reporter]),
            client_log=log,
            host_reporter=self.reporter,
        )

    def _resolve(self, raw: bytes) -> str:
        path = raw.decode("utf-8", "surrogateescape")
        if path != ALLOWED_PATH:
            raise PathNotAllowed(path)
        return path

    def _open(self, path: str, request: OpenRequest) -> FakeRepository:
        self.opened.append((path, request))
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.repositories.append(FakeRepository(path))
        return self.repositories[-1]

    @property
    def repository(self) -> FakeRepository:
        return self.repositories[-1]


def named(msgid: object, method: str, /, **arguments: object) -> bytes:
    return msgpack.packb({"i": msgid, "m": method, "a": arguments}, use_bin_type=False)  # type: ignore[no-any-return]


def positional(msgid: object, method: str, *values: object) -> bytes:
    return msgpack.packb((1, msgid, method, values), use_bin_type=False)  # type: ignore[no-any-return]


OPEN = named(1, "open", path=ALLOWED_PATH, exclusive=True, lock_wait=1)


class Client:
    """The other end of a connection."""

    def __init__(self, host: Host | None = None, *, opened: bool = False) -> None:
        self.host = host or Host()
        self.connection = Connection(self.host.services)
        if opened:
            assert self.says(OPEN) == [{"i": 1, "r": REPOSITORY_ID}]

    def hand_over(self, data: bytes) -> None:
        """Send `data` without asking for replies; it must fit."""
        room = self.connection.get_buffer()
        room[: len(data)] = data
        self.connection.buffer_updated(len(data))

    def hears(self, stream: bytes) -> bytes:
        """Send a stream and return the bytes of all replies."""
        rest, replies = memoryview(stream), b""
        while rest and not self.connection.ended:
            room = self.connection.get_buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            self.connection.buffer_updated(count)
            rest = rest[count:]
            replies += b"".join(bytes(buffer) for reply in self.connection for buffer in reply)
        return replies

    def says(self, stream: bytes) -> list[Any]:
        return unpacked(self.hears(stream))

    def calls(self, method: str, /, **arguments: object) -> Any:
        """Make a named call and return its result, or the class and arguments of its error."""
        (reply,) = self.says(named(9, method, **arguments))
        assert reply["i"] == 9
        return reply["r"] if "r" in reply else (reply["exception_class"], reply["exception_args"])

    def calls_by_position(self, method: str, *values: object) -> Any:
        """Make a positional call and return its result, or the class and text of its error."""
        (reply,) = self.says(positional(9, method, *values))
        assert reply[:2] == [1, 9]
        return reply[3] if reply[2] is None else (reply[2].decode(), reply[3].decode())


def unpacked(stream: bytes) -> list[Any]:
    """Return the replies in a stream; what is text in every reply of its kind is text, all else bytes."""
    unpacker = msgpack.Unpacker(raw=True, use_list=True, strict_map_key=False)
    unpacker.feed(stream)
    return [readable(reply) if isinstance(reply, dict) else reply for reply in unpacker]


def readable(reply: dict[bytes, Any]) -> dict[str, Any]:
    return {name.decode(): value if name in (b"i", b"r") else as_text(value) for name, value in reply.items()}


def as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value
