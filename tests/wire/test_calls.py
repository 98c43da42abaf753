"""Requests as values and replies as bytes: beside what the native server has sent, and beside msgpack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import InvalidArgument, ProtocolError, UnexpectedRPCDataFormat
from borg_serve_lib.limits import (
    MAX_ARGUMENT_NAME,
    MAX_MESSAGE_SIZE,
    MAX_METHOD_NAME,
    MAX_NIL_REPLY,
    MAX_REPLY_IDS,
    MAX_TEXT_MSGID,
)
from borg_serve_lib.wire.calls import (
    POSITIONAL,
    Call,
    call_from,
    data_reply,
    ids_reply,
    nil_reply,
    pack,
    raw_header,
    result_reply,
)

from .support import REQUESTS, expected_calls, name_of, packed, unpacked

NAMED = Call(b"\x05", "get", {}, named=True)
OLD = Call(b"\x05", "get", {}, named=False)


# --- requests


@pytest.mark.parametrize("msgid", [0, 1, 2**64 - 1, -1, b"text", b""])
def test_the_id_of_a_call_is_kept_as_it_is_to_be_echoed(msgid: int | bytes) -> None:
    assert call_from({b"i": msgid, b"m": b"get", b"a": {}}).msgid == packed(msgid)
    assert call_from((1, msgid, b"get", ())).msgid == packed(msgid)


@pytest.mark.parametrize("msgid", [None, True, 1.0, [], {}, ()])
def test_any_other_id_is_refused(msgid: object) -> None:
    with pytest.raises(ProtocolError):
        call_from({b"i": msgid, b"m": b"get", b"a": {}})
    with pytest.raises(ProtocolError):
        call_from((1, msgid, b"get", ()))


class Undecodable(bytes):
    """What is to be refused before it is decoded."""

    def decode(self, *arguments: object) -> str:  # type: ignore[override]
        raise AssertionError("this was to be refused first")


def test_the_longest_names_and_ids_pass() -> None:
    name = b"x" * MAX_ARGUMENT_NAME
    assert call_from({b"i": 1, b"m": b"get", b"a": {name: 1}}).arguments == {name.decode(): 1}
    assert call_from({b"i": 1, b"m": b"m" * MAX_METHOD_NAME}).method == "m" * MAX_METHOD_NAME
    assert call_from({b"i": b"i" * MAX_TEXT_MSGID, b"m": b"get"}).msgid == packed(b"i" * MAX_TEXT_MSGID)


@pytest.mark.parametrize(
    "request_",
    [
        {b"i": 1, b"m": b"get", b"a": {b"id": b"", Undecodable(MAX_ARGUMENT_NAME + 1): 1}},
        {b"i": 1, b"m": Undecodable(MAX_METHOD_NAME + 1), b"a": {}},
        {b"i": bytes(MAX_TEXT_MSGID + 1), b"m": b"get", b"a": {}},
        (1, 1, Undecodable(MAX_METHOD_NAME + 1), ()),
        (1, bytes(MAX_TEXT_MSGID + 1), b"get", ()),
    ],
)
def test_longer_ones_are_refused_before_they_are_decoded(request_: object) -> None:
    with pytest.raises(ProtocolError, match="more than 100 bytes"):
        call_from(request_)


def test_a_named_call_has_its_arguments_by_name_and_ignores_further_fields() -> None:
    request = {b"i": 3, b"m": b"list", b"a": {b"limit": 5, b"new": None}, b"x": 1, 5: 6}
    assert call_from(request) == Call(b"\x03", "list", {"limit": 5, "new": None}, named=True)


def test_a_named_call_without_arguments_has_none() -> None:
    assert call_from({b"i": 3, b"m": b"load_key"}) == Call(b"\x03", "load_key", {}, named=True)


def test_names_that_are_no_utf_8_are_replaced() -> None:
    call = call_from({b"i": 3, b"m": b"\xff", b"a": {b"\xfe": 1}})
    assert (call.method, call.arguments) == ("\ufffd", {"\ufffd": 1})


@pytest.mark.parametrize("request_", [None, 5, b"text", 1.5, [], (1, 2, 3), [1, 2, 3, 4, 5]])
def test_what_is_neither_a_map_nor_four_values_is_unexpected(request_: object) -> None:
    with pytest.raises(UnexpectedRPCDataFormat):
        call_from(request_)


@pytest.mark.parametrize(
    ("method", "values", "arguments"),
    [
        ("negotiate", [2], {"client_data": 2}),
        (
            "open",
            [b"/r", False, 1, True, None, False],
            {"path": b"/r", "create": False, "lock_wait": 1, "lock": True, "exclusive": None, "append_only": False},
        ),
        ("open", [b"/r", True, 1, True], {"path": b"/r", "create": True, "lock_wait": 1, "lock": True}),
        ("open", [b"/r", True, 1, True, True], None),
        ("check", [True, False], {"repair": True, "save_space": False}),
        ("commit", [False], {"save_space": False}),
        ("list", [10000, b"m"], {"limit": 10000, "marker": b"m"}),
        ("get", [b"i"], {"id": b"i"}),
        ("put", [b"i", b"d"], {"id": b"i", "data": b"d"}),
        ("delete", [b"i"], {"id": b"i"}),
        ("save_key", [b"k"], {"keydata": b"k"}),
        ("get_free_nonce", [], {}),
        ("commit_nonce_reservation", [7, None], {"next_unreserved": 7, "start_nonce": None}),
        ("rollback", [], {}),
        ("destroy", [], {}),
        ("__len__", [], {}),
        ("load_key", [], {}),
        ("break_lock", [], {}),
        # Surplus values are ignored, missing ones are missing.
        ("load_key", [1, 2], {}),
        ("put", [b"i"], {"id": b"i"}),
        # These have no positional form.
        ("scan", [5, None], None),
        ("inject_exception", [b"divide"], None),
        ("no_such_method", [], None),
    ],
)
def test_values_by_position_get_the_names_of_the_method(
    method: str, values: list[object], arguments: dict[str, object] | None
) -> None:
    call = call_from([1, 9, method.encode(), values])
    assert call == Call(b"\x09", method, arguments, named=False)


def test_every_method_with_a_positional_form_is_in_the_test_above() -> None:
    assert len(POSITIONAL) == 16


# --- replies


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_replies_are_byte_by_byte_those_of_the_native_server(path: Path) -> None:
    calls = expected_calls(path.read_bytes())
    replies = path.with_suffix(".replies").read_bytes()
    assert b"".join(map(reply_to, calls, unpacked_replies(replies))) == replies


def unpacked_replies(stream: bytes) -> list[Any]:
    return [reply[b"r"] if isinstance(reply, dict) else reply[3] for reply in unpacked(stream)]


def reply_to(call: Call, result: Any) -> bytes:
    if result is None:
        return nil_reply(call)
    return b"".join((data_reply if call.method == "get" else result_reply)(call, result))


def test_the_answers_to_a_negotiation_are_those_of_the_specification() -> None:
    first = Call(b"\x01", "negotiate", {}, named=False)
    assert b"".join(result_reply(first, 2)) == b"\x94\x01\x01\xc0\x02"
    version = {"server_version": (1, 4, 5, -1)}
    assert b"".join(result_reply(first, version)) == b"\x94\x01\x01\xc0\x81\xaeserver_version\x94\x01\x04\x05\xff"


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65535, 65536, 70000])
def test_the_head_of_raw_bytes_is_the_one_msgpack_makes(size: int) -> None:
    assert raw_header(size) + bytes(size) == packed(bytes(size))


@pytest.mark.parametrize("size", [0, 31, 32, 65535, 65536])
def test_a_reply_with_data_is_its_head_and_the_data(size: int) -> None:
    assert b"".join(data_reply(NAMED, bytes(size))) == packed({"i": 5, "r": bytes(size)})
    assert b"".join(data_reply(OLD, bytes(size))) == packed((1, 5, None, bytes(size)))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65535, 65536])
def test_a_reply_with_ids_is_the_one_msgpack_makes(count: int) -> None:
    ids = [number.to_bytes(32, "big") for number in range(count)]
    for batch in (1, 3, 4096, 65536):
        batches = [(), *(tuple(ids[start : start + batch]) for start in range(0, count, batch)), ()]
        assert b"".join(ids_reply(NAMED, batches)) == packed({"i": 5, "r": ids})
        assert b"".join(ids_reply(OLD, batches)) == packed((1, 5, None, ids))


def test_a_reply_has_no_more_ids_than_clients_take() -> None:
    most = [(bytes(32),) * MAX_REPLY_IDS]
    assert MAX_MESSAGE_SIZE - 100 < sum(map(len, ids_reply(NAMED, most))) < MAX_MESSAGE_SIZE + 10
    with pytest.raises(InvalidArgument, match="limit"):
        ids_reply(NAMED, [*most, (bytes(32),)])


RESULTS = st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.binary() | st.text() | st.lists(st.binary())


@given(st.integers(0, 2**64 - 1) | st.binary(max_size=40), RESULTS)
def test_a_reply_is_what_msgpack_makes_of_it_in_the_old_format(msgid: int | bytes, result: object) -> None:
    named, old = (Call(packed(msgid), "x", {}, named=named) for named in (True, False))
    assert result_reply(named, result) == (packed({"i": msgid, "r": result}),)
    assert result_reply(old, result) == (packed((1, msgid, None, result)),)
    if result is None:
        assert (nil_reply(named),) == result_reply(named, result)
        assert (nil_reply(old),) == result_reply(old, result)


def test_the_longest_reply_without_a_result_is_that_to_the_highest_number() -> None:
    assert len(nil_reply(Call(packed(2**32 - 1), "put", {}, named=True))) == MAX_NIL_REPLY


def test_nothing_is_packed_in_the_types_that_old_clients_refuse() -> None:
    assert pack(bytes(40))[:1] == b"\xda"
    assert pack("x" * 40)[:1] == b"\xda"


# --- calls as values


def test_calls_are_equal_if_all_of_them_is() -> None:
    call = Call(b"\x01", "get", {"id": b"x"}, named=True)
    assert call == Call(b"\x01", "get", {"id": b"x"}, named=True)
    assert call != Call(b"\x02", "get", {"id": b"x"}, named=True)
    assert call != Call(b"\x01", "put", {"id": b"x"}, named=True)
    assert call != Call(b"\x01", "get", {"id": b"y"}, named=True)
    assert call != Call(b"\x01", "get", {"id": b"x"}, named=False)
    assert call != "get"
    assert repr(call) == "Call(b'\\x01', 'get', {'id': b'x'}, named=True)"
