"""The fuzz targets themselves: sound inputs, small changes of them, and whatever a fuzzer once found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .seeds import SEEDS
from .targets import TARGETS

CASES = sorted((Path(__file__).parent / "cases").glob("*/*"))


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_pass(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_each_single_bit_of_a_sound_input_may_flip(name: str) -> None:
    for seed in SEEDS[name]:
        positions = range(0, len(seed), max(1, len(seed) // 300))
        for position in positions:
            data = bytearray(seed)
            data[position] ^= 1 << position % 8
            TARGETS[name](bytes(data))
            TARGETS[name](seed[:position])


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_may_come(name: str) -> None:
    @settings(max_examples=60, database=None)
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_stays_mended(case: Path) -> None:
    TARGETS[case.parent.name](case.read_bytes())
