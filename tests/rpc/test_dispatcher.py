"""One call, one reply, whatever happens; and who is told what."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib import errors
from borg_serve_lib.events.session import CallFailed, InternalFailure, OldFormatCallFailed
from borg_serve_lib.reporting import Level
from borg_serve_lib.rpc.methods import METHODS

from .support import ALLOWED_PATH, Client, Denying, Host, named, oid, positional


@pytest.mark.parametrize(
    "method",
    ["no_such_method", "__init__", "__class__", "close", "info", "open_repository", "_note", "", "OPEN", "\xff"],
)
def test_any_other_method_is_answered_with_its_name(method: str) -> None:
    client = Client(opened=True)
    assert client.calls(method) == ("InvalidRPCMethod", [method])
    assert client.calls_by_position(method) == ("InvalidRPCMethod", f"RPC method {method} is not valid")
    assert client.calls("__len__") == 0


@pytest.mark.parametrize(("method", "values"), [("scan", [5, None]), ("inject_exception", ["divide"])])
def test_a_method_without_a_positional_form_is_not_run_by_position(method: str, values: list[object]) -> None:
    client = Client(opened=True)
    assert client.calls_by_position(method, *values)[0] == "ValueError"
    assert client.host.repository.journal == []


def test_that_there_is_not_enough_memory_is_told_as_what_it_is() -> None:
    client = Client(opened=True)
    client.host.repository.failures["load_key"] = MemoryError("secret")
    assert client.calls("load_key") == ("OSError", [12, "Cannot allocate memory"])
    assert client.host.reporter.of(InternalFailure) == []


@pytest.mark.parametrize(
    "failure",
    [
        OSError(5, "secret"),
        KeyError("secret"),
        RecursionError("secret"),
        AssertionError("secret"),
    ],
)
def test_what_nobody_foresaw_is_told_by_kind_to_the_client_and_in_full_to_the_host(failure: Exception) -> None:
    client = Client(Host(level=Level.DEBUG), opened=True)
    client.host.repository.failures["load_key"] = failure
    text = f"internal error of the server ({type(failure).__name__})"
    reply = client.hears(named(5, "load_key"))
    assert text.encode() in reply
    assert b"secret" not in reply
    assert b"Traceback" not in reply
    assert client.calls("load_key") == ("Error", [text])
    assert client.calls_by_position("load_key") == ("Error", text)
    (event, *_) = client.host.reporter.of(InternalFailure)
    assert event.method == "load_key"
    assert "secret" in event.details
    assert "Traceback" in event.details
    assert not any(b"secret" in line or b"Traceback" in line for line in client.host.lines)


def test_a_result_that_cannot_be_packed_is_an_internal_error_and_no_more() -> None:
    client = Client(opened=True)
    client.host.repository.nonce = 2**64
    assert client.calls("get_free_nonce") == ("Error", ["internal error of the server (OverflowError)"])
    assert client.calls("__len__") == 0


def test_a_policy_that_fails_forbids() -> None:
    class Broken(Denying):
        def decide(self, *_: object) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    client = Client(Host(Broken()), opened=True)
    assert client.calls("put", id=oid(1), data=b"") == ("Error", ["internal error of the server (ZeroDivisionError)"])
    assert client.host.repository.journal == []


def test_a_failed_call_is_reported_and_told_to_clients_that_debug() -> None:
    client = Client(Host(level=Level.DEBUG), opened=True)
    client.calls("get", id=oid(1))
    (event,) = client.host.reporter.of(CallFailed)
    assert (event.method, event.error, event.level) == ("get", "ObjectNotFound", Level.DEBUG)
    assert len(client.host.lines) == 1


def test_the_details_of_a_call_in_the_old_format_are_an_error_in_the_log() -> None:
    client = Client(opened=True)
    client.calls_by_position("get", oid(1))
    assert client.host.lines == [
        f"$LOG ERROR borg.remote Remote: Object with key {oid(1).hex()} not found in repository /srv/r.\n".encode()
    ]
    assert [event.method for event in client.host.reporter.of(OldFormatCallFailed)] == ["get"]


@pytest.mark.parametrize(
    "failure",
    [
        errors.DoesNotExist("/r"),
        errors.AlreadyExists("/r"),
        errors.InvalidRepository("/r"),
        errors.StorageQuotaExceeded(5, 6),
        errors.InsufficientFreeSpaceError(5, 6),
    ],
)
def test_what_clients_word_themselves_is_no_line_in_the_log(failure: Exception) -> None:
    client = Client()
    client.host.failure = failure
    assert client.calls_by_position("open", ALLOWED_PATH, False, 1, True)[0] == type(failure).__name__
    assert client.host.lines == []
    assert len(client.host.reporter.of(CallFailed)) == 1


def test_an_end_of_the_session_is_not_held_up() -> None:
    client = Client(opened=True)
    client.host.repository.failures["load_key"] = SystemExit(3)
    with pytest.raises(SystemExit):
        client.calls("load_key")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=33)
    | st.sampled_from([oid(1), ALLOWED_PATH.encode()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=3), inner, max_size=3),
    max_leaves=4,
)
METHOD_NAMES = st.sampled_from(sorted(METHODS)) | st.text(max_size=5)
PARAMETERS = sorted({parameter.name for method in METHODS.values() for parameter in method.parameters})
ARGUMENTS = st.dictionaries(st.sampled_from(PARAMETERS) | st.text(max_size=3), VALUES, max_size=7)


@settings(max_examples=200)
@given(st.lists(st.tuples(METHOD_NAMES, ARGUMENTS | st.lists(VALUES, max_size=7)), max_size=5))
def test_every_call_gets_exactly_one_reply_with_its_id_in_its_format(
    calls: list[tuple[str, dict[str, object] | list[object]]],
) -> None:
    client = Client()
    stream = b""
    for number, (method, arguments) in enumerate(calls):
        by_name = isinstance(arguments, dict)
        stream += named(number, method, **arguments) if by_name else positional(number, method, *arguments)
    replies = client.says(stream)
    assert [reply["i"] if isinstance(reply, dict) else reply[1] for reply in replies] == list(range(len(calls)))
    assert [isinstance(reply, dict) for reply in replies] == [isinstance(arguments, dict) for _, arguments in calls]
    assert client.host.reporter.of(InternalFailure) == []
    client.connection.close()
    assert client.connection.exit_code == 0
    assert all(repository.closed for repository in client.host.repositories)
