"""`borg-serve repo`: on repositories of real borg, sound and damaged."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from borg_serve_lib import FileLockManager, FilesystemProvider, OpenRequest, open_repository
from borg_serve_lib.engine.opening import HostRules
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.sinks.metrics import file_name
from tests.vectors_support import expected, unpack

TOOL = [sys.executable, "-m", "borg_serve_cli", "repo"]
INFO = {
    "path", "id", "append_only", "quota", "segments", "segment_bytes", "transaction", "objects", "used_bytes",
    "freeable_bytes", "transactions", "notes", "committed", "locks",
}  # fmt: skip


def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*TOOL, *map(str, words)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def asked(*words: str | Path, code: int = 0) -> dict[str, Any]:
    done = run(*words, "--json", code=code)
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def files(path: Path) -> dict[str, tuple[int, bytes]]:
    return {str(each): (each.stat().st_mtime_ns, each.read_bytes()) for each in path.rglob("*") if each.is_file()}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a manifest, an object, and an object that was replaced."""
    path = tmp_path / "laptop"
    request = OpenRequest(create=True, exclusive=True)
    with_it = open_repository(
        str(path), request, storages=FilesystemProvider(), locks=FileLockManager.of_this_machine()
    )
    with_it.put(MANIFEST_ID, b"manifest")
    for data in (bytes(100_000), b"other"):
        with_it.put(b"\x01" * 32, data)
        with_it.put(b"\x02" * 32, b"kept")
        with_it.commit(compact=False)
    with_it.close()
    return path


# --- info


def test_info_tells_what_is_there_and_writes_nothing(repository: Path) -> None:
    before = files(repository)
    told = asked("info", repository)
    assert files(repository) == before
    assert set(told) == INFO
    assert (told["objects"], told["append_only"], told["quota"], told["locks"], told["notes"]) == (3, False, 0, [], [])
    assert told["freeable_bytes"] > 100_000
    assert told["segment_bytes"] == sum(each.stat().st_size for each in repository.glob("data/*/*"))
    text = run("info", repository).stdout
    assert re.search(r"^objects: +3$", text, re.MULTILINE)
    assert re.search(r"^locks: +none$", text, re.MULTILINE)
    assert re.search(r"^last transaction: +\d+, 20\d\d-\d\d-\d\dT", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["append-only-1.4.5", "compacted-1.4.5"])
def test_info_agrees_with_what_real_borg_lists(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    told = asked("info", path)
    assert told["objects"] == expected(name)["open_list"]["objects"]
    assert told["append_only"] is name.startswith("append-only")
    assert bool(told["transactions"]) is told["append_only"]


def test_info_of_a_damaged_index_says_so_and_tells_the_rest(tmp_path: Path) -> None:
    path = unpack("corrupt-index", tmp_path)
    before = files(path)
    told = asked("info", path, code=1)
    assert files(path) == before
    assert told["objects"] is None
    assert told["segments"] > 0
    assert "makes it anew" in " ".join(told["notes"])
    assert "out of order:" in run("info", path, code=1).stdout


def test_info_tells_who_has_it_locked_and_does_not_wait(repository: Path) -> None:
    with FileLockManager.of_this_machine().exclusive(str(repository), wait=1):
        (owner,) = asked("info", repository)["locks"]
        assert (owner["mode"], owner["pid"], owner["verdict"]) == ("exclusive", os.getpid(), "alive")
        assert owner["since"].startswith("20")
        assert f"exclusive, process {os.getpid()} on" in run("info", repository).stdout


def test_info_works_where_nothing_may_be_written(repository: Path) -> None:
    for place in [*repository.rglob("*"), repository]:
        place.chmod(place.stat().st_mode & 0o555)
    try:
        assert asked("info", repository)["objects"] == 3
    finally:
        for place in [repository, *repository.rglob("*")]:
            place.chmod(place.stat().st_mode | 0o200)


@pytest.mark.parametrize(
    ("name", "objects", "hints"),
    [("missing-all-three", False, False), ("empty-index", False, False), ("missing-hints", True, False)],
)
def test_info_of_missing_caches_says_unknown_and_not_nothing(
    name: str, objects: bool, hints: bool, tmp_path: Path
) -> None:
    told = asked("info", unpack(name, tmp_path), code=1)
    for field, known in (("objects", objects), ("used_bytes", hints), ("freeable_bytes", hints)):
        assert (told[field] is not None) is known, field
    assert told["notes"]


def test_info_tells_the_transaction_that_a_server_would_prove(tmp_path: Path) -> None:
    told = asked("info", unpack("damaged-last-commit", tmp_path), code=1)
    assert (told["transaction"], told["objects"]) == (17, 10)
    assert len(told["notes"]) == 1
    assert "COMMIT of transaction 17 is damaged" in told["notes"][0]


# --- check


def test_check_of_a_sound_repository(repository: Path) -> None:
    told = asked("check", repository)
    assert told == {"path": str(repository), "outcome": "no problems found", "findings": [], "notes": []}
    assert "no problems found" in run("check", repository).stdout
    assert not list(repository.glob("lock*"))


def test_check_finds_damage_and_repairs_it(tmp_path: Path) -> None:
    path = unpack("corrupt-segment-crc", tmp_path)
    told = asked("check", path, code=1)
    assert told["outcome"] == "errors found"
    assert told["findings"]
    done = run("check", path, code=1)
    assert told["findings"][0] in done.stderr
    assert asked("check", "--repair", path, code=1)["outcome"] == "repaired"
    assert asked("check", path)["outcome"] == "no problems found"


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("corrupt-index", "Repository index missing or corrupted"),
        ("missing-all-three", "Replaying segments"),
        ("empty-index", "Replaying segments"),
        ("missing-hints", "hints.17"),
        ("corrupt-hints", "hints.17"),
    ],
)
def test_caches_that_were_lost_are_noted_although_they_are_made_anew(name: str, note: str, tmp_path: Path) -> None:
    told = asked("check", unpack(name, tmp_path / "1"), code=1)
    assert (told["outcome"], told["findings"]) == ("sound, with notes", [])
    assert note in " ".join(told["notes"])
    done = run("check", unpack(name, tmp_path / "2"), code=1)
    assert "sound, with notes" in done.stdout
    assert note in done.stderr


