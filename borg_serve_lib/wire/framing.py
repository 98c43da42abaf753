"""Where one msgpack object ends, found without decoding it. Source: spec, rpc.md sections 1 and 1.2."""

from __future__ import annotations

from struct import Struct

from ..buffers import Buffer
from ..errors import ProtocolError
from ..limits import MAX_COLLECTION_LENGTH, MAX_MESSAGE_OBJECTS, MAX_MESSAGE_SIZE, MAX_NESTING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Head: TypeAlias = tuple[Struct | None, int, int]

_U8, _U16, _U32 = Struct(">B"), Struct(">H"), Struct(">I")


def _heads() -> dict[int, Head]:
    """First byte -> the form of the length behind it, and the bytes and the objects that follow: per unit of that
    length, or in all where there is none. Extension types are missing: no client has any.
    """
    heads: dict[int, Head] = {}
    for number in (*range(0x80), *range(0xE0, 0x100), 0xC0, 0xC2, 0xC3):
        heads[number] = (None, 0, 0)  # a small integer, nil, a bool
    for length in range(0x10):
        heads[0x80 | length] = (None, 0, 2 * length)
        heads[0x90 | length] = (None, 0, length)
    for length in range(0x20):
        heads[0xA0 | length] = (None, length, 0)
    for first, size in zip(range(0xCA, 0xD4), (4, 8, 1, 2, 4, 8, 1, 2, 4, 8), strict=True):
        heads[first] = (None, size, 0)  # a float, an unsigned or a signed integer
    for first, form in zip((0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB), (_U8, _U16, _U32) * 2, strict=True):
        heads[first] = (form, 1, 0)
    heads |= {0xDC: (_U16, 0, 1), 0xDD: (_U32, 0, 1), 0xDE: (_U16, 0, 2), 0xDF: (_U32, 0, 2)}
    return heads


_HEADS = _heads()


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
    objects = 0
    missing = [1]  # objects still to come, per level
    while missing:
        if not missing[-1]:
            missing.pop()
            continue
        missing[-1] -= 1
        objects += 1
        if objects > MAX_MESSAGE_OBJECTS:
            raise ProtocolError(f"a request has more than {MAX_MESSAGE_OBJECTS} parts")
        position, inside = _step(data, position, start, end)
        if inside:
            if len(missing) > MAX_NESTING:
                raise ProtocolError(f"a request is nested more than {MAX_NESTING} deep")
            missing.append(inside)
    return position


def _step(data: Buffer, position: int, start: int, end: int) -> tuple[int, int]:
    """Return where the head (and string) at `position` ends, and how many objects it announces."""
    body = _demand(position + 1, start, end)
    head = _HEADS.get(data[position])
    if head is None:
        raise ProtocolError(f"byte {data[position]:#04x} begins no part of a request")
    form, size, objects = head
    if form is not None:
        length = form.unpack_from(data, _demand(body + form.size, start, end) - form.size)[0]
        body, size, objects = body + form.size, size * length, objects * length
        if objects and length > MAX_COLLECTION_LENGTH:
            raise ProtocolError(f"a request has a collection of more than {MAX_COLLECTION_LENGTH} items")
    return _demand(body + size, start, end), objects


def _demand(position: int, start: int, end: int) -> int:
    """Return `position` if the bytes up to it are there."""
    if position - start > MAX_MESSAGE_SIZE:
        raise ProtocolError(f"a request is longer than {MAX_MESSAGE_SIZE} bytes")
    if position > end:
        raise Incomplete(position - start)
    return position
