"""Native borg and our server keep out of each other's way, with the lock files that both know."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .stage import Stage

REFUSED = "Failed to create/acquire the lock"
PATIENCE = 30  # seconds until something that must happen counts as hung
HOST_ID = {"BORG_HOST_ID": "proof@1"}  # one host, whatever its network looks like


@pytest.fixture(params=["1.1.18", "1.2.4", "1.4.5"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, clients: dict[str, Path]) -> Stage:
    """A repository with one archive."""
    stage = Stage(tmp_path, clients[request.param], forced=False, settings=HOST_ID)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content\n")
    stage.native("init", "--encryption", "none", "REPO")
    stage.native("create", "REPO::first", "folder")
    return stage


@contextmanager
def held(stage: Stage, *, remote: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Let a client hold the exclusive lock, through the server or natively."""
    taken, release = stage.root / "taken", stage.root / "release"
    script = f"touch '{taken}'; while ! test -e '{release}'; do sleep 0.05; done"
    holder = stage.start("with-lock", "REPO", "sh", "-c", script, remote=remote, env=HOST_ID)
    try:
        wait_until(taken.exists, holder)
        yield holder
    finally:
        release.touch()
        _, err = holder.communicate(timeout=PATIENCE)
    assert holder.returncode in (0, -signal.SIGKILL), err.decode(errors="replace")


def wait_until(condition: object, holder: subprocess.Popen[bytes] | None = None) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert holder is None or holder.poll() is None, holder.communicate()[1].decode(errors="replace")
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def test_a_lock_held_by_native_borg_stops_a_writer_of_ours(stage: Stage) -> None:
    with held(stage, remote=False):
        refused = stage.remote("--lock-wait", "1", "create", "REPO::second", "folder", code=2)
        assert REFUSED in refused.err
    stage.remote("create", "REPO::second", "folder")
    stage.assert_sound()


def test_a_lock_held_by_native_borg_stops_a_reader_of_ours(stage: Stage) -> None:
    with held(stage, remote=False):
        assert REFUSED in stage.remote("--lock-wait", "1", "list", "REPO", code=2).err
    assert stage.remote("list", "--short", "REPO").out == b"first\n"


def test_a_lock_held_by_ours_stops_native_borg(stage: Stage) -> None:
    with held(stage, remote=True):
        assert REFUSED in stage.native("--lock-wait", "1", "create", "REPO::second", "folder", code=2, env=HOST_ID).err
        assert REFUSED in stage.native("--lock-wait", "1", "list", "REPO", code=2, env=HOST_ID).err
    stage.native("create", "REPO::second", "folder")
    stage.assert_sound()


def test_ours_goes_on_as_soon_as_native_borg_lets_go(stage: Stage) -> None:
    with held(stage, remote=False) as holder:
        waiting = stage.start("--lock-wait", str(PATIENCE), "create", "REPO::second", "folder", remote=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1)
        assert holder.poll() is None
    _, err = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, err.decode(errors="replace")
    stage.assert_sound()


def test_native_borg_goes_on_as_soon_as_ours_lets_go(stage: Stage) -> None:
    with held(stage, remote=True):
        waiting = stage.start(
            "--lock-wait", str(PATIENCE), "create", "REPO::second", "folder", remote=False, env=HOST_ID
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1)
    _, err = waiting.communicate(timeout=PATIENCE)
    assert waiting.returncode == 0, err.decode(errors="replace")
    stage.assert_sound()


def test_the_lock_is_gone_when_the_client_was_killed(stage: Stage) -> None:
    lock = stage.repository / "lock.exclusive"
    with held(stage, remote=True) as holder:
        assert lock.exists()
        holder.kill()
        wait_until(lambda: not lock.exists())
    stage.native("create", "REPO::second", "folder")
    stage.assert_sound()


def test_native_borg_takes_over_the_lock_of_a_server_that_was_killed(stage: Stage) -> None:
    stage.remote("create", "REPO::second", "folder")
    with held(stage, remote=True) as holder:
        os.kill(server_pid(stage), signal.SIGKILL)
        holder.kill()
    assert (stage.repository / "lock.exclusive").exists()
    stage.native("create", "REPO::third", "folder", env=HOST_ID)
    stage.remote("list", "REPO")  # which removes the lease that native borg knows nothing of
    stage.assert_sound()


def test_ours_takes_over_the_lock_of_a_native_borg_that_was_killed(stage: Stage) -> None:
    with held(stage, remote=False) as holder:
        holder.kill()
        holder.wait()
    assert (stage.repository / "lock.exclusive").exists()
    stage.remote("create", "REPO::second", "folder")
    stage.assert_sound()


def test_a_confined_server_knows_whether_the_owner_of_a_lock_lives(tmp_path: Path, clients: dict[str, Path]) -> None:
    stage = Stage(tmp_path, clients["1.4.5"], forced=True)
    stage.remote("init", "--encryption", "none", "REPO")
    with held(stage, remote=True) as holder:
        refused = stage.remote("--lock-wait", "1", "list", "REPO", code=2)
        assert "alive: wait until it is done" in refused.err
        os.kill(server_pid(stage), signal.SIGKILL)
        holder.kill()
    assert (stage.repository / "lock.exclusive").exists()
    stage.remote("--lock-wait", "1", "list", "REPO")
    assert not list(stage.repository.glob("lock*"))


def server_pid(stage: Stage) -> int:
    """Return the process id in the name of the one exclusive lock: `HOST.PID-THREAD`."""
    (name,) = os.listdir(stage.repository / "lock.exclusive")
    return int(name.rpartition("-")[0].rpartition(".")[2])
