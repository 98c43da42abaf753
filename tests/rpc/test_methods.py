"""Every method of the table: what reaches the repository, and what the client is told."""

from __future__ import annotations

from typing import Any

import pytest

from borg_serve_lib import errors
from borg_serve_lib.engine.requests import OpenRequest
from borg_serve_lib.events.locks import LockLost
from borg_serve_lib.events.session import CallRefused, ClosingFailed
from borg_serve_lib.policy.access import Verb
from borg_serve_lib.rpc.methods import METHODS
from borg_serve_lib.wire.calls import POSITIONAL

from .support import ALLOWED_PATH, REPOSITORY_ID, Client, Denying, Host, named, oid, positional

NOT_OPEN = ("AttributeError", ["no repository is open"])
FULL_OPEN = {
    "path": ALLOWED_PATH,
    "create": False,
    "lock_wait": 1,
    "lock": True,
    "exclusive": True,
    "append_only": False,
    "make_parent_dirs": False,
}


@pytest.fixture
def client() -> Client:
    return Client(opened=True)


# --- the table


def test_the_methods_are_those_of_a_borg_1_4_server() -> None:
    assert set(METHODS) == {
        "negotiate", "open", "get", "put", "delete", "list", "scan", "__len__", "commit", "rollback", "check",
        "destroy", "save_key", "load_key", "break_lock", "get_free_nonce", "commit_nonce_reservation",
        "inject_exception",
    }  # fmt: skip


def test_every_positional_value_is_a_parameter_or_one_that_has_no_meaning_any_more() -> None:
    for method, values in POSITIONAL.items():
        assert set(values) - {"save_space"} <= {parameter.name for parameter in METHODS[method].parameters}


# --- negotiate


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (bytes.fromhex("940101a96e65676f74696174659102"), bytes.fromhex("940101c002")),
        (
            positional(1, "negotiate", {"client_version": (1, 4, 5, -1)}),
            b"\x94\x01\x01\xc0\x81\xaeserver_version\x94\x01\x04\x05\xff",
        ),
        (
            named(1, "negotiate", client_data={"client_version": (1, 1, 18, -1)}),
            b"\x82\xa1i\x01\xa1r\x81\xaeserver_version\x94\x01\x04\x05\xff",
        ),
    ],
)
def test_the_answer_to_a_negotiation_is_exactly_the_reference_servers(request_: bytes, reply: bytes) -> None:
    assert Client().hears(request_) == reply


def test_after_a_negotiation_with_a_version_the_log_is_json_and_not_before() -> None:
    client = Client()
    client.calls_by_position("negotiate", 2)
    client.says(positional(1, "no_such_method"))
    assert client.host.lines.pop().startswith(b"$LOG ERROR borg.remote Remote: ")
    client.calls_by_position("negotiate", {"client_version": (1, 4, 5, -1)})
    client.says(positional(1, "no_such_method"))
    assert client.host.lines.pop().startswith(b'{"type": "log_message"')


@pytest.mark.parametrize("data", [3, None, True, b"1.0", [2], 2.5])
def test_a_negotiation_with_anything_else_is_told_the_version_in_the_old_log_format(data: object) -> None:
    client = Client()
    assert client.calls("negotiate", client_data=data) == {b"server_version": [1, 4, 5, -1]}
    client.says(positional(1, "no_such_method"))
    assert client.host.lines.pop().startswith(b"$LOG")


def test_a_client_that_tells_no_version_gets_the_references_error() -> None:
    assert Client().calls("negotiate", client_data={}) == ("KeyError", ["client_version"])


def test_a_client_may_negotiate_again() -> None:
    client = Client(opened=True)
    assert client.calls("negotiate", client_data=2) == 2
    assert client.calls("__len__") == 0


# --- open


