"""Requests out of a stream of bytes: the receive buffer, and the frequent frames recognised by their shape.

Source: spec, rpc.md sections 1 and 1.2; the shapes are what clients 1.1 to 1.4 send (section 8).
"""

from __future__ import annotations

import re

from ..errors import ProtocolError
from ..limits import MAX_COLLECTION_LENGTH, MAX_MESSAGE_SIZE
from .calls import Call, call_from
from .framing import Incomplete, measure

_INITIAL_CAPACITY = 1 << 18
_KEPT_CAPACITY = 1 << 22
"""A buffer grown beyond this for a large message is given back after it."""

_MSGID = rb"([\x00-\x7f]|\xcc.|\xcd..|\xce....)"
_ID = rb"\xa2id\xda\x00\x20(.{32})"
_SHAPES = re.compile(
    rb"\x83\xa1i" + _MSGID + rb"\xa1m"
    rb"(?:\xa3get\xa1a\x81" + _ID + rb"|\xa3put\xa1a\x82" + _ID + rb"\xa4data(?:\xda(..)|\xdb(....)|([\xa0-\xbf]))"
    rb"|\xa6delete\xa1a\x81" + _ID + rb")",
    re.DOTALL,
)
_MSGID_GROUP, _GET_GROUP, _PUT_GROUP, _DELETE_GROUP = 1, 2, 3, 7
_SIZE_GROUPS = (4, 5, 6)


class FrameReader:
    """Takes bytes as they come and hands out the calls in them, one at a time.

    Object data are handed out as views into the buffer: valid until the next call is asked for.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_INITIAL_CAPACITY)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._needed = 1  # bytes the first request must have before it is worth looking at it

    # --- bytes in

    def get_buffer(self) -> memoryview:
        """Return room for the next bytes, never empty. Views handed out before are not valid any more."""
        pending = self._end - self._start
        if not pending:
            self._start = self._end = 0
            if len(self._buffer) > _KEPT_CAPACITY:
                self._allocate(_INITIAL_CAPACITY)
        wanted = max(self._needed, pending + 1)
        if self._start + wanted > len(self._buffer) or self._end == len(self._buffer):
            if wanted > len(self._buffer):
                self._allocate(max(wanted, min(2 * len(self._buffer), MAX_MESSAGE_SIZE)))
            else:
                self._buffer[:pending] = self._view[self._start : self._end]
                self._start, self._end = 0, pending
        return self._view[self._end :]

    def _allocate(self, capacity: int) -> None:
        pending = self._view[self._start : self._end]
        buffer = bytearray(capacity)
        buffer[: len(pending)] = pending
        self._start, self._end = 0, len(pending)
        self._buffer, self._view = buffer, memoryview(buffer)

    def received(self, count: int) -> None:
        """`count` bytes were put into the room last returned."""
        self._end += count

    # --- calls out

    def next_call(self) -> Call | None:
        """Return the next call, None while it is not complete. Raises ProtocolError: nothing can follow that."""
        if self._end - self._start < self._needed:
            return None
        shape = _SHAPES.match(self._buffer, self._start, self._end)
        try:
            call = self._other_call() if shape is None else self._shaped_call(shape)
        except Incomplete as incomplete:
            self._needed = incomplete.needed
            return None
        self._needed = 1
        return call

    def _shaped_call(self, shape: re.Match[bytes]) -> Call:
        kind = shape.lastindex
        end = shape.end()
        msgid = shape[_MSGID_GROUP]
        if kind == _GET_GROUP:
            call = Call(msgid, "get", {"id": shape[_GET_GROUP]}, named=True)
        elif kind == _DELETE_GROUP:
            call = Call(msgid, "delete", {"id": shape[_DELETE_GROUP]}, named=True)
        else:
            start = end
            size = shape[kind]  # type: ignore[index]  # one of the size groups has matched
            end += size[0] & 0x1F if len(size) == 1 else int.from_bytes(size, "big")
            if end - self._start > MAX_MESSAGE_SIZE:
                raise ProtocolError(f"a request is longer than {MAX_MESSAGE_SIZE} bytes")
            if end > self._end:
                raise Incomplete(end - self._start)
            call = Call(msgid, "put", {"id": shape[_PUT_GROUP], "data": self._view[start:end]}, named=True)
        self._start = end
        return call

    def _other_call(self) -> Call:
        import msgpack

        end = measure(self._buffer, self._start, self._end)
        try:
            request = msgpack.unpackb(
                self._view[self._start : end],
                raw=True,
                strict_map_key=False,
                max_array_len=MAX_COLLECTION_LENGTH,
                max_map_len=MAX_COLLECTION_LENGTH,
            )
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise ProtocolError("the client sent something that is no request") from error
        self._start = end
        return call_from(request)

    # --- looking ahead

    def waiting_gets(self, most: int) -> list[bytes]:
        """Return the ids of the gets that follow each other at the beginning of the buffer, at most `most`."""
        ids: list[bytes] = []
        position = self._start
        while len(ids) < most:
            shape = _SHAPES.match(self._buffer, position, self._end)
            if shape is None or shape.lastindex != _GET_GROUP:
                break
            ids.append(shape[_GET_GROUP])
            position = shape.end()
        return ids

    @property
    def pending(self) -> int:
        """Bytes received and not yet handed out."""
        return self._end - self._start
