"""Requests out of a stream of bytes: the receive buffer, and the frequent frames recognised by their shape.

Source: spec, rpc.md sections 1 and 1.2; the shapes are what clients 1.1 to 1.4 send (section 8).
"""

from __future__ import annotations

import re

from ..errors import ProtocolError
from ..limits import MAX_COLLECTION_LENGTH, MAX_KEPT_BUFFER, MAX_MESSAGE_SIZE
from .calls import Call, call_from
from .framing import Incomplete, measure

_INITIAL_CAPACITY = 1 << 18
_NO_MEMORY = "the server has not enough memory for a request of this size"

_LEAST_ROOM = 1 << 16
"""Less room than this would make many small reads: what is pending is moved to the front first."""

# Integers are recognised in their shortest form only, the one in which their echo is packed.
_MSGID = rb"([\x00-\x7f]|\xcc[\x80-\xff]|\xcd[^\x00].|\xce(?!\x00\x00)....)"
_ID = rb"\xa2id\xda\x00\x20(.{32})"
_SHAPES = re.compile(
    rb"\x83\xa1i" + _MSGID + rb"\xa1m"
    rb"(?:\xa3get\xa1a\x81" + _ID + rb""
    rb"|\xa3put\xa1a([\x82\x83])" + _ID + rb"\xa4data(?:\xda(..)|\xdb(....)|([\xa0-\xbf]))"
    rb"|\xa6delete\xa1a\x81" + _ID + rb")",
    re.DOTALL,
)
_MSGID_GROUP, _GET_GROUP, _PUT_FIELDS_GROUP, _PUT_GROUP, _DELETE_GROUP = 1, 2, 3, 4, 8
_FIXSTR_GROUP = 7
_THREE_FIELDS = b"\x83"
_WAITS = {b"\xa4wait\xc3": True, b"\xa4wait\xc2": False}
_WAIT_SIZE = 6


class FrameReader:
    """Takes bytes as they come and hands out the calls in them, one at a time.

    Object data are handed out as views into the buffer: valid until the next call or more room is asked for.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_INITIAL_CAPACITY)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._needed = 1  # bytes the first request must have before it is worth looking at it

    # --- bytes in

    def get_buffer(self) -> memoryview:
        """Return room for the next bytes, never empty. Views handed out before are not valid any more.

        Raises ProtocolError if there is no memory for more: nothing can follow that.
        """
        pending = self._end - self._start
        # What a client only says it will send gets no more room than the largest chunk of a backup has.
        wanted = max(min(self._needed, max(MAX_KEPT_BUFFER, 4 * pending)), pending + 1)
        if wanted > len(self._buffer):
            self._allocate(max(wanted, min(2 * len(self._buffer), MAX_MESSAGE_SIZE)))
        elif len(self._buffer) > MAX_KEPT_BUFFER >= wanted:
            self._allocate(max(wanted, _INITIAL_CAPACITY))
        elif not pending:
            self._start = self._end = 0
        elif self._start and (self._start + wanted > len(self._buffer) or len(self._buffer) - self._end < _LEAST_ROOM):
            self._view[:pending] = self._view[self._start : self._end]
            self._start, self._end = 0, pending
        return self._view[self._end :]

    def _allocate(self, capacity: int) -> None:
        pending = self._view[self._start : self._end]
        try:
            buffer = bytearray(capacity)
        except MemoryError:
            raise ProtocolError(_NO_MEMORY) from None
        view = memoryview(buffer)
        view[: len(pending)] = pending
        self._start, self._end = 0, len(pending)
        self._buffer, self._view = buffer, view

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
            call = None if shape is None else self._shaped_call(shape)
            if call is None:
                call = self._other_call()
        except Incomplete as incomplete:
            self._needed = incomplete.needed
            return None
        self._needed = 1
        return call

    def _shaped_call(self, shape: re.Match[bytes]) -> Call | None:
        """Return the call of this shape, or None if it is not complete or goes on in another way than such calls do."""
        kind = shape.lastindex
        if kind == _GET_GROUP:
            object_id = shape[_GET_GROUP]
            call = Call(shape[_MSGID_GROUP], "get", {"id": object_id}, named=True, values=(object_id,))
        elif kind == _DELETE_GROUP:
            object_id = shape[_DELETE_GROUP]
            call = Call(shape[_MSGID_GROUP], "delete", {"id": object_id}, named=True, values=(object_id,))
        else:
            return self._put_call(shape)
        self._start = shape.end()
        return call

    def _put_call(self, shape: re.Match[bytes]) -> Call | None:
        length = shape[shape.lastindex]  # type: ignore[index]  # one of the three forms of a length has matched
        start = shape.end()
        end = start + (length[0] & 0x1F if shape.lastindex == _FIXSTR_GROUP else int.from_bytes(length, "big"))
        waits = shape[_PUT_FIELDS_GROUP] == _THREE_FIELDS
        after = end + _WAIT_SIZE if waits else end
        if after > self._end or after - self._start > MAX_MESSAGE_SIZE:
            return None
        values = shape[_PUT_GROUP], self._view[start:end]
        arguments: dict[str, object] = {"id": values[0], "data": values[1]}
        if waits:
            wait = _WAITS.get(bytes(self._view[end:after]))
            if wait is None:
                return None
            arguments["wait"] = wait
        self._start = after
        return Call(shape[_MSGID_GROUP], "put", arguments, named=True, values=values)

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
        except MemoryError:
            raise ProtocolError(_NO_MEMORY) from None
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
