"""What a session loads before it has answered `open`: a server is started for each command of each client."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgpack

from borg_serve_lib import MemoryLockManager, OpenRequest, Reporter, open_repository
from borg_serve_lib.engine.opening import HostRules
from borg_serve_lib.storage.places import FilesystemProvider

# Measured as a whole they cost more than all that a session needs; docs/performance.md has the figures.
TOO_DEAR = {"argparse", "asyncio", "attr", "dataclasses", "inspect", "json", "logging", "portalocker", "typing"}


def loaded_modules(requests: bytes) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "borg_serve_lib"], input=requests, capture_output=True, check=True
    )
    return {match[1] for match in re.finditer(r"^import time:.*\|\s*(\S+)$", done.stderr.decode(), re.MULTILINE)}


def test_nothing_dear_is_loaded_to_answer_negotiate_and_open(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    open_repository(
        str(path),
        OpenRequest(create=True),
        storages=FilesystemProvider(),
        locks=MemoryLockManager(),
        rules=HostRules(),
        reporter=Reporter(),
    ).close()
    negotiate = (1, 1, "negotiate", [{"client_version": [1, 4, 5, -1]}])
    opening = {"i": 2, "m": "open", "a": {"path": str(path), "lock_wait": 1, "exclusive": True}}
    modules = loaded_modules(b"".join(msgpack.packb(call, use_bin_type=False) for call in (negotiate, opening)))
    assert "borg_serve_lib.engine.repository" in modules
    assert not TOO_DEAR & modules
