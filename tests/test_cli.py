"""The command, run as a process: what comes in by argv and environment, what goes out by status and streams."""

from __future__ import annotations

import json
import os
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import borg_serve_cli
import msgpack
import pytest

import borg_serve_lib
from benchmarks.serving import Requests, object_ids, serve
from borg_serve_lib import __version__
from borg_serve_lib.policy.options import render_help
from borg_serve_lib.sinks import hostlog

from .engine.support import opened

WITHOUT = ("SSH_ORIGINAL_COMMAND", "BORG_BASE_DIR", "BORG_HOST_ID", "BORG_EXIT_CODES")


def run(
    *argv: str, env: dict[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    return subprocess.run(
        [sys.executable, "-m", "borg_serve_lib", *argv],
        input=stdin,
        env=environment | (env or {}),
        cwd=cwd,
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_goes_to_stdout(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, render_help(), b"")


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_goes_to_stdout_with_the_version_that_clients_see(option: str) -> None:
    done = run(option)
    expected = f"borg-serve {__version__} (speaks as borg 1.4.5)\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--nosuch"], "option '--nosuch' is unknown; see --help"),
        (["list"], "'list' is no command of this server: it knows serve alone"),
        (["--umask=9"], "option --umask: '9' is no octal number; write permission bits such as 077 or 022"),
        (["ü"], "'ü' is no command of this server: it knows serve alone"),
        ([os.fsdecode(b"\xff")], "'\\udcff' is no command of this server: it knows serve alone"),
    ],
)
def test_a_bad_command_line_is_one_line_on_stderr_and_status_2(argv: list[str], sentence: str) -> None:
    done = run(*argv)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"borg-serve: {sentence}\n")


def test_a_bad_command_line_is_status_2_even_where_nobody_reads_why() -> None:
    script = 'exec "$1" -m borg_serve_lib --nosuch 2>&-'
    assert subprocess.run(["sh", "-c", script, "sh", sys.executable], check=False).returncode == 2


