"""CRCs of ranges, against zlib."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.format.rangecrc import RangeCrcs
from tests.format.sources import Bytes

BYTES = bytes(number * number % 251 for number in range(3000))


@given(st.data(), st.sampled_from([1, 7, 16, 64, 4096]))
def test_the_crc_of_any_range_is_zlibs(data: st.DataObject, step: int) -> None:
    crcs = RangeCrcs(Bytes(BYTES), step)
    for _ in range(4):
        start = data.draw(st.integers(0, len(BYTES)))
        end = data.draw(st.integers(start, len(BYTES)))
        assert crcs.crc(start, end) == zlib.crc32(BYTES[start:end])


def test_ranges_of_megabytes_are_right_too() -> None:
    content = BYTES * 1500
    crcs = RangeCrcs(Bytes(content))
    for start, end in [(0, len(content)), (1, len(content) - 1), (4096, 4_194_304), (2_500_000, 2_500_001), (9, 9)]:
        assert crcs.crc(start, end) == zlib.crc32(content[start:end])


def test_the_file_is_read_once_but_for_the_edges_of_the_ranges() -> None:
    source = Bytes(BYTES * 20)
    crcs = RangeCrcs(source, 64)
    for start in range(2000):
        crcs.crc(start, start + 50_000)
    assert source.bytes_read < 2 * source.size


def test_nothing_is_read_before_it_is_needed() -> None:
    source = Bytes(BYTES * 20)
    RangeCrcs(source, 16).crc(3, 500)
    assert source.bytes_read < 5000


@pytest.mark.parametrize("end", [3000, 3001, 5000])
def test_a_file_that_became_shorter_gives_some_crc_and_an_end(end: int) -> None:
    assert RangeCrcs(Bytes(BYTES[:2000]), 16).crc(0, end) != zlib.crc32(BYTES[:end])