def test_open_returns_the_id_and_passes_all_arguments_on() -> None:
    client = Client()
    assert client.calls("open", **FULL_OPEN) == REPOSITORY_ID
    assert client.host.opened == [(ALLOWED_PATH, OpenRequest(exclusive=True, lock_wait=1))]


def test_each_argument_of_open_has_its_place() -> None:
    client = Client()
    arguments = {"create": True, "lock_wait": 7, "lock": False, "append_only": True, "make_parent_dirs": True}
    client.calls("open", path=ALLOWED_PATH, exclusive=False, v1_legacy=True, **arguments)
    assert client.host.opened[-1][1] == OpenRequest(
        create=True, lock_wait=7, locking=False, exclusive=False, append_only=True, make_parent_dirs=True
    )


def test_what_a_client_leaves_out_of_open_has_the_references_defaults() -> None:
    client = Client()
    client.calls("open", path=ALLOWED_PATH)
    assert client.host.opened[-1][1] == OpenRequest(
        create=False, locking=True, exclusive=None, lock_wait=None, append_only=False, make_parent_dirs=False
    )


def test_the_oldest_clients_open_with_four_values_and_later_ones_with_six() -> None:
    client = Client()
    assert client.calls_by_position("open", ALLOWED_PATH, False, 1, True) == REPOSITORY_ID
    assert client.calls_by_position("open", ALLOWED_PATH, True, 1, True, True, False) == REPOSITORY_ID
    assert [request for _, request in client.host.opened] == [
        OpenRequest(lock_wait=1),
        OpenRequest(create=True, lock_wait=1, exclusive=True),
    ]


@pytest.mark.parametrize("values", [[], [ALLOWED_PATH, False, 1, True, True]])
def test_another_number_of_values_is_an_error_but_no_type_error(values: list[object]) -> None:
    client = Client()
    assert client.calls_by_position("open", *values)[0] == "ValueError"
    assert client.host.opened == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("path", None),
        ("path", b"/srv\0/r"),
        ("create", "yes"),
        ("lock_wait", -1),
        ("lock_wait", float("nan")),
        ("lock", None),
        ("exclusive", 2),
        ("append_only", []),
        ("make_parent_dirs", b""),
    ],
)
def test_open_refuses_what_is_of_the_wrong_kind(name: str, value: object) -> None:
    client = Client()
    wire_class, (text,) = client.calls("open", **(FULL_OPEN | {name: value}))
    assert (wire_class, text.split()[0]) == ("ValueError", name)
    assert client.host.opened == []


def test_a_path_that_is_not_allowed_is_refused_and_the_session_goes_on() -> None:
    client = Client()
    assert client.calls("open", path="/srv/other") == ("PathNotAllowed", ["/srv/other"])
    assert client.calls("open", path=ALLOWED_PATH) == REPOSITORY_ID


def test_after_an_open_that_failed_no_repository_is_open() -> None:
    client = Client()
    client.host.failure = errors.LockTimeout("/srv/r/lock.exclusive")
    assert client.calls("open", path=ALLOWED_PATH) == ("LockTimeout", ["/srv/r/lock.exclusive"])
    assert client.calls("load_key") == NOT_OPEN
    assert client.calls("open", path=ALLOWED_PATH) == REPOSITORY_ID


def test_a_second_open_closes_the_first_repository_first() -> None:
    client = Client(opened=True)
    client.calls("open", path=ALLOWED_PATH)
    first, second = client.host.repositories
    assert (first.closed, second.closed) == (1, 0)


@pytest.mark.parametrize(
    ("failure", "event"), [(errors.NotLocked("/r/lock"), LockLost), (errors.NoSpace(28, "full", "x"), ClosingFailed)]
)
def test_a_second_open_works_even_if_closing_the_first_repository_did_not(failure: Exception, event: Any) -> None:
    client = Client(opened=True)
    client.host.repository.failures["close"] = failure
    assert client.calls("open", path=ALLOWED_PATH) == REPOSITORY_ID
    assert len(client.host.reporter.of(event)) == 1


