"""The sound entries of a damaged segment. Source: spec, repository-format.md section 17.3."""

from __future__ import annotations

import re

from ..limits import MAX_ENTRY_SIZE
from .entry import COMMIT, COMMIT_SIZE, HEADER, HEADER_SIZE, PUT_HEADER_SIZE, crc32
from .rangecrc import STEP, RangeCrcs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from .segment import Source

_SMALLEST_FILE: Final = 17
"""Bytes of a magic and a COMMIT: in less than that, repair looks for nothing."""

_LAST_SIZE_BYTE: Final = 7
"""Where the search pattern matches within an entry."""

HEAD: Final = re.compile(
    rb"[\x00\x01](?=[\x00-\x02])"  # the size's highest byte, then the tag
    rb"(?<=[\x09-\xff]\x00{3}|[\x00-\xff][\x01-\xff]\x00\x00|[\x00-\xff]{2}[\x01-\xff]\x00"
    rb"|[\x00-\xff]{2}[\x00-\x3f]\x01|\x00\x00\x40\x01)"
)
"""What a head looks like: a size from 9 to 20 MiB and a known tag. It keeps the loop below away from nearly all
bytes."""


def sound_entries(source: Source, *, window: int, step: int = STEP) -> Iterator[memoryview]:
    """Yield the sound entries, whole and in order; see `segment.salvage`.

    `window`: bytes read at once, more than `step`. An entry of up to `step` bytes is sound if its CRC says so. The CRC
    of a larger one is asked for first where it costs little, as damaged or hostile bytes can claim a large entry at
    every position; only what passes is read, and what was read is what is checked and handed out.
    """
    file_size = source.size
    if file_size < _SMALLEST_FILE:
        return
    crcs = RangeCrcs(source, step)
    begin, block = 0, b""
    offset = 0
    while file_size - offset >= HEADER_SIZE:
        index = offset - begin
        if len(block) - index < HEADER_SIZE:
            begin, block, index = offset, source.read_at(offset, max(window, HEADER_SIZE)), 0
            if len(block) < HEADER_SIZE:
                return
        head = HEAD.search(block, index + _LAST_SIZE_BYTE)
        if head is None:
            offset = begin + len(block) - HEADER_SIZE + 1
            continue
        index = head.start() - _LAST_SIZE_BYTE
        offset = begin + index
        crc, size, tag = HEADER.unpack_from(block, index)
        sound = _plausible(tag, size, file_size - offset) and (
            size <= step or crcs.crc(offset + 4, offset + size) == crc
        )
        if sound:
            if len(block) - index < size:
                begin, block, index = offset, source.read_at(offset, max(window, size)), 0
            entry = memoryview(block)[index : index + size]
            # A failing disk may have given other bytes this time.
            sound = len(entry) == size and HEADER.unpack_from(entry) == (crc32(entry[4:]), size, tag)
            if sound:
                yield entry
        offset += size if sound else 1


def _plausible(tag: int, size: int, remaining: int) -> bool:
    if size > remaining or size > MAX_ENTRY_SIZE:
        return False
    return (tag < COMMIT and size >= PUT_HEADER_SIZE) or (tag == COMMIT and size == COMMIT_SIZE)