def test_a_check_may_be_done_in_parts(repository: Path) -> None:
    assert asked("check", "--max-duration", "1", repository)["outcome"] == "no problems found"


def test_a_lock_is_waited_for_and_its_holder_named(repository: Path) -> None:
    with FileLockManager.of_this_machine().shared(str(repository), wait=1):
        begun = time.monotonic()
        done = run("check", "--lock-wait", "0", repository, code=2)
        assert time.monotonic() - begun < 10
    assert f"process {os.getpid()} on" in done.stderr


def test_on_a_terminal_a_bar_shows_how_far_it_is(repository: Path) -> None:
    terminal, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(terminal, False)
    done = subprocess.run(
        [*TOOL, "check", str(repository)], stderr=other, stdout=subprocess.PIPE, timeout=60, check=True
    )
    shown = os.read(terminal, 65536)
    os.close(terminal)
    os.close(other)
    assert b"%|" in shown
    assert b"no problems found" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_gives_the_lock_back(number: signal.Signals, repository: Path) -> None:
    program = (
        "import signal, sys, time, borg_serve_cli\n"
        "from borg_serve_lib import Repository\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started all in the background\n"
        "Repository.check = lambda *_, **__: (print('checking', flush=True), time.sleep(60))\n"
        "sys.argv = ['borg-serve', 'repo', 'check', sys.argv[1]]\n"
        "sys.exit(borg_serve_cli.main())\n"
    )
    words = [sys.executable, "-c", program, str(repository)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as checking:
        assert checking.stdout is not None
        assert checking.stdout.readline() == "checking\n"
        assert (repository / "lock.exclusive").exists()
        checking.send_signal(number)
        said = checking.communicate(timeout=20)[1]
    assert (checking.returncode, said) == (130, "borg-serve: interrupted; the lock was given back\n")
    assert not list(repository.glob("lock*"))


@pytest.mark.parametrize("tool", ["check", "compact"])
def test_what_a_tool_does_is_recorded_as_what_a_server_does(tool: str, tmp_path: Path) -> None:
    path = unpack("corrupt-segment-crc", tmp_path)
    records = ["--audit-log", tmp_path / "log", "--metrics-dir", tmp_path]
    assert asked(tool, *records, path, code=int(tool == "check"))["notes"] == []
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {(record["client"], bool(record["session"])) for record in told} == {(f"borg-serve repo {tool}", True)}
    events = [record["event"] for record in told]
    assert events[0] == "repository-opened"
    figures = (tmp_path / file_name(str(path))).read_text()
    if tool == "check":
        assert events[-1] == "check-finished-with-errors"
        assert f'borg_serve_last_check_sound{{repository="{path}"}} 0.0' in figures
    else:
        assert {"compaction-finished", "transaction-committed"} <= set(events)
        assert "borg_serve_used_bytes" in figures
        assert "borg_serve_last_commit_timestamp_seconds" not in figures  # it is no backup


def test_a_record_that_cannot_be_kept_is_a_note(repository: Path, tmp_path: Path) -> None:
    told = asked("check", "--audit-log", tmp_path, repository, code=1)
    assert told["notes"] == [f"the audit log '{tmp_path}' cannot be written: Is a directory"]


# --- compact


def test_compact_frees_what_was_replaced(repository: Path, clients: dict[str, Path]) -> None:
    told = asked("compact", repository)
    assert told["freed"] > 99_000
    assert asked("compact", repository)["freed"] < 1000
    assert "freed:" in run("compact", "--threshold", "50", "--cleanup-commits", repository).stdout
    assert asked("info", repository)["objects"] == 3
    checked = subprocess.run(
        [clients["1.4.5"], "check", "--repository-only", repository],
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(repository.parent), "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"},
    )
    assert checked.returncode == 0, checked.stderr