# --- without a repository


NEEDS_A_REPOSITORY: dict[str, dict[str, object]] = {
    "get": {"id": oid(1)},
    "put": {"id": oid(1), "data": b""},
    "delete": {"id": oid(1)},
    "list": {},
    "scan": {},
    "__len__": {},
    "commit": {},
    "rollback": {},
    "check": {},
    "destroy": {},
    "save_key": {"keydata": b""},
    "load_key": {},
    "break_lock": {},
    "get_free_nonce": {},
    "commit_nonce_reservation": {"next_unreserved": 1, "start_nonce": None},
}


@pytest.mark.parametrize("method", NEEDS_A_REPOSITORY)
def test_a_call_before_open_is_answered_as_the_reference_does(method: str) -> None:
    client = Client()
    assert client.calls(method, **NEEDS_A_REPOSITORY[method]) == NOT_OPEN
    assert client.calls("open", path=ALLOWED_PATH) == REPOSITORY_ID


def test_all_methods_that_need_a_repository_are_in_the_test_above() -> None:
    assert set(METHODS) - set(NEEDS_A_REPOSITORY) == {"negotiate", "open", "inject_exception"}


# --- objects


def test_an_object_that_was_put_can_be_got_listed_counted_and_deleted(client: Client) -> None:
    assert client.calls("put", id=oid(1), data=b"data", wait=True) is None
    assert client.calls("put", id=oid(2), data=b"", wait=False) is None
    assert client.calls("get", id=oid(1)) == b"data"
    assert client.calls("get", id=oid(2)) == b""
    assert client.calls("__len__") == 2
    assert client.calls("list", limit=10, marker=oid(1)) == [oid(2)]
    assert client.calls("delete", id=oid(1), wait=True) is None
    assert client.calls("get", id=oid(1)) == ("ObjectNotFound", [oid(1).hex(), ALLOWED_PATH])


def test_the_same_works_by_position() -> None:
    client = Client()
    client.calls_by_position("open", ALLOWED_PATH, False, 1, True, True, False)
    assert client.calls_by_position("put", oid(1), b"x" * 40) is None
    assert client.calls_by_position("get", oid(1)) == b"x" * 40
    assert client.calls_by_position("list", 10, None) == [oid(1)]
    assert client.calls_by_position("__len__") == 1
    assert client.calls_by_position("commit", False) is None
    assert client.calls_by_position("delete", oid(1)) is None
    assert client.calls_by_position("get", oid(1))[0] == "ObjectNotFound"


@pytest.mark.parametrize("method", ["list", "scan"])
@pytest.mark.parametrize(
    ("arguments", "passed"),
    [({}, (None, None)), ({"limit": 0, "marker": None}, (0, None)), ({"limit": 7, "marker": oid(3)}, (7, oid(3)))],
)
def test_limit_and_marker_are_passed_on(client: Client, method: str, arguments: Any, passed: Any) -> None:
    assert client.calls(method, **arguments) == []
    assert client.host.repository.journal == [(method, *passed)]


@pytest.mark.parametrize("method", ["list", "scan"])
def test_a_negative_limit_is_a_value_error(client: Client, method: str) -> None:
    assert client.calls(method, limit=-1) == ("ValueError", ["limit must not be negative"])


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_an_id_that_is_not_32_bytes_is_the_references_assertion_error(client: Client, method: str) -> None:
    assert client.calls(method, id=b"short", data=b"")[0] == "AssertionError"
    assert client.host.repository.journal == []


@pytest.mark.parametrize("data", [None, 5, [], {}])
def test_data_that_are_no_bytes_are_refused(client: Client, data: object) -> None:
    assert client.calls("put", id=oid(1), data=data) == ("ValueError", ["data must be bytes"])


