"""A connection that is sent whatever a key can send: memory, time, and what is answered."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from pathlib import Path

import attrs
import msgpack
import pytest

from borg_serve_lib.limits import MAX_MESSAGE_SIZE

MEGABYTE = 1 << 20
MOST = 300 * MEGABYTE
MOST_FOR_LARGE_MESSAGES = 200 * MEGABYTE  # the message twice, as received and as decoded, and half of it while it grows
MOST_FOR_SMALL_CALLS = 64 * MEGABYTE
TIMEOUT = 60
PIECE = 1 << 16

# The process reads its own peak, at its very end: it is gone when its parent could look. What getrusage tells would
# begin with the size of the parent; opened early, because the server shuts itself out of /proc.
SERVER = """
import atexit, sys
status = open("/proc/self/status")
@atexit.register
def tell_peak():
    print("peak", *(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")), file=sys.stderr)
import borg_serve_cli
sys.exit(borg_serve_cli.main())
"""


# In one character that needs four bytes, so do all others of the same text.
FAR_FROM_ASCII = "\U0001f600".encode()


@attrs.frozen
class Ending:
    """How a server ended. `peak`: bytes of its memory at most; `told`: its lines on stderr; `replies`: bytes."""

    status: int
    peak: int
    told: list[bytes]
    replies: int


def call(method: str, number: int = 1, **arguments: object) -> bytes:
    return bytes(msgpack.packb({"i": number, "m": method, "a": arguments}, use_bin_type=False))


NEGOTIATE = call("negotiate", client_data={"client_version": [1, 4, 5, -1]})


def opening(repository: Path) -> bytes:
    return NEGOTIATE + call("open", path=str(repository), create=True, lock_wait=1, lock=True, exclusive=True)


def converse(sent: Iterable[bytes], tmp_path: Path, *argv: str) -> Ending:
    """Send all that to a server, whose replies are read as they come."""
    environment = {name: value for name, value in os.environ.items() if name != "SSH_ORIGINAL_COMMAND"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, f"--restrict-to-path={tmp_path}", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    heard, told = [0], []

    def listen() -> None:
        while data := os.read(process.stdout.fileno(), 1 << 20):  # type: ignore[union-attr]
            heard[0] += len(data)

    listeners = [threading.Thread(target=listen), threading.Thread(target=lambda: told.extend(process.stderr))]  # type: ignore[arg-type]
    for listener in listeners:
        listener.start()
    try:
        for piece in sent:
            process.stdin.write(piece)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it has had enough
    status = process.wait(timeout=TIMEOUT)
    for listener in listeners:
        listener.join()
    close_streams(process)
    *lines, last = told
    assert last.startswith(b"peak "), told
    return Ending(status, int(last.split()[1]), lines, heard[0])


def close_streams(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        try:
            stream.close()  # type: ignore[union-attr]
        except BrokenPipeError:
            continue


def repeated(piece: bytes, count: int) -> Iterator[bytes]:
    batch = piece * max(1, PIECE // len(piece))
    per_batch = len(batch) // len(piece)
    for _ in range(count // per_batch):
        yield batch


def big_message(lead: bytes, filling: bytes) -> Iterator[bytes]:
    """60 MB of one message."""
    yield lead
    yield from repeated(filling, 60_000_000 // len(filling))


LARGE_STREAMS = {
    "an announced string of 4 GB": lambda: big_message(b"\xdb\xff\xff\xff\xff", b"x" * 64),
    "an array of four billion": lambda: big_message(b"\xdd\xff\xff\xff\xff", b"\x93\x01\x02\x03"),
    "a map of four billion": lambda: big_message(b"\xdf\xff\xff\xff\xff", b"\x01\x02"),
    "arrays in arrays": lambda: repeated(b"\x91", 60_000_000),
    "maps in maps": lambda: repeated(b"\x81\x01", 30_000_000),
    "nothing but integers": lambda: repeated(b"\x01", 60_000_000),
    "zeros": lambda: repeated(bytes(64), 1_000_000),
    "random bytes": lambda: (os.urandom(PIECE) for _ in range(900)),
    "text": lambda: repeated(b"GET / HTTP/1.1\r\n", 4_000_000),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE_STREAMS)
def test_no_stream_takes_much_memory_or_says_more_than_one_line(name: str, tmp_path: Path) -> None:
    ending = converse(LARGE_STREAMS[name](), tmp_path)
    assert ending.peak < MOST
    assert ending.status == 2
    assert len(ending.told) == 1
    assert str(Path(sys.prefix)).encode() not in ending.told[0]


def longest_text() -> Iterator[bytes]:
    """A string that fills all but the last kilobyte of the largest message, and takes most room when it is decoded."""
    size = MAX_MESSAGE_SIZE - 1024
    yield b"\xdb" + size.to_bytes(4, "big") + FAR_FROM_ASCII
    yield b"x" * (size - len(FAR_FROM_ASCII))


def large_call(method: bytes, fields: int = 1, before: bytes = b"", after: bytes = b"") -> Iterator[bytes]:
    """A call with one text too long, behind `before` among its arguments."""
    yield b"\x83\xa1i\x01\xa1m" + bytes([0xA0 | len(method)]) + method + b"\xa1a" + bytes([0x80 | fields]) + before
    yield from longest_text()
    yield after


LARGE_MESSAGES = {
    "a text": lambda: large_call(b"inject_exception", before=b"\xa4kind"),
    "a name of an argument": lambda: large_call(b"rollback", after=b"\x01"),
    "a path": lambda: large_call(b"open", before=b"\xa4path"),
    "a key": lambda: large_call(b"save_key", before=b"\xa7keydata"),
    "an object": lambda: large_call(b"put", 2, before=b"\xa2id\xda\x00\x20" + bytes(32) + b"\xa4data"),
    "an object before its id": lambda: large_call(b"put", 2, b"\xa4data", b"\xa2id\xda\x00\x20" + bytes(32)),
    "an object id": lambda: large_call(b"get", before=b"\xa2id"),
    "a marker": lambda: large_call(b"list", before=b"\xa6marker"),
    "a version": lambda: large_call(b"negotiate", before=b"\xabclient_data\x81\xaeclient_version"),
    "a field of a client's data": lambda: large_call(b"negotiate", before=b"\xabclient_data\x81", after=b"\x01"),
    "an argument that nobody knows": lambda: large_call(b"rollback", before=b"\xa1x"),
    "a message id": lambda: chain([b"\x82\xa1i"], longest_text(), [b"\xa1m\xa8rollback"]),
    "a message id in the old format": lambda: chain([b"\x94\x01"], longest_text(), [b"\xa6nosuch\x90"]),
    "a method": lambda: chain([b"\x82\xa1i\x01\xa1m"], longest_text()),
    "a field of a call": lambda: chain([b"\x83\xa1i\x01\xa1m\xa8rollback"], longest_text(), [b"\x01"]),
    "ninety texts": lambda: chain(
        [b"\x83\xa1i\x01\xa1m\xa8rollback\xa1a\x81\xa1x\xdc\x00\x5a"],
        (b"\xdb\x00\x0a\x00\x00" + FAR_FROM_ASCII + bytes(655_356) for _ in range(90)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE_MESSAGES)
def test_no_message_takes_much_memory_nor_do_three_of_them(name: str, tmp_path: Path) -> None:
    sent = chain([opening(tmp_path / "repository")], *(LARGE_MESSAGES[name]() for _ in range(3)))
    ending = converse(sent, tmp_path)
    assert ending.peak < MOST_FOR_LARGE_MESSAGES
    assert ending.replies < 4096
    assert len(ending.told) == (ending.status == 2)


def test_a_large_message_that_never_ends_is_a_client_that_went_away(tmp_path: Path) -> None:
    head = b"\x83\xa1i\x01\xa1m\xa3put\xa1a\x81\xa4data\xdb\x03\x93\x87\x00"
    ending = converse(big_message(head, b"x" * 64), tmp_path)
    assert (ending.status, ending.told, ending.replies) == (0, [], 0)
    assert ending.peak < MOST


SMALL_CALLS = {
    "unknown methods": call("nosuch"),
    "private methods": call("__class__"),
    "gets of nothing": call("get", id=bytes(32)),
    "wrong ids": call("get", id=b"short"),
    "unanswered deletes": call("delete", id=b"\1" * 32, wait=False),
    "lists": call("list", limit=1000, marker=None),
    "lengths": call("__len__"),
    "openings": call("open", path="/elsewhere"),
    "errors": call("inject_exception", kind="divide"),
    "small puts of one object": call("put", id=b"\1" * 32, data=b"x"),
}


@pytest.mark.parametrize("name", SMALL_CALLS)
def test_a_hundred_thousand_small_calls_take_little_memory(name: str, tmp_path: Path) -> None:
    sent = [opening(tmp_path / "repository"), *repeated(SMALL_CALLS[name], 100_000)]
    ending = converse(sent, tmp_path)
    assert ending.peak < MOST_FOR_SMALL_CALLS
    assert ending.status == 0
    assert ending.told == []


@pytest.mark.parametrize("method", ["list", "scan"])
def test_lists_of_many_objects_never_lie_in_memory_together(method: str, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    count = 24 * 4096 + 1  # the ids of a reply come in parts of 4096: the last one here is small
    puts = (call("put", id=sha256(b"%d" % number).digest(), data=b"") for number in range(count))
    converse(chain([opening(repository)], puts, [call("commit", compact=False)]), tmp_path)
    asked = {"limit": count, "marker": None}
    once = converse([opening(repository).replace(b"create\xc3", b"create\xc2"), call(method, **asked)], tmp_path)
    often = converse([opening(repository).replace(b"create\xc3", b"create\xc2"), call(method, **asked) * 40], tmp_path)
    assert once.replies > count * 35
    assert often.replies > 40 * count * 35
    assert often.peak < min(MOST_FOR_SMALL_CALLS, once.peak + MEGABYTE * 2)


def test_a_client_that_sends_and_never_reads_holds_up_itself_alone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, f"--restrict-to-path={tmp_path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    data = bytes(3_000_000)
    stored = call("put", id=b"\1" * 32, data=data)
    os.set_blocking(process.stdin.fileno(), True)
    process.stdin.write(opening(tmp_path / "repository") + stored)
    process.stdin.flush()
    os.set_blocking(process.stdin.fileno(), False)
    asked = call("get", id=b"\1" * 32) * 10_000
    while asked:
        try:
            asked = asked[os.write(process.stdin.fileno(), asked) :]
        except BlockingIOError:
            break  # neither side goes on: as it should be
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    assert peak < MOST_FOR_SMALL_CALLS
    process.stdout.close()
    assert process.wait(timeout=TIMEOUT) == 2
    process.stderr.close()
    close_streams(process)


def test_the_largest_objects_fit_the_limit(tmp_path: Path) -> None:
    largest = [call("put", id=bytes([number]) * 32, data=bytes(20_971_479)) for number in range(1, 6)]
    gets = [call("get", id=bytes([number]) * 32) for number in range(1, 6)]
    ending = converse([opening(tmp_path / "repository"), *largest, *gets], tmp_path)
    assert ending.replies > 5 * 20_971_479
    assert ending.peak < MOST
    assert ending.status == 0
