"""The same calls to `borg serve` 1.4.5 and to ours: the same results, the same classes of errors, the same end.

Sensible calls and those that no client of borg makes. Where ours differs on purpose, the case stands in `BETTER`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest

IDS = [bytes([number]) * 32 for number in range(9)]
STORED, MISSING, NEW = IDS[0], IDS[8], IDS[7]
NEGOTIATE = {"client_data": {"client_version": (1, 4, 5, -1)}}


@attrs.frozen
class Request:
    method: str
    arguments: dict[str, Any]


@attrs.frozen
class Answer:
    """`result` of a call, or the name of the exception class in `error`."""

    msgid: int
    result: object = None
    error: str | None = None


def call(method: str, **arguments: object) -> Request:
    return Request(method, arguments)


def opening(**changes: object) -> Request:
    arguments: dict[str, object] = {"path": b"REPO", "create": False, "lock_wait": 1, "lock": True, "exclusive": True}
    return call("open", **(arguments | {"append_only": False, "make_parent_dirs": False} | changes))


def put(object_id: object = NEW, data: object = b"data", *, wait: bool = True) -> Request:
    return call("put", id=object_id, data=data, wait=wait)


def delete(object_id: object = STORED, *, wait: bool = True) -> Request:
    return call("delete", id=object_id, wait=wait)


COMMIT = call("commit", compact=False, threshold=0.1, cleanup_commits=False)
COMPACT = call("commit", compact=True, threshold=0, cleanup_commits=True)
LENGTH = call("__len__")
LIST = call("list", limit=None, marker=None)
SCAN = call("scan", limit=None, marker=None)
RESERVED = call("get_free_nonce")


def reservation(end: object, start: object) -> Request:
    return call("commit_nonce_reservation", next_unreserved=end, start_nonce=start)


READING = {
    f"{method} {name}={value!r}": [call(method, **{"limit": None, "marker": None, name: value}), LENGTH]
    for method in ("list", "scan")
    for name, values in {
        "limit": (None, 0, 1, 3, 100, -1, (1 << 63) - 1),
        "marker": (None, STORED, IDS[2], MISSING),
    }.items()
    for value in values
}
WRITING = {
    "put, seen at once": [put(), call("get", id=NEW), LENGTH],
    "put and commit": [put(), COMMIT, call("get", id=NEW), LIST, SCAN],
    "put of nothing": [put(data=b""), COMMIT, call("get", id=NEW)],
    "put of a text": [put(data="text"), call("get", id=NEW)],
    "put of the most": [put(data=bytes(20971479)), COMMIT, call("get", id=NEW)],
    "put of one more": [put(data=bytes(20971480)), LENGTH],
    "put without waiting": [put(wait=False), call("get", id=NEW)],
    "put again": [put(STORED), call("get", id=STORED), COMPACT, SCAN],
    "put and rollback": [put(), call("rollback"), LENGTH, call("get", id=NEW)],
    "put under a short id": [put(b"short"), COMMIT, LENGTH],
    "delete": [delete(), call("get", id=STORED), COMPACT, SCAN],
    "delete what is not there": [delete(MISSING), LENGTH],
    "delete what is not there, without waiting": [delete(MISSING, wait=False), LENGTH],
    "delete twice": [delete(), delete(), LENGTH],
    "check": [call("check", repair=False, max_duration=0), LENGTH],
    "check for a time": [call("check", repair=False, max_duration=100)],
    "check in a transaction": [put(), call("check", repair=False), LENGTH],
    "repair": [call("check", repair=True, max_duration=0), LIST],
    "repair for a time": [call("check", repair=True, max_duration=10), LENGTH],
    "key": [call("load_key"), call("save_key", keydata=b"a\nb"), call("load_key"), LENGTH],
    "key of nothing": [call("save_key", keydata=b""), call("load_key")],
    "key with a section": [call("save_key", keydata=b"[x]\ny=%(z)s"), call("load_key"), LENGTH],
    "nonce": [RESERVED, reservation(100, None), RESERVED, reservation(200, 100), RESERVED, reservation(300, 5)],
    "nonce again from nothing": [reservation(100, None), reservation(200, None), RESERVED],
    "nonce backwards": [reservation(100, None), reservation(50, 100), RESERVED],
    "break the lock": [call("break_lock"), LENGTH],
    "destroy": [call("destroy")],
    "an unknown method": [call("get_many", ids=[STORED]), LENGTH],
    "a private method": [call("_active_txn"), LENGTH],
    "a method of every object": [call("__init__"), LENGTH],
    "an argument too many": [call("get", id=STORED, unheard_of=1), LENGTH],
}
INJECTED = {
    f"inject {kind}": [call("inject_exception", kind=kind), LENGTH]
    for kind in (
        "DoesNotExist", "AlreadyExists", "CheckNeeded", "IntegrityError", "PathNotAllowed", "ObjectNotFound",
        "InvalidRPCMethod", "divide",
    )
}  # fmt: skip
OPENING = {
    "open": [opening(), LENGTH],
    "open for reading": [opening(exclusive=False), LENGTH, put(), call("save_key", keydata=b"x"), RESERVED],
    "open with a lock that grows": [opening(exclusive=None), LENGTH, put(), COMMIT, LENGTH],
    "open without lock": [opening(lock=False), LENGTH, LIST, call("save_key", keydata=b"x"), RESERVED],
    "open twice": [opening(), opening(), LENGTH],
    "open append-only": [opening(append_only=True), delete(), COMPACT, SCAN, call("destroy"), LENGTH],
    "open append-only and repair": [opening(append_only=True), call("check", repair=True), LENGTH],
    "open what is not there": [opening(path=b"REPO/nothing")],
    "open a file": [opening(path=b"REPO/README")],
    "create where one is": [opening(create=True)],
    "create inside one": [opening(path=b"REPO/data/new", create=True)],
    "create without a parent": [opening(path=b"REPO.d/a/b", create=True)],
    "create with parents": [
        opening(path=b"REPO.d/a/b", create=True, make_parent_dirs=True), LENGTH, LIST, put(), COMMIT, SCAN,
    ],
    "open with a negative wait": [opening(lock_wait=-1)],
}  # fmt: skip
BETTER = {
    # borg writes without a lock, which lets a client that does so in two sessions undo what others have committed.
    "put without a lock": ([opening(lock=False), put()], Answer(3, error="AssertionError")),
    # borg: AttributeError, because nothing was ever put; ours has nothing to do and says so.
    "commit of nothing": ([opening(), COMMIT], Answer(3)),
    # borg: TypeError with a traceback; ours names the argument.
    "an id that is none": ([opening(), call("get", id=None)], Answer(3, error="ValueError")),
    # borg: the process dies.
    "a missing argument": ([opening(), call("get")], Answer(3, error="ValueError")),
    # borg: FileNotFoundError of a repository that is not open any more.
    "anything after destroy": ([opening(), call("destroy"), LENGTH], Answer(4, error="AttributeError")),
}


@pytest.fixture(scope="module")
def native(clients: dict[str, Path]) -> str:
    return f"{shlex.quote(str(clients['1.4.5']))} serve"


@pytest.fixture(scope="module")
def stocked(native: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of five objects in two transactions, made by native borg."""
    path = tmp_path_factory.mktemp("stocked") / "repository"
    calls = [opening(create=True), *(put(one, b"x" * one[0]) for one in IDS[:4]), COMMIT, put(IDS[4]), COMMIT]
    answers, code = converse(native, path, calls)
    assert code == 0
    assert [answer.error for answer in answers] == [None] * 9
    return path


