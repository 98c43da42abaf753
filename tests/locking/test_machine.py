from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from borg_serve_lib.locking import machine


def test_the_boot_id_is_the_kernels() -> None:
    assert machine.kernel_boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip() != ""


def test_a_process_knows_when_it_was_started() -> None:
    code = "from borg_serve_lib.locking.machine import process_start; print(process_start())"
    before = time.time()
    started = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
    assert before - 1 < started < time.time() + 1
    assert machine.process_start() < before


def test_where_the_system_does_not_tell_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    assert machine.kernel_boot_id() == ""
    assert machine.process_start() == 0.0


def test_the_disks_of_this_machine_are_local_and_what_is_not_known_is_not() -> None:
    assert machine.is_local_disk("/dev/shm")
    assert not machine.is_local_disk("/proc")
    assert not machine.is_local_disk("/nowhere at all")


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert not machine.is_local_disk("/dev/shm")
