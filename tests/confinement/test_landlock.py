"""Landlock, tried in processes of its own: what a process gives up it cannot have back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from borg_serve_lib.confinement import landlock
from borg_serve_lib.confinement.base import Allowance
from borg_serve_lib.confinement.landlock import Landlock
from borg_serve_lib.errors import ConfinementImpossible

from .support import AVAILABLE

CONFINED = """
import os, socket, sys, threading
from borg_serve_lib.confinement.base import Allowance
from borg_serve_lib.confinement.landlock import Landlock
from borg_serve_lib.errors import ConfinementImpossible
from borg_serve_lib.locking.judge import KernelProcesses
inside, outside = sys.argv[1:3]
already = os.open(outside + "/file", os.O_RDONLY)
try:
    Landlock().confine([Allowance(path, mode == "w") for mode, path in (word.split(":", 1) for word in sys.argv[3:])])
except ConfinementImpossible as error:
    sys.exit("impossible: " + error.detail)
def outcome(action):
    try:
        action()
    except OSError as error:
        return error.strerror
    return "done"
def tell(name, action):
    print(name + ": " + outcome(action))
tell("read inside", lambda: open(inside + "/file").read())
tell("write inside", lambda: open(inside + "/file", "w").write("x"))
tell("make inside", lambda: os.mkdir(inside + "/made"))
tell("move inside", lambda: os.rename(inside + "/made", inside + "/moved"))
tell("remove inside", lambda: os.rmdir(inside + "/moved"))
tell("link inside", lambda: os.link(inside + "/file", inside + "/linked"))
tell("symlink inside", lambda: os.symlink(outside, inside + "/symlink"))
tell("read outside", lambda: open(outside + "/file").read())
tell("list outside", lambda: os.listdir(outside))
tell("write outside", lambda: open(outside + "/file", "a"))
tell("truncate outside", lambda: os.truncate(outside + "/file", 0))
tell("make outside", lambda: os.mkdir(outside + "/made"))
tell("remove outside", lambda: os.unlink(outside + "/file"))
tell("move outside", lambda: os.rename(inside + "/file", outside + "/stolen"))
tell("through a link", lambda: open(inside + "/way out/file").read())
tell("execute", lambda: os.execv("/bin/true", ["true"]))
tell("what is open already", lambda: os.read(already, 10))
thread = threading.Thread(target=tell, args=("read outside in a thread", lambda: open(outside + "/file")))
thread.start()
thread.join()
tell("connect", lambda: socket.create_connection(("127.0.0.1", 9)))
tell("look at the status", lambda: os.stat(outside + "/file"))
tell("change the mode", lambda: os.chmod(outside + "/file", 0o640))
tell("change the owner", lambda: os.chown(outside + "/file", os.getuid(), os.getgid()))
tell("change the times", lambda: os.utime(outside + "/file", (1, 1)))
tell("send a datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))
tell("reach an abstract socket", lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + outside))
tell("signal another process", lambda: os.kill(os.getppid(), 0))
print("is another process alive: " + str(KernelProcesses().alive(os.getppid())))
print("is one that never was: " + str(KernelProcesses().alive(2**30)))
"""


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place in (inside, outside):
        place.mkdir()
        (place / "file").write_text("content")
    (inside / "way out").symlink_to(outside)
    return inside, outside


def landlock_version() -> int:
    return landlock._version(landlock._system_call()[0])


def confined(places: tuple[Path, Path], *allowances: str) -> dict[str, str]:
    """Return what a process could do that was confined to `allowances` (`r:PATH`, `w:PATH`)."""
    command = [sys.executable, "-c", CONFINED, *map(str, places), *allowances]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{places[1]}")
        listener.listen()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not AVAILABLE:
        assert done.stderr.startswith("impossible: this kernel has no Landlock")
        pytest.xfail("this kernel has no Landlock, and that is what the server says")
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


NOT_COVERED = ["look at the status", "change the mode", "change the owner", "change the times", "send a datagram"]
"""Things that docs/security.md says are still possible."""

INSIDE = ["read inside", "write inside", "make inside", "move inside", "remove inside", "link inside"]


def test_a_writable_tree_can_be_worked_in_and_nothing_outside_can_be_opened(places: tuple[Path, Path]) -> None:
    could = confined(places, f"w:{places[0]}", "r:/usr")
    assert [could.pop(name) for name in INSIDE] == ["done"] * len(INSIDE)
    assert could.pop("what is open already") == "done"
    assert [could.pop(name) for name in NOT_COVERED] == ["done"] * len(NOT_COVERED)
    reached = [could.pop("reach an abstract socket"), could.pop("signal another process")]
    if landlock_version() >= 6:
        assert reached == ["Operation not permitted"] * 2
    # Whether a lock's owner lives is known all the same.
    assert (could.pop("is another process alive"), could.pop("is one that never was")) == ("True", "False")
    assert "done" not in could.values(), could
    assert (places[1] / "file").read_text() == "content"
    assert sorted(os.listdir(places[1])) == ["file"]


def test_a_readable_tree_can_be_read_alone(places: tuple[Path, Path]) -> None:
    could = confined(places, f"r:{places[0]}", "r:/usr")
    assert could["read inside"] == "done"
    assert "done" not in [could[name] for name in INSIDE[1:]]
    assert sorted(os.listdir(places[0])) == ["file", "way out"]
    assert could["symlink inside"] == "Permission denied"


def test_a_single_file_can_be_allowed_and_what_does_not_exist_allows_nothing(places: tuple[Path, Path]) -> None:
    inside, outside = places
    could = confined(places, f"w:{inside / 'file'}", f"w:{outside / 'nothing'}", "r:/usr")
    assert could["read inside"] == could["write inside"] == "done"
    assert could["make inside"] == could["read outside"] == could["make outside"] == "Permission denied"


# --- kernels of all ages, played by a table


class Kernel:
    """Answers the system calls as a kernel of some version would; notes what was asked of it."""

    def __init__(self, version: int, fails: int | None = None) -> None:
        self.version = version
        self.fails = fails
        self.asked: list[tuple[int, tuple[object, ...]]] = []

    def call(self, number: int, *arguments: object) -> int:
        self.asked.append((number, arguments))
        if number == self.fails and arguments[0] is not None:
            return -1
        if number == 444:
            return self.version if arguments[0] is None else os.open(os.devnull, os.O_RDONLY)
        return 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> type[Kernel]:
    """Nothing is confined in here: the kernel is played."""
    monkeypatch.setattr(landlock, "_give_up_new_privileges", lambda: 0)
    return Kernel


def played(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Landlock:
    monkeypatch.setattr(landlock, "_system_call", lambda: (kernel.call, lambda: 1))
    return Landlock()


@pytest.mark.parametrize(
    ("version", "given_up"),
    [
        (1, (0x1FFF,)),
        (2, (0x3FFF,)),
        (3, (0x7FFF,)),
        (4, (0x7FFF, 3)),
        (5, (0xFFFF, 3)),
        (6, (0xFFFF, 3, 3)),
        (7, (0xFFFF, 3, 3)),
        (99, (0xFFFF, 3, 3)),
    ],
)
def test_all_that_a_kernel_knows_is_given_up(
    version: int, given_up: tuple[int, ...], tmp_path: Path, machine: type[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = machine(version)
    played(kernel, monkeypatch).confine([Allowance(str(tmp_path), writable=True)])
    attributes = b"".join(right.to_bytes(8, sys.byteorder) for right in given_up)
    assert kernel.asked[1] == (444, (attributes, len(attributes), 0))
    number, (_, kind, rule, _) = kernel.asked[2]
    assert isinstance(rule, bytes)
    assert (number, kind, len(rule)) == (445, 1, 12)
    assert int.from_bytes(rule[:8], sys.byteorder) & ~given_up[0] == 0
    assert kernel.asked[3][0] == 446


@pytest.mark.parametrize("version", [0, -1])
def test_a_kernel_without_it_is_named(version: int, machine: type[Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfinementImpossible, match="no Landlock"):
        played(machine(version), monkeypatch).confine([])


@pytest.mark.parametrize(("number", "name"), [(444, "create_ruleset"), (445, "add_rule"), (446, "restrict_self")])
def test_a_call_that_fails_is_named_and_no_descriptor_stays_open(
    number: int, name: str, tmp_path: Path, machine: type[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ConfinementImpossible, match=f"{name} failed: Operation not permitted"):
        played(machine(7, fails=number), monkeypatch).confine([Allowance(str(tmp_path), writable=False)])
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_other_systems_have_no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfinementImpossible, match="only Linux"):
        Landlock().confine([])
