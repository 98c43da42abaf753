"""CRC-32 of any range of a file at a price that does not grow with the range."""

from __future__ import annotations

from array import array

from .entry import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeAlias

    from .segment import Source

    _Shift: TypeAlias = tuple[list[int], list[int], list[int], list[int]]

STEP: Final = 4096
"""Bytes from one remembered CRC to the next: memory is 4 bytes for each."""

_STEPS_PER_READ: Final = 256
_BLOCKS_KEPT: Final = 16


class RangeCrcs:
    """The CRCs of all ranges of one file.

    CRC-32 is linear: what a range's CRC is follows from the CRCs of the two beginnings of the file that end where the
    range starts and ends, the first one moved on by as many zero bytes as the range is long. Beginnings are gone
    through once, as far as they are asked for; moving on costs the logarithm of the distance.

    `step`: bytes.
    """

    def __init__(self, source: Source, step: int = STEP) -> None:
        self._source = source
        self._step = step
        self._marks = array("I", [0])
        self._blocks: dict[int, bytes] = {}
        self._zeros = bytes(step)
        self._shifts = [_tabulated([_moved_on(1 << bit, self._zeros) for bit in range(32)])]

    def crc(self, start: int, end: int) -> int:
        """Return the CRC-32 of the bytes from `start` up to `end`, which is not beyond the file's end."""
        return self._beginning(end) ^ self._moved_on(self._beginning(start), end - start)

    def _beginning(self, end: int) -> int:
        step, rest = divmod(end, self._step)
        while len(self._marks) <= step:
            self._add_marks()
        return crc32(memoryview(self._block(step))[:rest], self._marks[step])

    def _add_marks(self) -> None:
        position = (len(self._marks) - 1) * self._step
        length = self._step * _STEPS_PER_READ
        crc = self._marks[-1]
        with memoryview(self._source.read_at(position, length)) as piece:
            # One mark for each step even where the file ends early, so that asking for the end always ends.
            for at in range(0, length, self._step):
                crc = crc32(piece[at : at + self._step], crc)
                self._marks.append(crc)

    def _block(self, step: int) -> bytes:
        block = self._blocks.get(step)
        if block is None:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            block = self._blocks[step] = self._source.read_at(step * self._step, self._step)
        return block

    def _moved_on(self, crc: int, count: int) -> int:
        steps, rest = divmod(count, self._step)
        crc = _moved_on(crc, self._zeros[:rest])
        power = 0
        while steps:
            if steps & 1:
                crc = _apply(self._shift(power), crc)
            steps >>= 1
            power += 1
        return crc

    def _shift(self, power: int) -> _Shift:
        """Return what moves a CRC on by 2**power steps."""
        while len(self._shifts) <= power:
            last = self._shifts[-1]
            self._shifts.append(_tabulated([_apply(last, _apply(last, 1 << bit)) for bit in range(32)]))
        return self._shifts[power]


def _moved_on(crc: int, zeros: bytes) -> int:
    """Return the part that `crc` has in the CRC of something followed by these zero bytes."""
    return crc32(zeros, crc) ^ crc32(zeros)


def _tabulated(images: list[int]) -> _Shift:
    """Return a linear map, given by the images of the 32 bits, as a table for each byte of its argument."""
    tables = []
    for first in range(0, 32, 8):
        table = [0]
        for image in images[first : first + 8]:
            table += [value ^ image for value in table]
        tables.append(table)
    return tables[0], tables[1], tables[2], tables[3]


def _apply(shift: _Shift, crc: int) -> int:
    lowest, low, high, highest = shift
    return lowest[crc & 255] ^ low[crc >> 8 & 255] ^ high[crc >> 16 & 255] ^ highest[crc >> 24]