def test_an_argument_that_is_missing_is_named_and_the_session_goes_on(client: Client) -> None:
    assert client.calls("put", id=oid(1)) == ("ValueError", ["put needs the argument data"])
    assert client.calls_by_position("put", oid(1)) == ("ValueError", "put needs the argument data")
    assert client.calls("__len__") == 0


# --- transactions


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ({}, (True, 0.1, False)),
        ({"save_space": True}, (True, 0.1, False)),
        ({"save_space": False, "compact": False, "threshold": 0.1, "cleanup_commits": False}, (False, 0.1, False)),
        ({"compact": True, "threshold": 0.2, "cleanup_commits": True}, (True, 0.2, True)),
        ({"compact": 0, "threshold": 0}, (False, 0.0, False)),
    ],
)
def test_commit_compacts_unless_told_otherwise(client: Client, arguments: Any, passed: Any) -> None:
    assert client.calls("commit", **arguments) is None
    assert client.host.repository.journal == [("commit", *passed)]


def test_rollback_returns_nothing(client: Client) -> None:
    assert client.calls("rollback") is None
    assert client.host.repository.journal == [("rollback",)]


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        ({}, (False, 0)),
        ({"repair": True, "save_space": True}, (True, 0)),
        ({"repair": False, "save_space": False, "max_duration": 90}, (False, 90)),
    ],
)
def test_check_returns_whether_all_is_well(client: Client, arguments: Any, passed: Any) -> None:
    assert client.calls("check", **arguments) is True
    assert client.host.repository.journal == [("check", *passed)]


def test_after_destroy_no_repository_is_open(client: Client) -> None:
    assert client.calls("destroy") is None
    assert client.calls("load_key") == NOT_OPEN


def test_a_destroy_that_was_refused_leaves_the_repository_open(client: Client) -> None:
    client.host.repository.failures["destroy"] = errors.InvalidArgument("/r is in append-only mode")
    assert client.calls("destroy") == ("ValueError", ["/r is in append-only mode"])
    assert client.calls("load_key") == b""


def test_a_destroy_that_failed_half_way_leaves_none_open(client: Client) -> None:
    client.host.repository.failures["destroy"] = errors.StorageError(5, "I/O error", "data")
    assert client.calls("destroy") == ("OSError", [5, "I/O error"])
    assert client.calls("load_key") == NOT_OPEN


# --- key, nonce, lock


def test_key_and_nonce_come_back_as_they_were_saved(client: Client) -> None:
    assert client.calls("load_key") == b""
    assert client.calls("save_key", keydata=b"BORG_KEY \xc3\xa4") is None
    assert client.calls("load_key") == b"BORG_KEY \xc3\xa4"
    assert client.calls("get_free_nonce") is None
    assert client.calls("commit_nonce_reservation", next_unreserved=2**64 - 1, start_nonce=None) is None
    assert client.calls("get_free_nonce") == 2**64 - 1


def test_a_first_key_takes_the_place_of_none_that_came_meanwhile() -> None:
    client = Client(Host(Denying(Verb.KEY_WRITE, looks_at_objects=True)), opened=True)
    client.host.repository.key_of_another = True
    assert client.calls("save_key", keydata=b"mine") == ("Error", ["key-write is not for you"])
    assert client.host.repository.key == b""
    client.host.repository.key_of_another = False
    assert client.calls("save_key", keydata=b"mine") is None
    assert client.calls("save_key", keydata=b"another") == ("Error", ["key-write is not for you"])
    assert client.host.repository.key == b"mine"