@pytest.mark.parametrize(
    "command",
    ["", "borg", "internal-sftp", "borg list", "borg serve extra", "borg --version", "borg serve --help", "'"],
)
def test_a_bad_command_of_the_client_is_one_line_on_stderr_and_status_2(command: str) -> None:
    done = run("--append-only", env={"SSH_ORIGINAL_COMMAND": command})
    assert (done.returncode, done.stdout) == (2, b"")
    text = done.stderr.decode()
    assert text.startswith(f"borg-serve: the client's command {command!r} is refused: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1


def test_a_bad_command_of_the_client_in_another_encoding_is_still_told_in_utf_8() -> None:
    done = run(env={"SSH_ORIGINAL_COMMAND": os.fsdecode(b"borg \xff serve"), "PYTHONUTF8": "0", "LC_ALL": "C"})
    assert done.returncode == 2
    assert "'borg \\udcff serve' is refused" in done.stderr.decode("utf-8")


# --- sessions ---------------------------------------------------------------------------------------------------------


def call(number: int, method: str, **arguments: object) -> bytes:
    return msgpack.packb({"i": number, "m": method, "a": arguments})


NEGOTIATE = call(1, "negotiate", client_data={"client_version": [1, 4, 5, -1]})


def open_call(number: int, path: str, *, create: bool = False) -> bytes:
    return call(
        number,
        "open",
        path=path,
        create=create,
        lock_wait=1,
        lock=True,
        exclusive=create,
        append_only=False,
        make_parent_dirs=False,
    )


def replies(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    unpacker = msgpack.Unpacker(raw=False, unicode_errors="surrogateescape", strict_map_key=False)
    unpacker.feed(done.stdout)
    return list(unpacker)


def error_of(reply: dict[str, Any]) -> tuple[str, list[Any]]:
    return reply["exception_class"], reply["exception_args"]


def test_a_session_is_answered_byte_by_byte_as_borg_does_and_ends_silently() -> None:
    done = run("serve", stdin=NEGOTIATE)
    assert done.stdout == msgpack.packb({"i": 1, "r": {"server_version": [1, 4, 5, -1]}})
    assert (done.returncode, done.stderr) == (0, b"")


def test_without_any_input_the_server_ends_well() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_script_of_the_package_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import borg_serve_cli, sys; sys.exit(borg_serve_cli.main())", "--version"],
        capture_output=True,
        check=True,
    )
    assert done.stdout == run("--version").stdout


@pytest.mark.parametrize(
    ("argv", "command", "directory", "file"),
    [
        ([], None, 0o700, 0o600),
        (["--umask=022"], None, 0o755, 0o644),
        (["--umask=027"], "borg serve --umask=000", 0o750, 0o640),
        ([], "borg serve --umask=022", 0o700, 0o600),
    ],
)
def test_the_hosts_umask_holds_for_all_that_is_created(
    tmp_path: Path, argv: list[str], command: str | None, directory: int, file: int
) -> None:
    repository = tmp_path / "r"
    env = {} if command is None else {"SSH_ORIGINAL_COMMAND": command}
    done = run(*argv, env=env, stdin=NEGOTIATE + open_call(2, str(repository), create=True))
    assert done.stderr == b""
    assert "r" in replies(done)[1]
    assert repository.stat().st_mode & 0o777 == directory
    assert (repository / "data").stat().st_mode & 0o777 == directory
    assert (repository / "config").stat().st_mode & 0o777 == file
    assert not (repository / "lock.exclusive").exists()


def test_a_path_outside_the_restriction_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    calls = [
        open_call(2, str(tmp_path / "other"), create=True),
        open_call(3, str(tmp_path / "mine" / ".." / "other"), create=True),
        open_call(4, str(tmp_path / "minefield"), create=True),
        open_call(5, str(tmp_path / "link" / "r"), create=True),
    ]
    done = run(
        f"--restrict-to-path={tmp_path / 'mine'}",
        env={"SSH_ORIGINAL_COMMAND": "borg serve --restrict-to-path=/"},
        stdin=NEGOTIATE + b"".join(calls),
    )
    first, second, third, fourth = replies(done)[1:]
    assert error_of(first) == ("PathNotAllowed", [f"{tmp_path}/other"])
    assert error_of(second) == ("PathNotAllowed", [f"{tmp_path}/mine/../other"])
    assert error_of(third) == ("PathNotAllowed", [f"{tmp_path}/minefield"])
    assert "r" in fourth
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "mine"]
    assert (tmp_path / "mine" / "r" / "config").exists()


def test_relative_paths_and_restrictions_start_at_the_current_directory(tmp_path: Path) -> None:
    calls = open_call(2, "/./mine", create=True)
    done = run("--restrict-to-repository", "mine", stdin=NEGOTIATE + calls, cwd=tmp_path)
    assert "r" in replies(done)[1]
    assert (tmp_path / "mine" / "config").exists()


def test_homes_come_from_the_environment(tmp_path: Path) -> None:
    base, home = tmp_path / "base", tmp_path / "home"
    env = {"BORG_BASE_DIR": str(base), "HOME": str(home)}
    calls = open_call(2, "/~/x") + open_call(3, "/~") + open_call(4, "~nosuchaccount/x")
    root = os.path.realpath(tmp_path)
    assert [error_of(reply) for reply in replies(run(env=env, stdin=NEGOTIATE + calls, cwd=tmp_path))[1:]] == [
        ("DoesNotExist", [f"{root}/base/x"]),
        ("DoesNotExist", [f"{root}/home"]),
        ("DoesNotExist", [f"{root}/~nosuchaccount/x"]),
    ]


def test_a_restricted_client_learns_nothing_of_what_is_outside(tmp_path: Path) -> None:
    outside, home, mine = tmp_path / "outside", tmp_path / "home", tmp_path / "mine"
    for directory in (outside, home, mine):
        directory.mkdir()
    (mine / "esc").symlink_to(outside)
    (mine / "dangling").symlink_to(tmp_path / "nothing")
    requests = [
        "/~",
        "/~/x",
        "~root/x",
        "~nosuchaccount/x",
        "/etc/passwd",
        "/etc/nothing",
        str(outside),
        f"{outside}/x",
    ]
    requests += [f"{mine}/esc", f"{mine}/esc/x", f"{mine}/dangling", f"{mine}/../outside/x", "esc/x", "../outside"]
    calls = [open_call(number, path) for number, path in enumerate(requests, start=2)]
    # The account would be a directory of this name in the tree, if its name were taken for one.
    done = run("--restrict-to-path=.", "--debug", env={"HOME": str(home)}, stdin=NEGOTIATE + b"".join(calls), cwd=mine)
    assert [error_of(reply) for reply in replies(done)[1:]] == [("PathNotAllowed", [path]) for path in requests]
    assert str(home).encode() not in done.stderr


