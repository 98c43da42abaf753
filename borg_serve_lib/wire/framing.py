"""Where one msgpack object ends, found without decoding it. Source: spec, rpc.md sections 1 and 1.2."""

from __future__ import annotations

from struct import Struct

from ..buffers import Buffer
from ..errors import ProtocolError
from ..limits import MAX_COLLECTION_LENGTH, MAX_MESSAGE_SIZE, MAX_NESTING

_U8, _U16, _U32 = Struct(">B"), Struct(">H"), Struct(">I")

_SCALARS = {
    0xC0: 0, 0xC2: 0, 0xC3: 0,  # nil, false, true
    0xCA: 4, 0xCB: 8,  # floats
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,  # integers
}  # fmt: skip
"""First byte -> bytes that follow."""

_STRINGS = {0xC4: _U8, 0xC5: _U16, 0xC6: _U32, 0xD9: _U8, 0xDA: _U16, 0xDB: _U32}
"""First byte -> the length that follows it, before as many bytes."""

_COLLECTIONS = {0xDC: (_U16, 1), 0xDD: (_U32, 1), 0xDE: (_U16, 2), 0xDF: (_U32, 2)}
"""First byte -> the length that follows it, and the objects per item."""


class Incomplete(Exception):
    """The object goes on beyond what is there. `needed`: bytes, from its beginning, to get any further."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


def measure(data: Buffer, start: int, end: int) -> int:
    """Return where the object that begins at `start` ends. `end`: of the bytes that are there.

    Raises Incomplete; ProtocolError for what is no msgpack and for what is longer, wider or deeper than any request.
    """
    position = start
    open_collections = [1]  # objects still to come, per level
    while open_collections:
        if not open_collections[-1]:
            open_collections.pop()
            continue
        open_collections[-1] -= 1
        position, inside = _step(data, position, start, end)
        if inside:
            if len(open_collections) > MAX_NESTING:
                raise ProtocolError(f"a request is nested more than {MAX_NESTING} deep")
            open_collections.append(inside)
    return position


def _step(data: Buffer, position: int, start: int, end: int) -> tuple[int, int]:  # noqa: PLR0911 - one per form
    """Return where the head (and string) at `position` ends, and how many objects it announces."""
    _demand(position + 1, start, end)
    first = data[position]
    position += 1
    if first <= 0x7F or first >= 0xE0:
        return position, 0
    if first <= 0x8F:
        return position, 2 * (first & 0x0F)
    if first <= 0x9F:
        return position, first & 0x0F
    if first <= 0xBF:
        return _demand(position + (first & 0x1F), start, end), 0
    if first in _SCALARS:
        return _demand(position + _SCALARS[first], start, end), 0
    if first in _STRINGS:
        position, length = _length(_STRINGS[first], data, position, start, end)
        return _demand(position + length, start, end), 0
    if first in _COLLECTIONS:
        form, objects = _COLLECTIONS[first]
        position, length = _length(form, data, position, start, end)
        if length > MAX_COLLECTION_LENGTH:
            raise ProtocolError(f"a request has a collection of more than {MAX_COLLECTION_LENGTH} items")
        return position, objects * length
    raise ProtocolError(f"byte {first:#04x} begins no part of a request")


def _length(form: Struct, data: Buffer, position: int, start: int, end: int) -> tuple[int, int]:
    after = _demand(position + form.size, start, end)
    return after, form.unpack_from(data, position)[0]


def _demand(position: int, start: int, end: int) -> int:
    if position - start > MAX_MESSAGE_SIZE:
        raise ProtocolError(f"a request is longer than {MAX_MESSAGE_SIZE} bytes")
    if position > end:
        raise Incomplete(position - start)
    return position
