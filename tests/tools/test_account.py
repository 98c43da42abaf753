"""`borg-serve repo` as root: it works as the account that the repository belongs to."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import borg_serve_account
import pytest
from borg_serve_account import become_owner

import borg_serve_lib
from borg_serve_lib import FileLockManager, FilesystemProvider, OpenRequest, UsageError, open_repository
from borg_serve_lib.limits import MANIFEST_ID

OWNER = 65533
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")


class Steps:
    """The calls that change accounts, written down instead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, euid: int, uid: int, refuse: bool = False) -> None:
        self.taken: list[tuple[str, object]] = []
        monkeypatch.setattr(os, "geteuid", lambda: euid)
        monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_uid=uid, st_gid=7))
        monkeypatch.setattr(borg_serve_account, "_account", lambda uid, gid: ("borg", [gid, 8]))
        for name in ("setgroups", "setgid", "setuid"):
            monkeypatch.setattr(os, name, lambda value, name=name: self._take(name, value, refuse))

    def _take(self, name: str, value: object, refuse: bool) -> None:
        if refuse:
            raise PermissionError(1, "Operation not permitted")
        self.taken.append((name, value))


def test_root_becomes_the_owner_groups_first(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch, euid=0, uid=5)
    become_owner("/srv/laptop")
    assert steps.taken == [("setgroups", [7, 8]), ("setgid", 7), ("setuid", 5)]


@pytest.mark.parametrize(("euid", "uid"), [(5, 5), (5, 6), (0, 0)])
def test_nobody_else_becomes_anything_and_what_is_roots_stays_so(
    euid: int, uid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch, euid=euid, uid=uid)
    become_owner("/srv/laptop")
    assert steps.taken == []


def test_where_root_may_not_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Steps(monkeypatch, euid=0, uid=5, refuse=True)
    with pytest.raises(UsageError, match=r"/srv/laptop belongs to the account borg, .*runuser -u borg -- borg-serve"):
        become_owner("/srv/laptop")


def test_an_account_that_cannot_read_the_program_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    Steps(monkeypatch, euid=0, uid=5)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match=r"account borg, which cannot read .*; install borg-serve"):
        become_owner("/srv/laptop")


def interpreter_for_all() -> str | None:
    """Return a Python of this version that other accounts can start, with the same packages."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for program in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        words = [program, "-c", "import os; os.setuid(65533); import encodings.idna"]
        if Path(program).exists() and subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return program
    return None


@pytest.fixture
def repository() -> Iterator[Path]:
    """A repository of another account, where that can reach it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "laptop"
        request = OpenRequest(create=True, exclusive=True)
        with_it = open_repository(
            str(path), request, storages=FilesystemProvider(), locks=FileLockManager.of_this_machine()
        )
        with_it.put(MANIFEST_ID, b"manifest")
        with_it.put(b"\x01" * 32, bytes(100_000))
        with_it.commit(compact=False)
        with_it.delete(b"\x01" * 32)
        with_it.commit(compact=False)
        with_it.close()
        for each in [path, *path.rglob("*")]:
            os.chown(each, OWNER, OWNER)
            each.chmod(each.stat().st_mode & 0o700)
        yield path


@needs_root
@pytest.mark.parametrize("words", [["compact"], ["check"], ["check", "--repair"], ["info"]])
def test_root_leaves_nothing_of_its_own_in_a_repository(words: list[str], repository: Path) -> None:
    program = interpreter_for_all()
    if program is None:
        pytest.skip("other accounts cannot start this Python")
    sources = [Path(module.__file__ or "").parent for module in (borg_serve_account, borg_serve_lib)]
    packages = [str(sources[0]), str(sources[1].parent), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    done = subprocess.run(
        [program, "-m", "borg_serve_cli", "repo", *words, str(repository)],
        capture_output=True,
        text=True,
        check=False,
        umask=0o022,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(packages)},
    )
    assert done.returncode == 0, done.stderr
    for each in [repository, *repository.rglob("*")]:
        there = each.stat()
        assert (there.st_uid, there.st_gid) == (OWNER, OWNER), each
        assert there.st_mode & 0o077 == 0, (each, oct(there.st_mode))