def test_a_name_that_is_not_utf_8_is_resolved_and_refused_with_its_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff"
    message = msgpack.packb({"i": 2, "m": "open", "a": {"path": raw}}, use_bin_type=False)
    done = run("--restrict-to-path=/nowhere", stdin=NEGOTIATE + message)
    assert done.returncode == 0
    assert error_of(replies(done)[1])[0] == "PathNotAllowed"


def test_quota_and_append_only_of_the_host_hold(tmp_path: Path) -> None:
    repository = str(tmp_path / "r")
    calls = open_call(2, repository, create=True)
    done = run(
        "--storage-quota=5G", env={"SSH_ORIGINAL_COMMAND": "borg serve --storage-quota=0"}, stdin=NEGOTIATE + calls
    )
    assert done.stderr == b""
    assert "storage_quota = 5000000000" in (tmp_path / "r" / "config").read_text()
    calls = open_call(2, repository) + call(3, "destroy")
    done = run("--append-only", stdin=NEGOTIATE + calls)
    assert error_of(replies(done)[2])[0] == "ValueError"
    assert (tmp_path / "r" / "config").exists()


def test_the_client_decides_the_log_level(tmp_path: Path) -> None:
    calls = NEGOTIATE + open_call(2, str(tmp_path / "r"), create=True)
    assert run("--debug", env={"SSH_ORIGINAL_COMMAND": "borg serve"}, stdin=calls).stderr == b""
    told = run("--confine=off", env={"SSH_ORIGINAL_COMMAND": "borg serve --debug"}, stdin=calls).stderr.decode()
    assert told
    records = [json.loads(line) for line in told.splitlines()]
    assert "borg.remote" in {record["name"] for record in records}


def test_the_version_and_the_status_are_logged_at_any_level_if_asked_for() -> None:
    done = run("--critical", "--show-version", "--show-rc")
    assert done.stderr.decode() == (
        f"$LOG INFO borg.output.show-version Remote: borg-serve {__version__}\n"
        "$LOG INFO borg.output.show-rc Remote: terminating with success status, rc 0\n"
    )
    assert done.stdout == b""


def test_the_log_is_json_from_the_start_if_asked_for() -> None:
    done = run("--log-json", "--show-version")
    record = json.loads(done.stderr)
    assert (record["type"], record["name"], record["levelname"]) == ("log_message", "borg.output.show-version", "INFO")


@pytest.mark.parametrize(
    ("env", "status"), [({}, 2), ({"BORG_EXIT_CODES": "modern"}, 85), ({"BORG_EXIT_CODES": "x"}, 2)]
)
def test_a_client_that_sends_no_calls_ends_the_session_with_one_line(env: dict[str, str], status: int) -> None:
    done = run("--show-rc", env=env, stdin=b"hello")
    assert (done.returncode, done.stdout) == (status, b"")
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("$LOG ERROR borg.remote Remote: ")
    assert lines[1] == f"$LOG ERROR borg.output.show-rc Remote: terminating with error status, rc {status}"


def test_a_current_directory_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && exec "$2" -m borg_serve_lib'
    done = subprocess.run(["sh", "-c", script, "sh", gone, sys.executable], capture_output=True, check=False, input=b"")
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert done.stderr.startswith(b"borg-serve: the current directory cannot be used")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_descriptors_never_become_files_of_a_repository(tmp_path: Path, closed: str) -> None:
    script = f'exec "$1" -m borg_serve_lib --debug --show-rc {closed}'
    subprocess.run(
        ["sh", "-c", script, "sh", sys.executable],
        input=NEGOTIATE + open_call(2, str(tmp_path / "r"), create=True),
        capture_output=True,
        check=True,
    )
    if "0<&-" not in closed:
        assert b"Remote:" not in (tmp_path / "r" / "config").read_bytes()
        assert sorted(path.name for path in (tmp_path / "r").iterdir()) == ["README", "config", "data"]


