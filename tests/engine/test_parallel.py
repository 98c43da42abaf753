from __future__ import annotations

import threading

import pytest

from borg_serve_lib.engine.parallel import in_order, usable_cores


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_results_come_in_the_order_of_the_items(threads: int, count: int) -> None:
    assert list(in_order(lambda item: item * 2, range(count), threads)) == [(item, item * 2) for item in range(count)]


def test_work_is_done_at_the_same_time() -> None:
    met = threading.Barrier(3, timeout=30)
    assert len(list(in_order(lambda _: met.wait(), range(3), 3))) == 3


def test_no_more_is_begun_than_there_are_threads_and_one() -> None:
    begun: list[int] = []
    results = in_order(begun.append, range(20), 2)
    next(results)
    next(results)
    results.close()
    assert len(begun) <= 5


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_at_its_turn(threads: int) -> None:
    def divide(item: int) -> float:
        return 6 / (2 - item)

    results = in_order(divide, range(10), threads)
    assert [next(results), next(results)] == [(0, 3.0), (1, 6.0)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_thread_that_cannot_be_started_is_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(MemoryError):
        list(in_order(str, range(3), 2))


def test_there_is_at_least_one_core_to_use() -> None:
    assert 1 <= usable_cores() <= 8
