"""One entry of a segment: PUT, DELETE or COMMIT. Source: spec, repository-format.md sections 4.1 to 4.3."""

from __future__ import annotations

from struct import Struct

from ..buffers import Buffer
from ..errors import IntegrityError, InvalidArgument
from ..limits import ID_SIZE, MAX_DATA_SIZE, MAX_ENTRY_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = [
    "CHECKED_HEADER",
    "COMMIT",
    "COMMIT_ENTRY",
    "COMMIT_SIZE",
    "CRC_SIZE",
    "DELETE",
    "DELETE_SIZE",
    "HEADER",
    "HEADER_SIZE",
    "PUT",
    "PUT_HEADER_SIZE",
    "check_entry_size",
    "crc32",
    "delete_entry",
    "place",
    "put_data",
    "put_head",
    "put_header",
]

PUT: Final = 0
DELETE: Final = 1
COMMIT: Final = 2

HEADER: Final = Struct("<IIB")
"""CRC-32 of all that follows it in the entry, size of the whole entry, tag."""

HEADER_SIZE: Final = 9
PUT_HEADER_SIZE: Final = 41
DELETE_SIZE: Final = 41
COMMIT_SIZE: Final = 9
COMMIT_ENTRY: Final = bytes.fromhex("40f43c250900000002")

CRC_SIZE: Final = 4
_CRC: Final = Struct("<I")
CHECKED_HEADER: Final = Struct("<IB32s")
"""What the CRC covers besides the data: size, tag, object id."""


def put_header(object_id: bytes, data: Buffer) -> bytes:
    """Return the 41 bytes that stand before `data` in a PUT.

    Raises IntegrityError for more than MAX_DATA_SIZE, InvalidArgument for an id that has not 32 bytes.
    """
    _check_id(object_id)
    size = len(data)
    if size > MAX_DATA_SIZE:
        raise IntegrityError(f"More than allowed put data [{size} > {MAX_DATA_SIZE}]")
    checked = CHECKED_HEADER.pack(size + PUT_HEADER_SIZE, PUT, object_id)
    return _CRC.pack(crc32(data, crc32(checked))) + checked


def delete_entry(object_id: bytes) -> bytes:
    """Return a whole DELETE. Raises InvalidArgument for an id that has not 32 bytes."""
    _check_id(object_id)
    checked = CHECKED_HEADER.pack(DELETE_SIZE, DELETE, object_id)
    return _CRC.pack(crc32(checked)) + checked


def _check_id(object_id: bytes) -> None:
    # struct would fill up or cut off what does not fit, and the object would be another one's.
    if len(object_id) != ID_SIZE:
        raise InvalidArgument(f"an object id has {ID_SIZE} bytes, not {len(object_id)}")


def place(segment: int, offset: int) -> str:
    """Return how a finding names the place of an entry."""
    return f"[segment {segment}, offset {offset}]"


def check_entry_size(size: int, least: int, segment: int, offset: int) -> None:
    """Raise IntegrityError unless an entry can have this size."""
    if size > MAX_ENTRY_SIZE:
        raise IntegrityError(f"Invalid segment entry size {size} - too big {place(segment, offset)}")
    if size < least:
        raise IntegrityError(f"Invalid segment entry size {size} - too small {place(segment, offset)}")


def put_head(head: bytes, object_id: bytes, segment: int, offset: int) -> tuple[int, int]:
    """Return (CRC, size of the entry in bytes) of the PUT that begins with `head` (41 bytes or more).

    Raises IntegrityError when it is no PUT of this object. Source: spec, section 4.3, point read.
    """
    if len(head) < PUT_HEADER_SIZE:
        raise IntegrityError(
            f"Invalid segment entry header {place(segment, offset)}: "
            f"unpack requires a buffer of {PUT_HEADER_SIZE} bytes"
        )
    crc, size, tag = HEADER.unpack_from(head)
    if not PUT_HEADER_SIZE <= size <= MAX_ENTRY_SIZE:
        check_entry_size(size, PUT_HEADER_SIZE, segment, offset)
    if tag != PUT:
        raise IntegrityError(f"Invalid segment entry header, did not get acceptable tag {place(segment, offset)}")
    if head[HEADER_SIZE:PUT_HEADER_SIZE] != object_id:
        raise IntegrityError(f"Invalid segment entry header, is not for wanted id {place(segment, offset)}")
    return crc, size


def put_data(entry: bytes, crc: int, size: int, segment: int, offset: int) -> memoryview:
    """Return the data of the PUT at the beginning of `entry`, of which `put_head` says `crc` and `size`.

    Raises IntegrityError if it is cut short or its CRC is another one.
    """
    if len(entry) < size:
        expected, got = size - PUT_HEADER_SIZE, len(entry) - PUT_HEADER_SIZE
        raise IntegrityError(
            f"Segment entry data short read {place(segment, offset)}: expected {expected}, got {got} bytes"
        )
    view = memoryview(entry)
    if crc32(view[4:size]) != crc:
        raise IntegrityError(f"Segment entry checksum mismatch {place(segment, offset)}")
    return view[PUT_HEADER_SIZE:size]
