from __future__ import annotations

import pytest

from borg_serve_lib.errors import InvalidArgument
from borg_serve_lib.locking.waiting import Deadline

from .support import World


@pytest.mark.parametrize(
    ("wait", "pauses"),
    [(1, [0.1] * 10), (0.05, [0.005] * 10), (0.5, [0.05] * 10), (1.9, [0.19] * 10), (3, [0.2] * 15)],
)
def test_waiting_looks_ten_times_but_at_least_every_fifth_of_a_second(wait: float, pauses: list[float]) -> None:
    world = World()
    deadline = Deadline(wait, world.clock, world.sleep)
    while not deadline.passed():
        deadline.pause()
    assert len(world.slept) <= len(pauses) + 1
    assert world.slept[: len(pauses)] == pytest.approx(pauses, rel=1e-3)
    assert world.now - 1000 == pytest.approx(wait, abs=0.002)


def test_no_wait_at_all_has_passed_at_once() -> None:
    world = World()
    assert Deadline(0, world.clock, world.sleep).passed()


def test_waiting_for_ever_never_passes() -> None:
    world = World()
    deadline = Deadline(None, world.clock, world.sleep)
    for _ in range(1000):
        assert not deadline.passed()
        deadline.pause()
    assert set(world.slept) == {0.2}


def test_a_pause_ends_with_the_deadline() -> None:
    world = World()
    deadline = Deadline(0.25, world.clock, world.sleep)
    deadline.pause(0.2)
    deadline.pause(0.2)
    assert world.slept == pytest.approx([0.2, 0.05])
    assert deadline.passed()


@pytest.mark.parametrize("wait", [-1, -0.001, float("nan")])
def test_a_negative_wait_is_refused(wait: float) -> None:
    world = World()
    with pytest.raises(InvalidArgument, match="must not be negative"):
        Deadline(wait, world.clock, world.sleep)


def test_who_waits_for_long_is_told_so_once() -> None:
    now, told = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    deadline = Deadline(5, lambda: now[0], sleep, waited_long=lambda: told.append(now[0]))
    assert not deadline.is_late
    while not deadline.passed():
        deadline.pause()
    assert deadline.is_late
    assert len(told) == 1
    assert 1 <= told[0] < 1.5
