"""A connection's end, however it comes, through a real sshd: the server is gone and the lock free in time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .cutting import CASES
from .stage import TIMEOUT


@pytest.mark.parametrize("case", CASES)
def test_the_server_is_gone_and_the_next_backup_needs_no_break_lock(
    case: str, clients: dict[str, Path], tmp_path: Path
) -> None:
    privileged = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = [sys.executable, "-m", "tests.live.cutting", case, str(tmp_path), str(clients["1.4.5"])]
    done = subprocess.run(
        ["unshare", *privileged, "--net", *command], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{(tmp_path / 'ssh' / 'sshd.log').read_text()}"
