from __future__ import annotations

import os

import pytest

from borg_serve_lib.locking.identity import Holder, Identity
from borg_serve_lib.locking.judge import BorgRules, KernelProcesses
from borg_serve_lib.locking.owner import Verdict

from .support import FakeProcesses, dead_pid


def test_the_kernel_says_that_we_live_and_an_ended_process_does_not() -> None:
    assert KernelProcesses().alive(os.getpid())
    assert not KernelProcesses().alive(dead_pid())


def test_a_process_of_somebody_else_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, signal: int) -> None:
        assert (pid, signal) == (1, 0)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", kill)
    assert KernelProcesses().alive(1)


@pytest.mark.parametrize("pid", [0, -1, -12345])
def test_a_number_that_names_a_process_group_is_never_signalled(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("signalled"))
    assert KernelProcesses().alive(pid)


def test_a_number_no_process_can_have_is_not_taken_for_dead() -> None:
    assert KernelProcesses().alive(10**30)


@pytest.mark.parametrize(
    ("holder", "dead"),
    [
        (Holder("here@1", 66, 0), True),
        (Holder("here@1", 67, 0), False),
        (Holder("there@1", 66, 0), False),
        (Holder("here", 66, 0), False),
        (Holder("here@1", 66, 1), False),
    ],
)
def test_only_a_gone_process_of_this_host_with_thread_zero_is_dead(holder: Holder, dead: bool) -> None:
    assert BorgRules(Identity("here@1"), FakeProcesses(66)).judge(holder) is (Verdict.DEAD if dead else Verdict.UNKNOWN)
