"""The methods that clients may call, in one table. Source: spec, rpc.md section 3."""

from __future__ import annotations

from .. import errors
from ..policy.access import Verb
from ..values import Value
from ..wire.calls import data_reply, ids_reply, result_reply
from . import arguments as check
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final

    from ..wire.calls import Call, Reply

_MOST_NONCES: Final = 1 << 40
"""In one session. Clients reserve 2^28 at a time, and what they know beyond that of having used."""

REQUIRED: Final = object()
"""The default of an argument that has none."""


class Parameter(Value):
    """An argument: its name, what it may be, and its value when the client leaves it out."""

    name: str
    check: Callable[[str, Any], Any]
    default: Any = REQUIRED


class Method(Value):
    """A method: what it takes, the right it needs (None: none, or the handler asks), and what it does.

    `handler` takes the session and the checked arguments, in the order of `parameters`. `reply`: packs a result that is
    not None.
    """

    handler: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    verb: Verb | None = None
    reply: Callable[[Call, Any], Reply] = staticmethod(result_reply)


# --- before a repository is open


def negotiate(session: Session, client_data: Any) -> Any:
    """Section 2: clients 1.0 send and get 2; later ones send their version, and read JSON lines from then on."""
    if client_data == 2 and not isinstance(client_data, bool):
        return 2
    if isinstance(client_data, dict):
        if b"client_version" not in client_data:
            raise errors.MissingVersion("client_version")
        session.services.client_log.use_json()
        session.client_version = _version_text(client_data[b"client_version"])
    return {"server_version": session.services.server_version}


def _version_text(version: object) -> str:
    """Return `1.4.5` for what a client tells of itself, "" for anything else."""
    numbers = version[:3] if isinstance(version, (list, tuple)) else ()
    return ".".join(str(number) for number in numbers if isinstance(number, int))


def open_(  # noqa: PLR0917 - handlers take the checked arguments in their order
    session: Session,
    path: bytes,
    create: bool,
    lock_wait: float | None,
    lock: bool,
    exclusive: bool | None,
    append_only: bool,
    make_parent_dirs: bool,
) -> bytes:
    """Section 3.1. A second open closes the first repository."""
    # The engine takes longer to load than everything before: the answer to the first call does not wait for it.
    from ..engine.requests import OpenRequest

    session.close_repository()
    services = session.services
    resolved = services.resolve_path(path)
    if create:
        session.demand(Verb.CREATE, "open")
    request = OpenRequest(
        create=create,
        locking=lock,
        exclusive=exclusive,
        lock_wait=lock_wait,
        append_only=append_only,
        make_parent_dirs=make_parent_dirs,
    )
    repository = services.open_repository(resolved, request)
    session.repository, session.path, session.first_nonce = repository, resolved, None
    return repository.id


def inject_exception(session: Session, kind: str) -> None:
    """Section 3.7: borg's own tests ask for errors."""
    path = session.repository.path if session.repository is not None else ""
    injected: dict[str, errors.BorgServeError] = {
        "DoesNotExist": errors.DoesNotExist(path),
        "AlreadyExists": errors.AlreadyExists(path),
        "CheckNeeded": errors.CheckNeeded(path),
        "IntegrityError": errors.IntegrityError("test string"),
        "PathNotAllowed": errors.PathNotAllowed("foo"),
        "ObjectNotFound": errors.ObjectNotFound("test string", "test string2"),
        "InvalidRPCMethod": errors.InvalidRPCMethod("test string"),
        "divide": errors.InjectedError("integer division or modulo by zero"),
    }
    if kind in injected:
        raise injected[kind]


# --- reading


def get(session: Session, object_id: bytes) -> Any:
    repository = session.opened()
    session.demand_object(Verb.GET, "get", object_id)
    return repository.get(object_id)


def list_(session: Session, limit: int | None, marker: bytes | None) -> Iterator[tuple[bytes, ...]]:
    return session.opened().list_batches(limit, marker)


def scan(session: Session, limit: int | None, marker: bytes | None) -> Iterator[tuple[bytes, ...]]:
    return session.opened().scan_batches(limit, marker)


def length(session: Session) -> int:
    return len(session.opened())


# --- writing


def put(session: Session, object_id: bytes, data: Any) -> None:
    repository = session.opened()
    session.demand_object(Verb.PUT, "put", object_id)
    repository.put(object_id, data)


def delete(session: Session, object_id: bytes) -> None:
    repository = session.opened()
    session.demand_object(Verb.DELETE, "delete", object_id)
    repository.delete(object_id)


