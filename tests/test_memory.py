"""What a server needs beyond its start does not grow with the repository (benchmarks/memory.py: at 2 GB, too)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from benchmarks.memory import make, measure
from benchmarks.serving import Requests, object_ids, serve

SIZE = 192 << 20
MOST = 64 << 20

OBJECTS = 150_000
FOR_ONE = 350
FOR_ONE_LATER = 150


def test_check_repair_replay_and_compaction_take_little_more_memory_than_nothing(tmp_path: Path) -> None:
    peaks = measure(f"{shlex.quote(sys.executable)} -m borg_serve_lib", SIZE, 1_500_000, tmp_path)
    assert set(peaks) == {"idle", "check", "replay", "repair", "compact half"}
    assert {name: peak for name, peak in peaks.items() if peak > peaks["idle"] + MOST} == {}


def test_a_transaction_that_deletes_takes_little_for_each_object(tmp_path: Path) -> None:
    """A million take 195 MB, four million, whose tables are in files, 107. Of so few, the first 65,536 are in dicts, at
    380 bytes each.
    """
    server, repository, requests = (
        f"{shlex.quote(sys.executable)} -m borg_serve_lib",
        tmp_path / "r",
        tmp_path / "calls",
    )
    make(server, repository, requests, OBJECTS, 1)
    with Requests(requests, repository) as session:
        session.call("__len__")
    idle = serve(server, requests).memory
    with Requests(requests, repository) as session:
        for object_id in object_ids(OBJECTS):
            session.call("delete", id=object_id)
        session.commit()
    assert serve(server, requests).memory < idle + FOR_ONE * OBJECTS
    with Requests(requests, repository) as session:
        session.call("put", id=bytes(32), data=b"")
        session.commit()
    assert serve(server, requests).memory < idle + FOR_ONE_LATER * OBJECTS
