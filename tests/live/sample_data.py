"""A folder worth backing up: a few hundred files from nothing to some MB, and how to compare two such folders."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

NOT_COMPRESSIBLE = 2_500_000
WORDS = ["segment", "entry", "transaction", "manifest", "compaction", "quota", "roster", "hints"]


def make_folder(root: Path) -> None:
    """Fill `root`, which must not exist, with the same content every time."""
    chance = random.Random(1)
    for number in range(280):
        path = root / f"group{number % 7}" / f"file {number:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_text(chance, chance.choice([0, 1, 41, 300, 5_000, 20_000])))
    special = root / "special"
    special.mkdir()
    (special / "empty").touch()
    (special / "empty folder").mkdir()
    (special / "größe-ü-名前").write_text("a name beyond ASCII\n")
    (special / os.fsdecode(b"not-utf8-\xff")).write_text("a name that is no text\n")
    (special / "symlink").symlink_to("empty")
    (special / "dangling").symlink_to("nowhere/at all")
    (special / "hard1").write_text("one inode, two names\n")
    os.link(special / "hard1", special / "hard2")
    (special / "private").write_text("secret\n")
    (special / "private").chmod(0o600)
    big = root / "big"
    big.mkdir()
    (big / "noise.bin").write_bytes(chance.randbytes(NOT_COMPRESSIBLE))
    (big / "zeros.bin").write_bytes(bytes(3_000_000))
    (big / "text.log").write_bytes(_text(chance, 1_200_000))
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(1_700_000_000_000_000_000 + number,) * 2, follow_symlinks=False)


def change_folder(root: Path, turn: int) -> None:
    """Make the changes of one more day: some files altered, some new, some gone."""
    chance = random.Random(1000 + turn)
    for number in range(turn, 280, 20):
        path = root / f"group{number % 7}" / f"file {number:03}.txt"
        path.write_bytes(_text(chance, 700 + number))
    (root / f"group{turn % 7}" / f"file {turn + 50:03}.txt").unlink(missing_ok=True)
    (root / "special" / f"new in turn {turn}").write_bytes(chance.randbytes(200_000))
    (root / f"scratch-{turn}.tmp").write_bytes(chance.randbytes(30_000))


def describe_folder(root: Path) -> dict[str, tuple[object, ...]]:
    """Return what a restore must bring back: per relative path the kind, mode, time, owner and content."""
    return {os.fsdecode(os.path.relpath(path, root)): _describe(path) for path in sorted(root.rglob("*"))}


def _describe(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    common = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if stat.S_ISLNK(status.st_mode):
        return (*common, os.readlink(path))
    if stat.S_ISREG(status.st_mode):
        return (*common, status.st_mtime_ns, status.st_nlink, path.read_bytes())
    return common


def _text(chance: random.Random, size: int) -> bytes:
    words = " ".join(chance.choice(WORDS) for _ in range(size // 5 + 1))
    return f"{chance.random()} {words}".encode()[:size]