def test_a_signal_ends_the_session_and_gives_the_lock_back(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "borg_serve_lib"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(open_call(1, str(tmp_path / "r"), create=True))
        server.stdin.flush()
        assert b"r" in msgpack.unpackb(os.read(server.stdout.fileno(), 4096), raw=True)
        assert (tmp_path / "r" / "lock.exclusive").exists()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 128 + signal.SIGTERM
    assert not (tmp_path / "r" / "lock.exclusive").exists()


SLOW_MODULES = {
    "argparse", "attr", "dataclasses", "inspect", "json", "logging", "pathlib", "socket", "subprocess", "tempfile",
    "typing", "uuid",
}  # fmt: skip


def test_what_is_slow_to_load_is_not_loaded_before_the_first_answer() -> None:
    script = "import borg_serve_cli, sys; borg_serve_cli.main(); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script, "serve"], input=NEGOTIATE, capture_output=True, check=True)
    loaded = set(done.stderr.decode().split())
    assert "borg_serve_lib.server" in loaded
    assert loaded & SLOW_MODULES == set()


def test_importing_the_package_loads_none_of_its_parts() -> None:
    script = "import sys, borg_serve_lib; print(*(name for name in sys.modules if name.startswith('borg_serve_lib')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout.split() == [b"borg_serve_lib"]


# --- explain


def test_explain_tells_what_would_be_allowed_and_serves_nothing(tmp_path: Path) -> None:
    done = run(
        "explain",
        f"--restrict-to-path={tmp_path}",
        "--path=/~/r",
        "--original-command=borg serve --debug",
        env={"HOME": str(tmp_path), "SSH_ORIGINAL_COMMAND": "ignored 'here"},
        stdin=NEGOTIATE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    told = done.stdout.decode()
    assert f"allowed: it means '{os.path.realpath(tmp_path)}/r'" in told
    assert "served, with log level debug" in told


@pytest.mark.parametrize(
    ("argv", "status", "told"),
    [
        (["--restrict-to-path=/nowhere", "--path=~nosuchaccount/r"], 1, b"account that is not known"),
        (["--original-command=sh -c 'borg serve'"], 1, b"is refused"),
        (["--help"], 0, b"usage: borg-serve"),
        (["--path"], 2, b""),
    ],
)
def test_the_status_of_explain_says_whether_all_is_allowed(argv: list[str], status: int, told: bytes) -> None:
    done = run("explain", *argv)
    assert done.returncode == status
    assert told in done.stdout
    assert bool(done.stderr) is (status == 2)


# --- time limits


@pytest.mark.parametrize(
    ("option", "told"), [("--idle-timeout=1", b"idle for 1 seconds"), ("--session-timeout=1", b"has lasted 1 seconds")]
)
def test_a_client_that_stops_in_mid_message_loses_its_session_and_its_lock(
    tmp_path: Path, option: str, told: bytes
) -> None:
    command = [sys.executable, "-m", "borg_serve_lib", option]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(NEGOTIATE + open_call(2, str(tmp_path / "r"), create=True) + b"\x83\xa1i")
    process.stdin.flush()
    status = process.wait(timeout=30)
    out, err = process.communicate()
    assert status == 2
    assert len(err.splitlines()) == 1
    assert told in err
    assert out
    assert not list((tmp_path / "r").glob("lock*"))


# --- what nobody foresaw ----------------------------------------------------------------------------------------------


def test_an_unforeseen_error_is_one_line_for_the_client_and_all_details_for_the_host(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise ValueError("/a/secret/path")

    lines: list[str] = []
    monkeypatch.setattr(borg_serve_lib, "serve_process", fail)
    monkeypatch.setattr(hostlog, "tell_host", lines.append)
    monkeypatch.setattr(sys, "argv", ["borg-serve"])
    monkeypatch.setattr(os, "umask", lambda _: 0o022)  # it would hold for the tests to come
    assert borg_serve_cli.main() == 2
    assert capfd.readouterr() == ("", "borg-serve: internal error of the server (ValueError)\n")
    assert lines[0] == "internal error in the process: Traceback (most recent call last):"
    assert lines[-1] == "ValueError: /a/secret/path"


def test_even_without_a_syslog_an_unforeseen_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(borg_serve_lib, "serve_process", fail)
    monkeypatch.setattr(hostlog, "tell_host", fail)
    monkeypatch.setattr(sys, "argv", ["borg-serve"])
    monkeypatch.setattr(os, "umask", lambda _: 0o022)  # it would hold for the tests to come
    assert borg_serve_cli.main() == 2
    assert capfd.readouterr() == ("", "borg-serve: internal error of the server (OSError)\n")


@pytest.mark.parametrize(
    ("argv", "limit"), [([], "240000000"), (["--max-memory=1G"], "1000000000"), (["--max-memory=0"], "")]
)
def test_the_kernel_limits_the_memory_of_the_server_but_not_of_the_hosts_commands(
    argv: list[str], limit: str, tmp_path: Path
) -> None:
    usual = resource.getrlimit(resource.RLIMIT_DATA)[0]
    command = f"ulimit -d > {shlex.quote(str(tmp_path / 'of-command'))}"
    server = [sys.executable, "-m", "borg_serve_lib", "--on-event", command, *argv]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        process.stdin.write(call(1, "negotiate", client_data={}) + open_call(2, str(tmp_path / "r"), create=True))
        process.stdin.flush()
        os.read(process.stdout.fileno(), 1)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    line = next(line for line in limits.splitlines() if line.startswith("Max data size"))
    assert line.split()[3] == (limit or ("unlimited" if usual == resource.RLIM_INFINITY else str(usual)))
    told = (tmp_path / "of-command").read_text().strip()
    assert told == ("unlimited" if usual == resource.RLIM_INFINITY else str(usual >> 10))


WITH_LITTLE_MEMORY = """
import resource, sys, borg_serve_cli
most = resource.getpagesize() * int(open("/proc/self/statm").read().split()[0]) + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(borg_serve_cli.main())
"""


@pytest.mark.parametrize("megabytes", [20, 50, 100])
def test_a_process_with_too_little_memory_for_a_request_ends_with_one_line(megabytes: int, tmp_path: Path) -> None:
    size = 60_000_000
    message = b"\x83\xa1i\x01\xa1m\xa4open\xa1a\x81\xa4path\xdb" + size.to_bytes(4, "big") + bytes(size)
    argv = [sys.executable, "-c", WITH_LITTLE_MEMORY, str(megabytes << 20), f"--restrict-to-path={tmp_path}"]
    done = subprocess.run(argv, input=message, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    sentence = b"the server has not enough memory for a request of this size"
    assert done.stderr == b"$LOG ERROR borg.remote Remote: %s\n" % sentence


def test_a_transaction_for_which_there_is_too_little_memory_is_never_committed(tmp_path: Path) -> None:
    requests, repository = tmp_path / "requests", tmp_path / "repository"
    with Requests(requests, repository, create=True) as session:
        for object_id in object_ids(150_000):
            session.call("put", id=object_id, data=b"x")
        session.commit()
    argv = [sys.executable, "-c", WITH_LITTLE_MEMORY, str(10 << 20)]
    with requests.open("rb") as stdin:
        done = subprocess.run(argv, stdin=stdin, capture_output=True, timeout=60, check=False)
    refusal = b"Cannot allocate memory (error 12)."
    assert refusal in done.stdout[-2000:]
    assert done.stderr == b"" or refusal in done.stderr
    assert b"Traceback" not in done.stderr
    assert not list(repository.glob("index.*"))
    with Requests(requests, repository) as session:
        session.call("put", id=bytes(32), data=b"x")
        session.commit()
    serve(f"{shlex.quote(sys.executable)} -m borg_serve_lib", requests)
    left = opened(repository)
    assert left.list() == [bytes(32)]
    assert left.check()
    left.close()
