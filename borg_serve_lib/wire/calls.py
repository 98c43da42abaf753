"""Requests and replies as values and as bytes, in both formats.

Clients 1.0 speak the positional format, 1.1 to 1.4 the named one after a positional negotiation; the format belongs
to each call and its reply. Source: spec, rpc.md sections 1.1, 1.3 and 1.5.
"""

from __future__ import annotations

from ..buffers import Buffer
from ..errors import InvalidArgument, ProtocolError, UnexpectedRPCDataFormat
from ..limits import MAX_ARGUMENT_NAME, MAX_METHOD_NAME, MAX_REPLY_IDS, MAX_TEXT_MSGID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

POSITIONAL: dict[str, tuple[str, ...]] = {
    "negotiate": ("client_data",),
    "open": ("path", "create", "lock_wait", "lock", "exclusive", "append_only"),
    "check": ("repair", "save_space"),
    "commit": ("save_space",),
    "list": ("limit", "marker"),
    "get": ("id",),
    "put": ("id", "data"),
    "delete": ("id",),
    "save_key": ("keydata",),
    "get_free_nonce": (),
    "commit_nonce_reservation": ("next_unreserved", "start_nonce"),
    "rollback": (),
    "destroy": (),
    "__len__": (),
    "load_key": (),
    "break_lock": (),
}
"""Method -> argument names in positional order (spec: rpc.md section 1.5). A method not here has no positional form."""

_SHORT_OPEN = 4
"""Values in the `open` of clients 1.0.0 to 1.0.6; five are an error (spec: rpc.md section 1.5)."""


class Call:
    """One request.

    `msgid`: the packed message id, to be echoed as it came. `arguments`: by name; None where the method cannot be
    called with these values by position. `named`: the format of the reply. `values`: those of the arguments that the
    method takes, in its order, where the shape of the request tells that they are what they should be; else None.
    """

    __slots__ = ("arguments", "method", "msgid", "named", "values")

    def __init__(
        self,
        msgid: bytes,
        method: str,
        arguments: dict[str, Any] | None,
        *,
        named: bool,
        values: tuple[Any, ...] | None = None,
    ) -> None:
        self.msgid = msgid
        self.method = method
        self.arguments = arguments
        self.named = named
        self.values = values

    def __repr__(self) -> str:
        return f"Call({self.msgid!r}, {self.method!r}, {self.arguments!r}, named={self.named})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and all(getattr(self, name) == getattr(other, name) for name in _COMPARED)

    __hash__ = None  # type: ignore[assignment]  # arguments are not hashable


_COMPARED = ("arguments", "method", "msgid", "named")


def call_from(request: object) -> Call:
    """Return the call that a decoded request stands for.

    Raises UnexpectedRPCDataFormat (neither a map nor an array of four), ProtocolError (a part has the wrong type).
    """
    if isinstance(request, dict):
        if b"i" not in request or b"m" not in request:
            raise ProtocolError("a request has no id or no method")
        arguments = request.get(b"a", {})
        if not isinstance(arguments, dict):
            raise ProtocolError("the arguments of a request are no map")
        return Call(_msgid(request[b"i"]), _method(request[b"m"]), _named(arguments), named=True)
    if isinstance(request, (list, tuple)) and len(request) == 4:
        _, msgid, method, values = request
        if not isinstance(values, (list, tuple)):
            raise ProtocolError("the arguments of a request are no array")
        name = _method(method)
        return Call(_msgid(msgid), name, _by_position(name, values), named=False)
    raise UnexpectedRPCDataFormat(_NEITHER)


_NEITHER = "the client sent something that is no request: this is a server for borg clients, not for people or shells"


def _msgid(value: object) -> bytes:
    if not isinstance(value, (int, bytes)) or isinstance(value, bool):
        raise ProtocolError("the id of a request is neither a number nor a text")
    if isinstance(value, bytes) and len(value) > MAX_TEXT_MSGID:
        raise ProtocolError(f"the id of a request has more than {MAX_TEXT_MSGID} bytes")
    return pack(value)


