"""A client that dies while the server works for it: the work is given up, the lock is free, nothing is lost."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.serving import Requests
from borg_serve_lib.storage.places import FilesystemProvider
from tests.engine.native import NativeEngine
from tests.engine.scenarios import CREATING, make_segments_small, session
from tests.engine.support import identity

OBJECTS = 6000
PROMPTLY = 5.0  # seconds; it looks twice a second


def test_a_compaction_nobody_waits_for_is_given_up(clients: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "repository"
    session(FilesystemProvider(), CREATING, path=str(path)).close()
    make_segments_small(FilesystemProvider().open(str(path)))
    repository = session(FilesystemProvider(), path=str(path))
    for number in range(OBJECTS):
        repository.put(identity(number), bytes(500))
    repository.commit(compact=False)
    repository.close()
    segments = len(list(path.glob("data/*/*")))

    with Requests(tmp_path / "requests", path) as requests:
        for number in range(0, OBJECTS, 2):
            requests.call("delete", id=identity(number))
        requests.commit(compact=True)
    process = subprocess.Popen(
        shlex.split(f"{shlex.quote(sys.executable)} -m borg_serve_lib"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write((tmp_path / "requests").read_bytes())
    process.stdin.flush()
    newest = str(segments + 100)
    while not any(file.name == newest for file in path.glob("data/*/*")):  # compaction is well under way
        assert process.poll() is None
        time.sleep(0.02)
    process.stdin.close()
    process.stdout.close()
    begun = time.monotonic()
    assert process.wait(60) == 2
    assert time.monotonic() - begun < PROMPTLY
    assert not list(path.glob("lock*"))
    assert len(list(path.glob("data/*/*"))) > segments // 2  # it was not at its end

    native = NativeEngine(clients["1.4.5"], tmp_path / "base")
    content, sound = native.perform(path, ("content",), ("check", False)).sound()
    native.close()
    assert set(content) == {identity(number).hex() for number in range(1, OBJECTS, 2)}
    assert sound
    repository = session(FilesystemProvider(), path=str(path))
    repository.put(identity(0), b"again")
    repository.commit(compact=True, threshold=0.0)
    assert repository.check()
    assert len(repository) == OBJECTS // 2 + 1
    repository.close()
