"""The life of a repository, told by real clients: each command once through the server, once natively, in turns."""

from __future__ import annotations

import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from .sample_data import change_folder, describe_folder
from .stage import Stage

VERSIONS = ("1.1.18", "1.2.4", "1.4.5")
ENCRYPTIONS = ("none", "repokey", "keyfile")

# Who begins, and how the server is started. Between the two lives every writing command goes both ways.
LIVES = {"by remote path, server first": (False, 0), "by forced command, native first": (True, 1)}

# Each client with each encryption, each client and each encryption with both lives: half of all combinations.
TOLD = [
    (version, encryption, list(LIVES)[(number + place) % 2])
    for number, version in enumerate(VERSIONS)
    for place, encryption in enumerate(ENCRYPTIONS)
]


@pytest.mark.parametrize(("version", "encryption", "life"), TOLD)
def test_a_client_lives_through_everything_and_native_borg_finds_nothing_wrong(
    tmp_path: Path, clients: dict[str, Path], folder: Path, version: str, encryption: str, life: str
) -> None:
    forced, turn = LIVES[life]
    stage = Stage(tmp_path, clients[version], forced=forced)
    Life(stage, folder, version, encryption, turn).run()


class Life:
    """One repository from `init` to `delete`."""

    def __init__(self, stage: Stage, folder: Path, version: str, encryption: str, turn: int) -> None:
        self.stage = stage
        self.folder = folder
        self.version = version
        self.encryption = encryption
        self.turn = turn

    def write(self, *arguments: str, code: int = 0) -> None:
        """Run a writing command through the server or natively, in turns; native borg then checks the result."""
        runner: Callable[..., object] = self.stage.native if self.turn % 2 else self.stage.remote
        self.turn += 1
        runner(*arguments, code=code, cwd=self.folder)
        self.stage.assert_sound()

    def run(self) -> None:
        self.begin()
        self.look()
        self.tidy()
        self.damage_and_repair()
        if self.encryption != "none":
            self.change_keys()
        self.rework()
        self.locks()
        self.end()

    def begin(self) -> None:
        self.write("init", "--encryption", self.encryption, "REPO")
        self.write("create", "--timestamp", "2024-01-01T00:00:00", "REPO::monday", ".")
        self.monday = describe_folder(self.folder)
        change_folder(self.folder, 1)
        self.write("create", "--timestamp", "2024-01-02T00:00:00", "--compression", "zlib", "REPO::tuesday", ".")
        self.tuesday = describe_folder(self.folder)

    def look(self) -> None:
        listed = self.stage.read("list", "--short", "REPO")
        assert listed.out == b"monday\ntuesday\n"
        self.stage.read("list", "REPO::monday")
        self.stage.read("info", "--json", "REPO")
        self.stage.read("info", "--json", "REPO::tuesday")
        assert b"scratch-1.tmp" in self.stage.read("diff", "--sort", "REPO::monday", "tuesday").out
        assert self.extracted("monday") == self.monday
        assert self.extracted("tuesday") == self.tuesday

    def extracted(self, archive: str) -> dict[str, tuple[object, ...]]:
        target = self.stage.root / "restored"
        target.mkdir()
        try:
            self.stage.remote("extract", f"REPO::{archive}", cwd=target)
            return describe_folder(target)
        finally:
            shutil.rmtree(target)

    def tidy(self) -> None:
        self.write("rename", "REPO::monday", "first")
        change_folder(self.folder, 2)
        self.write("create", "--timestamp", "2024-01-03T00:00:00", "REPO::wednesday", ".")
        self.write("delete", "REPO::first")
        change_folder(self.folder, 3)
        self.write("create", "--timestamp", "2024-01-04T00:00:00", "REPO::thursday", ".")
        self.thursday = describe_folder(self.folder)
        self.write("prune", "--keep-last", "2", "REPO")
        assert self.stage.read("list", "--short", "REPO").out == b"wednesday\nthursday\n"
        if self.version != "1.1.18":  # 1.1 compacts at each commit
            self.write("compact", "--threshold", "0", "REPO")
        self.stage.remote("check", "REPO")
        result = self.stage.remote("check", "--verbose", "--verify-data", "REPO")
        assert "0 integrity errors" in result.err
        assert self.extracted("thursday") == self.thursday

    def damage_and_repair(self) -> None:
        spoil_a_segment(self.stage.repository)
        ours = self.stage.remote("check", "REPO", code=1)
        theirs = self.stage.native("check", "REPO", code=1)
        assert damage_reports(ours.err) == damage_reports(theirs.err) != []
        # The repair of native borg, done on a copy of everything, says what ours must come to.
        copy = self.stage.root / "copy"
        shutil.copytree(self.stage.repository, copy / "repo", symlinks=True)
        shutil.copytree(self.stage.home, copy / "client", symlinks=True)
        elsewhere = {"HOME": str(copy / "client"), "BORG_BASE_DIR": str(copy / "client")}
        self.stage.native("check", "--repair", str(copy / "repo"), env=elsewhere)
        expected = self.stage.native("export-tar", f"{copy / 'repo'}::thursday", "-", env=elsewhere).out
        shutil.rmtree(copy)
        self.stage.remote("check", "--repair", "REPO")
        self.stage.assert_sound()
        assert self.stage.remote("export-tar", "REPO::thursday", "-").out == expected
        assert tar_members(expected) != {}
        self.write("create", "REPO::after repair", ".")
        assert self.extracted("after repair") == describe_folder(self.folder)
        self.write("check", "--repair", "REPO")  # the objects are back: older archives are healed
        assert self.extracted("thursday") == self.thursday

    def change_keys(self) -> None:
        exported = [self.stage.root / "key by server", self.stage.root / "key natively"]
        self.stage.remote("key", "export", "REPO", str(exported[0]))
        self.stage.native("key", "export", "REPO", str(exported[1]))
        assert exported[0].read_bytes() == exported[1].read_bytes()
        for number in range(2):  # the second time it is the other one's turn
            new = f"passphrase number {number}"
            runner = self.stage.native if self.turn % 2 else self.stage.remote
            self.turn += 1
            runner("key", "change-passphrase", "REPO", env={"BORG_NEW_PASSPHRASE": new})
            self.stage.passphrase = new
            self.stage.assert_sound()
        self.stage.read("list", "--short", "REPO")

    def rework(self) -> None:
        self.stage.native("config", "REPO", "additional_free_space", "20M")
        self.write("create", "REPO::after config", ".")
        self.write("recreate", "--exclude", "*.tmp", "--recompress", "always", "--compression", "lz4", "REPO")
        assert self.stage.native("config", "REPO", "additional_free_space").out == b"20M\n"
        assert b".tmp" not in self.stage.read("list", "--short", "REPO::after config").out
        exported = self.stage.read("export-tar", "REPO::after config", "-").out
        wanted = {name for name in describe_folder(self.folder) if not name.endswith(".tmp")}
        assert {name.removeprefix("./") for name in tar_members(exported)} - {"."} == wanted

    def locks(self) -> None:
        shown = self.stage.remote("with-lock", "REPO", "ls", str(self.stage.repository / "lock.exclusive"))
        assert len(shown.out.splitlines()) == 1
        lock = self.stage.repository / "lock.exclusive"
        lock.mkdir()
        (lock / "elsewhere@123456789.4321-0").touch()
        refused = self.stage.remote("list", "REPO", code=2)
        assert "Failed to create/acquire the lock" in refused.err
        self.stage.remote("break-lock", "REPO")
        assert not lock.exists()
        self.stage.read("list", "REPO")

    def end(self) -> None:
        self.stage.remote("delete", "REPO")
        assert not self.stage.repository.exists()


def spoil_a_segment(repository: Path) -> None:
    """Invert one byte in each of the two largest objects of the largest segment."""
    segment = max(repository.glob("data/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    for offset, size in sorted(put_entries(content), key=lambda entry: entry[1])[-2:]:
        content[offset + size // 2] ^= 0xFF
    segment.write_bytes(content)


def put_entries(segment: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and size of each PUT entry (CRC, size and tag in front; the tag is 0)."""
    offset = len(b"BORG_SEG")
    while offset < len(segment):
        _crc, size, tag = struct.unpack_from("<IIB", segment, offset)
        if tag == 0:
            yield offset, size
        offset += size


def damage_reports(log: str) -> list[str]:
    """Return the lines about damaged segments, whoever wrote them.

    Others may be lost on their way: a client reads no more of the server's log than there is when the reply comes.
    """
    return [line.removeprefix("Remote: ") for line in log.splitlines() if "Data integrity error" in line]


def tar_members(content: bytes) -> dict[str, int]:
    with tarfile.open(fileobj=BytesIO(content)) as archive:
        return {member.name: member.size for member in archive}
