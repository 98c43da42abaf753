"""Signals end a session in good order: in a real process, wherever it is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from ..rpc.support import OPEN, REPOSITORY_ID, named

ROOT = Path(__file__).resolve().parents[2]
CHECK = named(2, "check", repair=False)
PATIENCE = 60.0


class SlowServer:
    """A server process; see slow_server."""

    def __init__(self, mode: str, stderr: int | None = None) -> None:
        journal, theirs = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.transports.slow_server", str(theirs), mode],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stderr is None else stderr,
            pass_fds=[theirs],
        )
        os.close(theirs)
        self._journal = os.fdopen(journal)

    def __enter__(self) -> SlowServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr, self._journal):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def opens(self) -> None:
        """Open the repository and wait for the answer: from here on all handlers of signals are in place."""
        self.says(OPEN)
        assert self.hears() == {b"i": 1, b"r": REPOSITORY_ID}

    def says(self, requests: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(requests)
        self.process.stdin.flush()

    def hears(self) -> object:
        assert self.process.stdout
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        while True:
            received = os.read(self.process.stdout.fileno(), 1 << 16)
            assert received, "the server ended"
            unpacker.feed(received)
            for reply in unpacker:
                return reply

    def notes(self) -> str:
        """Wait for the next line of the journal."""
        return self._journal.readline().rstrip()

    def gets(self, signum: int) -> None:
        self.process.send_signal(signum)

    def ends(self) -> tuple[int, str, list[str]]:
        """Wait for the end; return the status, what the client is told, and the rest of the journal."""
        status = self.process.wait(PATIENCE)
        told = self.process.stderr.read().decode() if self.process.stderr else ""
        return status, told, self._journal.read().splitlines()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_an_idle_session_with_one_line(signum: int, status: int) -> None:
    with SlowServer("") as server:
        server.opens()
        server.gets(signum)
        ended, told, journal = server.ends()
    assert ended == status
    assert signal.Signals(signum).name in told
    assert told.count("\n") == 1
    assert journal == ["close begins", "closed", f"status {status}"]


def test_a_signal_ends_a_call_that_takes_long() -> None:
    with SlowServer("") as server:
        server.opens()
        server.says(CHECK)
        assert server.notes() == "check begins"
        server.gets(signal.SIGTERM)
        status, told, journal = server.ends()
    assert status == 143
    assert told.count("\n") == 1
    assert journal == ["close begins", "closed", "status 143"]


def test_a_signal_that_got_lost_in_a_call_ends_the_session_after_it() -> None:
    with SlowServer("swallow") as server:
        server.opens()
        server.says(CHECK + CHECK)
        assert server.notes() == "check begins"
        server.gets(signal.SIGTERM)
        status, _, journal = server.ends()
    assert status == 143
    assert journal == ["close begins", "closed", "status 143"]


def test_a_signal_in_a_callback_of_the_interpreter_ends_the_session_and_is_not_printed() -> None:
    with SlowServer("callback") as server:
        server.opens()
        server.says(CHECK)
        assert server.notes() == "check begins"
        time.sleep(0.1)  # the server is in the callback by now; earlier would do, too
        server.gets(signal.SIGTERM)
        status, told, journal = server.ends()
    assert status == 143
    assert told.count("\n") == 1
    assert journal == ["close begins", "closed", "status 143"]


def test_signals_do_not_disturb_the_closing() -> None:
    with SlowServer("slow close") as server:
        server.opens()
        server.gets(signal.SIGTERM)
        assert server.notes() == "close begins"
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            server.gets(signum)
        status, told, journal = server.ends()
    assert status == 143
    assert told.count("\n") == 1
    assert journal == ["closed", "status 143"]


def test_a_signal_after_the_end_of_the_stream_does_not_disturb_the_closing() -> None:
    with SlowServer("slow close") as server:
        server.opens()
        assert server.process.stdin
        server.process.stdin.close()
        assert server.notes() == "close begins"
        server.gets(signal.SIGTERM)
        status, told, journal = server.ends()
    assert (status, told, journal) == (0, "", ["closed", "status 0"])


def test_the_first_interrupt_is_the_clients_and_ignored() -> None:
    with SlowServer("") as server:
        server.opens()
        server.gets(signal.SIGINT)
        server.says(named(3, "__len__"))
        assert server.hears() == {b"i": 3, b"r": 0}
        assert server.process.stdin
        server.process.stdin.close()
        status, told, _ = server.ends()
    assert (status, told) == (0, "")


def test_the_second_interrupt_ends_the_session() -> None:
    with SlowServer("") as server:
        server.opens()
        server.says(CHECK)
        assert server.notes() == "check begins"
        server.gets(signal.SIGINT)
        time.sleep(0.2)  # not a part of the first
        server.gets(signal.SIGINT)
        status, told, journal = server.ends()
    assert status == 130
    assert "SIGINT" in told
    assert journal == ["close begins", "closed", "status 130"]


def test_a_client_that_vanishes_ends_a_call_that_takes_long() -> None:
    with SlowServer("") as server:
        server.opens()
        server.says(CHECK)
        assert server.notes() == "check begins"
        assert server.process.stdin
        assert server.process.stdout
        server.process.stdin.close()
        server.process.stdout.close()
        status, told, journal = server.ends()
    assert (status, told) == (2, "")
    assert journal == ["close begins", "closed", "status 2"]


def test_a_client_that_only_says_no_more_still_gets_its_answers() -> None:
    with SlowServer("tenth") as server:
        server.opens()
        server.says(CHECK)
        assert server.process.stdin
        server.process.stdin.close()
        assert server.notes() == "check begins"
        assert server.hears() == {b"i": 2, b"r": True}
        assert server.ends() == (0, "", ["close begins", "closed", "status 0"])


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads and that takes no more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while os.write(writing, bytes(1 << 16)):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(full_pipe: int) -> None:
    with SlowServer("", stderr=full_pipe) as server:
        server.opens()
        server.gets(signal.SIGTERM)
        status, _, journal = server.ends()
    assert status == 143
    assert journal == ["close begins", "closed", "status 143"]


def test_the_host_is_told_of_a_signal_although_nobody_reads_the_log_and_once_the_lock_is_free(full_pipe: int) -> None:
    with SlowServer("told", stderr=full_pipe) as server:
        server.opens()
        server.gets(signal.SIGTERM)
        _, _, journal = server.ends()
    assert journal == [
        "close begins",
        "closed",
        "host told: received SIGTERM, the session ends",
        "host told: session closed",
        "status 143",
    ]


def test_a_client_that_does_not_read_its_replies_does_not_hold_up_a_signal() -> None:
    with SlowServer("") as server:
        server.opens()
        server.says(named(2, "put", id=bytes(32), data=bytes(1 << 20)) + named(3, "get", id=bytes(32)) * 5)
        time.sleep(0.2)  # the server is writing by now; earlier would do, too
        server.gets(signal.SIGTERM)
        status, _, journal = server.ends()
    assert status == 143
    assert journal == ["close begins", "closed", "status 143"]


@pytest.mark.parametrize("pair", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGINT)])
def test_a_second_signal_changes_nothing_about_the_end(pair: tuple[signal.Signals, signal.Signals]) -> None:
    """As sshd and systemd send them, one after the other."""
    for pause in (0.0, 0.01, 0.02, 0.05, 0.1):
        with subprocess.Popen(
            [sys.executable, "-m", "borg_serve_lib"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as server:
            assert server.stdin
            assert server.stdout
            server.stdin.write(named(1, "negotiate", client_data={}))
            server.stdin.flush()
            assert server.stdout.read(1)
            server.send_signal(pair[0])
            time.sleep(pause)
            server.send_signal(pair[1])
            said = server.communicate()[1]
        assert server.returncode == 128 + pair[0]
        assert b"Traceback" not in said


_WRAPPER = """
import subprocess, sys
journal = sys.argv[1]
command = [sys.executable, "-m", "tests.transports.slow_server", journal, ""]
subprocess.Popen(command, pass_fds=[int(journal)]).wait()
"""


def test_a_server_whose_parent_was_killed_ends_although_somebody_keeps_its_stdout_open() -> None:
    journal, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", _WRAPPER, str(theirs)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[theirs],
    ) as wrapper:
        os.close(theirs)
        assert wrapper.stdin
        assert wrapper.stdout
        wrapper.stdin.write(OPEN)
        wrapper.stdin.flush()
        assert wrapper.stdout.read(1)
        wrapper.stdin.write(CHECK)  # which takes for ever
        wrapper.stdin.flush()
        wrapper.kill()
        wrapper.stdin.close()
        begun = time.monotonic()
        with os.fdopen(journal) as lines:
            told = lines.read().splitlines()
        assert time.monotonic() - begun < PATIENCE / 10
    assert told[-2] == "closed"


def test_a_client_that_closes_its_end_for_writing_is_gone_even_if_its_other_end_stays_open() -> None:
    """As sshd shows a client that was killed."""
    with SlowServer("") as server:
        server.opens()
        server.says(CHECK)  # which takes for ever
        assert server.process.stdin
        server.process.stdin.close()
        begun = time.monotonic()
        with server._journal as journal:
            told = journal.read().splitlines()
        assert time.monotonic() - begun < PATIENCE / 10
        assert told[-2] == "closed"


def test_a_client_that_reads_nothing_and_says_nothing_more_is_gone() -> None:
    with SlowServer("") as server:
        server.opens()
        server.says(named(2, "put", id=bytes(32), data=bytes(3 << 20)) + named(3, "get", id=bytes(32)) * 20)
        assert server.process.stdin
        server.process.stdin.close()
        with server._journal as journal:
            assert journal.read().splitlines()[-2] == "closed"


def test_what_was_asked_for_before_the_end_is_answered_however_long_it_takes_in_all() -> None:
    count = 30
    with SlowServer("tenth") as server:
        server.opens()
        server.says(b"".join(named(number, "check", repair=False) for number in range(2, count)))
        assert server.process.stdin
        server.process.stdin.close()
        assert server.process.stdout
        replies = msgpack.Unpacker(server.process.stdout, raw=True, strict_map_key=False)
        assert [reply[b"i"] for reply in replies] == [*range(2, count)]