def converse(command: str, repository: Path, calls: list[Request]) -> tuple[list[Answer], int]:
    """Start a server, say it all, and return its answers and exit code."""
    stream = b""
    for number, one in enumerate([call("negotiate", **NEGOTIATE), *calls], 1):
        arguments = dict(one.arguments)
        if "path" in arguments:
            arguments["path"] = arguments["path"].replace(b"REPO", os.fsencode(repository))
        stream += msgpack.packb({"i": number, "m": one.method, "a": arguments}, use_bin_type=False)
    environment = {**os.environ, "BORG_BASE_DIR": str(repository.parent / "base"), "BORG_SELFTEST": "disabled"}
    process = subprocess.run(
        shlex.split(command), input=stream, capture_output=True, timeout=60, env=environment, check=False
    )
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(process.stdout)
    # At the end of the stream borg writes text to stdout, which reads as numbers.
    replies = [reply for reply in unpacker if isinstance(reply, dict)]
    return [answered(reply) for reply in replies], process.returncode


def answered(reply: dict[bytes, Any]) -> Answer:
    if b"exception_class" in reply:
        return Answer(reply[b"i"], error=reply[b"exception_class"].decode())
    return Answer(reply[b"i"], result=reply[b"r"])


def on_a_copy(command: str, stocked: Path, calls: list[Request], place: Path) -> tuple[list[Answer], int]:
    place.mkdir()
    repository = place / "repository"
    shutil.copytree(stocked, repository)
    answers, code = converse(command, repository, calls)
    if answers and answers[1:2] and isinstance(answers[1].result, bytes) and (place / "repository.d").exists():
        # A new repository's id is random.
        answers[1] = attrs.evolve(answers[1], result=len(answers[1].result))
    return answers, code


def ours() -> str:
    return f"{shlex.quote(sys.executable)} -m borg_serve_lib"


CASES = OPENING | {name: [opening(), *calls] for name, calls in (READING | WRITING | INJECTED).items()}


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_those_of_borg_serve(name: str, native: str, stocked: Path, tmp_path: Path) -> None:
    expected = on_a_copy(native, stocked, CASES[name], tmp_path / "native")
    assert on_a_copy(ours(), stocked, CASES[name], tmp_path / "ours") == expected
    assert len(expected[0]) >= 2


@pytest.mark.parametrize("name", BETTER)
def test_where_ours_differs_it_is_known_how(name: str, native: str, stocked: Path, tmp_path: Path) -> None:
    calls, answer = BETTER[name]
    answers, code = on_a_copy(ours(), stocked, calls, tmp_path / "ours")
    assert (answers[-1], code) == (answer, 0)
    assert on_a_copy(native, stocked, calls, tmp_path / "native")[0] != answers