def commit(session: Session, compact: bool, threshold: float, cleanup_commits: bool) -> None:
    """Section 3.4. Who may not compact commits all the same: old clients always ask for both."""
    compact = compact and session.allows(Verb.COMPACT)
    session.opened().commit(compact=compact, threshold=threshold, cleanup_commits=cleanup_commits)


def rollback(session: Session) -> None:
    session.opened().rollback()


def check_(session: Session, repair: bool, max_duration: float) -> bool:
    session.demand(Verb.REPAIR if repair else Verb.CHECK, "check")
    return session.opened().check(repair=repair, max_duration=max_duration)


def destroy(session: Session) -> None:
    """Section 3.4. What could not be removed in full is no open repository either, unless it was refused at once."""
    repository = session.opened()
    try:
        repository.destroy()
    except errors.InvalidArgument:
        raise
    except errors.BorgServeError:
        session.repository = None
        raise
    session.repository = None


# --- key, nonce, lock


def save_key(session: Session, keydata: Any) -> None:
    """Section 3.5. A first key counts as PUT; but another session may have saved one meanwhile."""
    repository = session.opened()
    if session.services.access.looks_at_objects and not repository.load_key():
        session.demand(Verb.PUT, "save_key")
        if repository.save_key(bytes(keydata), replace=False):
            return
    session.demand(Verb.KEY_WRITE, "save_key")
    repository.save_key(bytes(keydata))


def load_key(session: Session) -> bytes:
    return session.opened().load_key()


def get_free_nonce(session: Session) -> int | None:
    return session.opened().get_free_nonce()


def commit_nonce_reservation(session: Session, next_unreserved: int, start_nonce: int | None) -> None:
    """Section 3.5. What no client reserves would end the use of the key, or have nonces used twice: it is for those who
    may replace the key. Who may not put anything reserves nothing, and is not refused: a check reserves nonces,
    too, and none is used up where nothing that was encrypted is kept.
    """
    repository = session.opened()
    begin = start_nonce or 0
    first = begin if session.first_nonce is None else session.first_nonce
    usual = begin < next_unreserved <= first + _MOST_NONCES
    if not usual:
        session.demand(Verb.KEY_WRITE, "commit_nonce_reservation")
    if not session.allows(Verb.PUT):
        return
    repository.commit_nonce_reservation(next_unreserved, start_nonce)
    session.first_nonce = first  # only now is it certain that the client told the truth


def break_lock(session: Session) -> None:
    session.opened().break_lock()


_LIMIT = Parameter("limit", check.optional_number, None)
_MARKER = Parameter("marker", check.optional_id, None)
_ID = Parameter("id", check.object_id)

METHODS: dict[str, Method] = {
    "negotiate": Method(negotiate, (Parameter("client_data", check.anything),)),
    "open": Method(
        open_,
        (
            Parameter("path", check.path),
            Parameter("create", check.flag, False),
            Parameter("lock_wait", check.optional_seconds, None),
            Parameter("lock", check.flag, True),
            Parameter("exclusive", check.optional_flag, None),
            Parameter("append_only", check.flag, False),
            Parameter("make_parent_dirs", check.flag, False),
        ),
    ),
    "inject_exception": Method(inject_exception, (Parameter("kind", check.text),)),
    "get": Method(get, (_ID,), reply=data_reply),
    "list": Method(list_, (_LIMIT, _MARKER), Verb.LIST, ids_reply),
    "scan": Method(scan, (_LIMIT, _MARKER), Verb.LIST, ids_reply),
    "__len__": Method(length, (), Verb.LIST),
    "put": Method(put, (_ID, Parameter("data", check.data))),
    "delete": Method(delete, (_ID,)),
    "commit": Method(
        commit,
        (
            Parameter("compact", check.flag, True),
            Parameter("threshold", check.ratio, 0.1),
            Parameter("cleanup_commits", check.flag, False),
        ),
    ),
    "rollback": Method(rollback),
    "check": Method(check_, (Parameter("repair", check.flag, False), Parameter("max_duration", check.seconds, 0))),
    "destroy": Method(destroy, (), Verb.DESTROY),
    "save_key": Method(save_key, (Parameter("keydata", check.data),)),
    "load_key": Method(load_key, (), Verb.KEY_READ),
    "get_free_nonce": Method(get_free_nonce, (), Verb.KEY_READ),
    "commit_nonce_reservation": Method(
        commit_nonce_reservation,
        (Parameter("next_unreserved", check.number), Parameter("start_nonce", check.optional_number)),
    ),
    "break_lock": Method(break_lock, (), Verb.BREAK_LOCK),
}
"""Name -> method. Arguments that are not listed are ignored (`wait`, `save_space`, those of future clients)."""