def test_where_nothing_can_be_freed_nothing_is_written(repository: Path) -> None:
    asked("compact", repository)
    before = files(repository)
    assert asked("compact", repository) == {"path": str(repository), "freed": 0, "findings": [], "notes": []}
    assert files(repository) == before


def test_a_segment_that_is_too_damaged_to_compact_is_a_finding_and_the_rest_is_done(repository: Path) -> None:
    with_it = open_repository(
        str(repository),
        OpenRequest(exclusive=True),
        storages=FilesystemProvider(),
        locks=FileLockManager.of_this_machine(),
    )
    with_it.put(b"\x03" * 32, bytes(50_000))
    with_it.commit(compact=False)
    with_it.delete(b"\x03" * 32)
    with_it.commit(compact=False)
    with_it.close()
    largest = max(repository.glob("data/*/*"), key=lambda file: file.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[60_000] ^= 1
    largest.write_bytes(damaged)
    told = asked("compact", repository, code=1)
    assert told["freed"] > 40_000
    assert told["findings"] == [
        f"segment {largest.name} is damaged and cannot be compacted; please run borg check --repair"
    ]
    done = run("compact", repository, code=1)
    assert "is damaged and cannot be compacted" in done.stderr
    assert re.search(r"^freed: +0 B$", done.stdout, re.MULTILINE)  # and not less than nothing


def test_what_is_append_only_is_not_compacted(tmp_path: Path) -> None:
    path = unpack("append-only-1.4.5", tmp_path)
    before = files(path / "data")
    assert "is append-only: nothing may be freed there" in run("compact", path, code=2).stderr
    assert files(path / "data") == before


def test_a_repository_that_was_never_used_is_not_compacted(tmp_path: Path) -> None:
    request = OpenRequest(create=True, exclusive=True)
    locks = FileLockManager.of_this_machine()
    open_repository(
        str(tmp_path / "new"), request, storages=FilesystemProvider(), locks=locks, rules=HostRules()
    ).close()
    assert "has no manifest" in run("compact", tmp_path / "new", code=2).stderr
    assert asked("info", tmp_path / "new")["objects"] == 0


# --- what cannot be done


@pytest.mark.parametrize("tool", ["info", "check", "compact"])
def test_what_is_no_repository_gets_one_line(tool: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "missing", tmp_path / "file", tmp_path):
        said = run(tool, place, code=2).stderr
        assert said.startswith("borg-serve: ")
        assert said.count("\n") == 1
        assert str(place) in said
        assert str(place) in asked(tool, place, code=2)["error"]


@pytest.mark.parametrize(
    "words", [[], ["frobnicate"], ["check"], ["check", "--lock-wait", "x", "y"], ["compact", "--threshold", "100", "y"]]
)
def test_a_command_line_that_cannot_be_understood_says_how_it_should_be(words: list[str]) -> None:
    assert "usage: borg-serve repo" in run(*words, code=2).stderr


def test_help_lists_the_tools() -> None:
    for tool in ("info", "check", "compact"):
        assert tool in run("--help").stdout
        assert "PATH" in run(tool, "--help").stdout


def test_serving_loads_nothing_of_the_tools() -> None:
    program = "import sys, borg_serve_cli; print(sorted({'argparse', 'borg_serve_tools'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