def _method(value: object) -> str:
    if not isinstance(value, bytes):
        raise ProtocolError("the method of a request is no text")
    if len(value) > MAX_METHOD_NAME:
        raise ProtocolError(f"the method of a request has a name of more than {MAX_METHOD_NAME} bytes")
    return value.decode("utf-8", "replace")


def _named(arguments: dict[Any, Any]) -> dict[str, Any]:
    if not all(isinstance(name, bytes) for name in arguments):
        raise ProtocolError("a name among the arguments of a request is no text")
    if any(len(name) > MAX_ARGUMENT_NAME for name in arguments):
        raise ProtocolError(f"an argument of a request has a name of more than {MAX_ARGUMENT_NAME} bytes")
    return {name.decode("utf-8", "replace"): value for name, value in arguments.items()}


def _by_position(method: str, values: list[Any] | tuple[Any, ...]) -> dict[str, Any] | None:
    names = POSITIONAL.get(method)
    if names is None or (method == "open" and _SHORT_OPEN < len(values) < len(names)):
        return None
    return dict(zip(names, values, strict=False))


# --- replies


Reply = tuple[Buffer, ...]
"""One reply as buffers to be sent one after the other; valid until the next call is handled."""


def pack(value: object) -> bytes:
    """Return `value` in the old msgpack format that clients 1.x read: text and bytes alike are raw."""
    import msgpack

    return msgpack.packb(value, use_bin_type=False)  # type: ignore[no-any-return]


_NAMED_HEAD = b"\x82\xa1i"
_RESULT = b"\xa1r"
_NIL_RESULT = _RESULT + b"\xc0"
_POSITIONAL_HEAD = b"\x94\x01"
_NIL = b"\xc0"
_ID_HEADER = b"\xda\x00\x20"


def nil_reply(call: Call) -> bytes:
    """Return the reply to a call that has no result."""
    if call.named:
        return _NAMED_HEAD + call.msgid + _NIL_RESULT
    return _POSITIONAL_HEAD + call.msgid + _NIL + _NIL


def data_reply(call: Call, data: Buffer) -> Reply:
    """Return the reply to a get."""
    return data_reply_head(call, len(data)), data


def data_reply_head(call: Call, size: int) -> bytes:
    """Return what stands before `size` bytes of object data in the reply to a get."""
    if call.named:
        return _NAMED_HEAD + call.msgid + _RESULT + raw_header(size)
    return _POSITIONAL_HEAD + call.msgid + _NIL + raw_header(size)


def ids_reply(call: Call, batches: Iterable[tuple[bytes, ...]]) -> Reply:
    """Return the reply that carries object ids as one list: as `result_reply`, in less time and room.

    Raises InvalidArgument when there are too many for a reply.
    """
    count = 0
    parts = []
    for batch in batches:
        if batch:
            count += len(batch)
            if count > MAX_REPLY_IDS:
                raise InvalidArgument(f"more than {MAX_REPLY_IDS} object ids are too many for one reply: use a limit")
            parts.append(_ID_HEADER + _ID_HEADER.join(batch))
    return (_result_head(call) + _array_header(count), *parts)


def result_reply(call: Call, result: object) -> Reply:
    """Return the reply that carries `result`: nil, a bool, an int, bytes, text, or lists and maps of them."""
    return (_result_head(call) + pack(result),)


def _result_head(call: Call) -> bytes:
    return _NAMED_HEAD + call.msgid + _RESULT if call.named else _POSITIONAL_HEAD + call.msgid + _NIL


def _array_header(length: int) -> bytes:
    if length < 16:
        return bytes((0x90 | length,))
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")


def raw_header(size: int) -> bytes:
    """Return the msgpack header of `size` raw bytes."""
    if size < 32:
        return bytes((0xA0 | size,))
    if size < 1 << 16:
        return b"\xda" + size.to_bytes(2, "big")
    return b"\xdb" + size.to_bytes(4, "big")