@pytest.mark.parametrize(
    ("start", "next_unreserved", "usual"),
    [
        (None, 1 << 28, True),
        (1 << 28, (1 << 28) + 1, True),
        (1 << 28, (1 << 28) + (1 << 40), True),
        (1 << 28, (1 << 28) + (1 << 40) + 1, False),
        (1 << 28, 1 << 28, False),
        (1 << 28, 0, False),
        (None, 0, False),
        (None, 2**64 - 1, False),
    ],
)
def test_a_reservation_of_nonces_that_no_client_makes_takes_the_right_to_the_key(
    start: int | None, next_unreserved: int, usual: bool
) -> None:
    client = Client(Host(Denying(Verb.KEY_WRITE)), opened=True)
    client.host.repository.nonce = start
    reply = client.calls("commit_nonce_reservation", next_unreserved=next_unreserved, start_nonce=start)
    assert reply == (None if usual else ("Error", ["key-write is not for you"]))
    assert client.host.repository.nonce == (next_unreserved if usual else start)


def test_who_may_not_put_reserves_nothing_and_is_not_refused() -> None:
    client = Client(Host(Denying(Verb.PUT)), opened=True)
    assert client.calls("commit_nonce_reservation", next_unreserved=1 << 28, start_nonce=None) is None
    assert client.host.repository.journal == []


def test_a_session_cannot_use_the_nonces_up_by_many_reservations() -> None:
    client = Client(Host(Denying(Verb.KEY_WRITE)), opened=True)
    half = 1 << 39
    assert client.calls("commit_nonce_reservation", next_unreserved=half, start_nonce=None) is None
    assert client.calls("commit_nonce_reservation", next_unreserved=2 * half, start_nonce=half) is None
    refused = client.calls("commit_nonce_reservation", next_unreserved=2 * half + 1, start_nonce=2 * half)
    assert refused == ("Error", ["key-write is not for you"])


def test_where_a_first_reservation_begins_is_not_the_clients_word() -> None:
    client = Client(Host(Denying(Verb.KEY_WRITE)), opened=True)
    client.host.repository.commit_nonce_reservation = mismatch
    client.calls("commit_nonce_reservation", next_unreserved=(1 << 60) + 1, start_nonce=1 << 60)
    del client.host.repository.commit_nonce_reservation
    refused = client.calls("commit_nonce_reservation", next_unreserved=1 << 41, start_nonce=None)
    assert refused == ("Error", ["key-write is not for you"])


def mismatch(*_: object) -> None:
    raise errors.NonceMismatch("another one")


def test_break_lock_is_passed_on(client: Client) -> None:
    assert client.calls("break_lock") is None
    assert client.host.repository.journal == [("break_lock",)]


# --- rights


@pytest.mark.parametrize(
    ("method", "arguments", "verb", "object_id"),
    [
        ("open", {"path": ALLOWED_PATH, "create": True}, Verb.CREATE, None),
        ("get", {"id": oid(1)}, Verb.GET, oid(1)),
        ("list", {}, Verb.LIST, None),
        ("scan", {}, Verb.LIST, None),
        ("__len__", {}, Verb.LIST, None),
        ("put", {"id": oid(1), "data": b""}, Verb.PUT, oid(1)),
        ("delete", {"id": oid(1)}, Verb.DELETE, oid(1)),
        ("check", {}, Verb.CHECK, None),
        ("check", {"repair": True}, Verb.REPAIR, None),
        ("destroy", {}, Verb.DESTROY, None),
        ("save_key", {"keydata": b"k"}, Verb.KEY_WRITE, None),
        ("load_key", {}, Verb.KEY_READ, None),
        ("break_lock", {}, Verb.BREAK_LOCK, None),
        ("get_free_nonce", {}, Verb.KEY_READ, None),
    ],
)
def test_the_policy_is_asked_before_anything_happens(
    method: str, arguments: dict[str, object], verb: Verb, object_id: bytes | None
) -> None:
    policy = Denying(verb)
    client = Client(Host(policy), opened=True)
    policy.asked.clear()
    reply = client.calls(method, **arguments)
    reason = f"{verb.value} is not for you"
    assert reply == ("Error", [reason])
    assert policy.asked == [(verb, object_id)]
    assert client.host.repository.journal == []
    assert len(client.host.opened) == 1
    assert client.host.reporter.of(CallRefused) == [CallRefused(method, reason)]


