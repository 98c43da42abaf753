"""What real clients said, said again: the same calls and the same replies, however the bytes are cut.

The recordings are in tests/fixtures/conversations; `scripts/record_conversations.py` makes them anew.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgpack
import pytest

from borg_serve_lib import (
    ClientLog,
    MemoryLockManager,
    MemoryProvider,
    PathPolicy,
    ServeOptions,
    Server,
    parse_serve_arguments,
)
from borg_serve_lib.wire.frames import FrameReader

RECORDINGS = Path(__file__).resolve().parents[1] / "fixtures" / "conversations"
LIVES: dict[str, list[dict[str, str]]] = json.loads((RECORDINGS / "conversations.json").read_text())
CONVERSATIONS = [(version, entry["name"]) for version, life in LIVES.items() for entry in life]
WHOLE = 1 << 30


def recorded(version: str, name: str, kind: str) -> bytes:
    return (RECORDINGS / version / f"{name}.{kind}").read_bytes()


def server_at_the_beginning() -> tuple[Server, MemoryLockManager, list[bytes]]:
    """A server without any repository, its locks, and what its clients will be told on stderr."""
    options = parse_serve_arguments(["serve"])
    assert isinstance(options, ServeOptions)
    locks = MemoryLockManager()
    server = Server(
        options,
        paths=PathPolicy.from_options(options, cwd="/account", realpath=lambda path: path),
        resolver=lambda raw: {b"/./repo": "/account/repo"}[raw],
        storages=MemoryProvider(("/account",)),
        locks=locks,
    )
    return server, locks, []


def converse(server: Server, told: list[bytes], requests: bytes, step: int) -> bytes:
    """Feed `requests` in pieces of `step` bytes to a new connection; return all replies."""
    connection = server.connect(ClientLog(told.append, now=lambda: 0.0))
    replies = bytearray()
    position = 0
    while position < len(requests):
        room = connection.get_buffer()
        piece = requests[position : position + min(step, len(room))]
        room[: len(piece)] = piece
        connection.buffer_updated(len(piece))
        position += len(piece)
        for reply in connection:
            for buffer in reply:
                replies += buffer
    connection.eof_received()
    connection.close()
    assert connection.exit_code == 0
    return bytes(replies)


@cache
def repository_id(replies: bytes) -> bytes:
    """Return the result of `open` in the replies of an `init`: random, but the same in all that follows."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(replies)
    return next(reply[b"r"] for reply in unpacker if isinstance(reply, dict))


@pytest.mark.parametrize("step", [WHOLE, 1, 7], ids=["whole", "byte by byte", "in pieces of 7"])
@pytest.mark.parametrize("version", LIVES)
def test_the_replies_to_a_recorded_life_are_those_of_native_borg(version: str, step: int) -> None:
    server, locks, told = server_at_the_beginning()
    theirs = repository_id(recorded(version, "init", "replies"))
    ours = b""
    for entry in LIVES[version]:
        name = entry["name"]
        replies = converse(server, told, recorded(version, name, "requests"), step)
        ours = ours or repository_id(replies)
        assert replies == recorded(version, name, "replies").replace(theirs, ours), name
        assert not locks.held()
    assert not [line for line in told if b"WARNING" in line or b"ERROR" in line]


def calls_in(*pieces: bytes) -> list[tuple[Any, ...]]:
    """Return the calls that are complete after all pieces have come, the views in them made bytes."""
    reader = FrameReader()
    calls: list[tuple[Any, ...]] = []
    for piece in pieces:
        if piece:
            room = reader.get_buffer()
            room[: len(piece)] = piece
            reader.received(len(piece))
        while (call := reader.next_call()) is not None:
            calls.append((call.method, call.named, call.msgid, _copied(call.arguments)))
    return calls


def _copied(arguments: dict[str, Any] | None) -> dict[str, Any]:
    assert arguments is not None
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in arguments.items()}


@pytest.mark.parametrize(("version", "name"), CONVERSATIONS)
def test_a_conversation_cut_at_any_length_holds_the_same_calls(version: str, name: str) -> None:
    requests = recorded(version, name, "requests")
    ends, whole = messages_in(requests)
    complete = 0
    for length in range(len(requests) + 1):
        if length in ends:
            complete += 1
        # The first piece alone gives the calls that end in it; the second piece brings the others.
        assert calls_in(requests[:length]) == whole[:complete]
        assert calls_in(requests[:length], requests[length:]) == whole
    assert complete == len(whole)


def messages_in(requests: bytes) -> tuple[set[int], list[tuple[Any, ...]]]:
    """Return where messages end, and the calls in them, as msgpack and the protocol have it."""
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(requests)
    ends, calls = set(), []
    for message in unpacker:
        ends.add(unpacker.tell())
        if isinstance(message, dict):
            arguments = {key.decode(): value for key, value in message[b"a"].items()}
            calls.append((message[b"m"].decode(), True, msgpack.packb(message[b"i"]), arguments))
        else:
            _, msgid, method, (client_data,) = message
            assert method == b"negotiate"
            calls.append(("negotiate", False, msgpack.packb(msgid), {"client_data": client_data}))
    return ends, calls
