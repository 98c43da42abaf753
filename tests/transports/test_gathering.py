from __future__ import annotations

import pytest

from borg_serve_lib.transports.gathering import NAP, TRY_AFTER, Gathering

PIPE_SIZE = 1 << 20
SMALL_READ = PIPE_SIZE // 16


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def gathering(naps: list[float]) -> Gathering:
    return Gathering(PIPE_SIZE, naps.append)


def test_calls_that_come_together_are_let_gather(gathering: Gathering, naps: list[float]) -> None:
    gathering.served(2, 500)
    gathering.served(30, SMALL_READ - 1)
    assert naps == [NAP, NAP]


def test_one_that_waits_for_each_reply_waits_for_a_nap_at_few_calls_only(
    gathering: Gathering, naps: list[float]
) -> None:
    for _ in range(TRY_AFTER - 1):
        gathering.served(1, 500)
    assert naps == []
    gathering.served(1, 500)
    gathering.served(1, 500)
    assert naps == [NAP]


@pytest.mark.parametrize(("calls", "nbytes"), [(0, 500), (30, SMALL_READ), (1, SMALL_READ), (0, 0)])
def test_nothing_is_held_up_after_results_and_large_reads(
    calls: int, nbytes: int, gathering: Gathering, naps: list[float]
) -> None:
    for _ in range(2 * TRY_AFTER):
        gathering.served(calls, nbytes)
    assert naps == []


def test_in_a_small_pipe_nothing_is_let_gather_that_would_fill_it(naps: list[float]) -> None:
    gathering = Gathering(8 << 10, naps.append)
    gathering.served(2, 600)
    assert naps == []