@pytest.mark.parametrize("method", ["rollback", "negotiate", "open"])
def test_what_every_session_needs_takes_no_right(method: str) -> None:
    client = Client(Host(Denying(*Verb)), opened=True)
    arguments = NEEDS_A_REPOSITORY.get(method, {"client_data": 2, "path": ALLOWED_PATH})
    assert client.calls(method, **arguments) in (None, 2, REPOSITORY_ID)


def test_who_may_not_compact_commits_all_the_same() -> None:
    client = Client(Host(Denying(Verb.COMPACT)), opened=True)
    assert client.calls("commit", compact=True, threshold=0.2) is None
    assert client.host.repository.journal == [("commit", False, 0.2, False)]


def test_a_policy_that_does_not_ask_for_overwrites_is_not_told_of_them() -> None:
    policy = Denying(Verb.OVERWRITE)
    client = Client(Host(policy), opened=True)
    client.host.repository.objects[oid(1)] = b"old"
    assert client.calls("put", id=oid(1), data=b"new") is None
    assert policy.asked == [(Verb.PUT, oid(1))]


def test_a_policy_that_does_may_allow_new_objects_alone() -> None:
    policy = Denying(Verb.OVERWRITE, looks_at_objects=True)
    client = Client(Host(policy), opened=True)
    client.host.repository.objects[oid(1)] = b"old"
    assert client.calls("put", id=oid(1), data=b"new") == ("Error", ["overwrite is not for you"])
    assert client.calls("put", id=oid(2), data=b"new") is None
    assert policy.asked == [(Verb.OVERWRITE, oid(1)), (Verb.PUT, oid(2))]
    assert client.host.repository.objects[oid(1)] == b"old"


# --- borg's own tests


@pytest.mark.parametrize(
    ("kind", "wire_class", "arguments"),
    [
        ("DoesNotExist", "DoesNotExist", [ALLOWED_PATH]),
        ("AlreadyExists", "AlreadyExists", [ALLOWED_PATH]),
        ("CheckNeeded", "CheckNeeded", [ALLOWED_PATH]),
        ("IntegrityError", "IntegrityError", ["test string"]),
        ("PathNotAllowed", "PathNotAllowed", ["foo"]),
        ("ObjectNotFound", "ObjectNotFound", ["test string", "test string2"]),
        ("InvalidRPCMethod", "InvalidRPCMethod", ["test string"]),
        ("divide", "ZeroDivisionError", ["integer division or modulo by zero"]),
    ],
)
def test_an_error_can_be_asked_for(client: Client, kind: str, wire_class: str, arguments: list[str]) -> None:
    assert client.calls("inject_exception", kind=kind) == (wire_class, arguments)


def test_an_unknown_kind_of_error_is_none(client: Client) -> None:
    assert client.calls("inject_exception", kind="Nothing") is None
    assert Client().calls("inject_exception", kind="DoesNotExist") == ("DoesNotExist", [""])


def test_open_is_the_first_call_that_loads_the_engine() -> None:
    import subprocess
    import sys

    program = """
import sys, msgpack, borg_serve_lib as b
server = b.Server(b.ServeOptions(), paths=b.PathPolicy(), resolver=bytes.decode, storages=None, locks=None)
connection = server.connect(b.ClientLog(lambda line: None, now=lambda: 0.0))
def call(method, **arguments):
    data = msgpack.packb({"i": 1, "m": method, "a": arguments})
    connection.get_buffer()[: len(data)] = data
    connection.buffer_updated(len(data))
    return b"".join(bytes(part) for reply in connection for part in reply)
assert b"server_version" in call("negotiate", client_data={"client_version": [1, 4, 5, -1]})
assert "borg_serve_lib.engine.repository" not in sys.modules
call("open", path="/nowhere")
assert "borg_serve_lib.engine.repository" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
