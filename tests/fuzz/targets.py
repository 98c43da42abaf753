"""What a fuzzer drives: one function per decoder. It returns, or raises when the decoder does what it must not.

Whatever the bytes: a value or one of our errors, in one line; and what was decoded means the same when it is written
and read again, where there is a way back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from unittest.mock import patch

from borg_serve_lib import ClientLog
from borg_serve_lib.errors import BorgServeError, InternalError
from borg_serve_lib.format import config, hashindex, hashlayout, hintsfile, integrity
from borg_serve_lib.format import segment as segment_format
from borg_serve_lib.format.hashindex import IndexTable
from borg_serve_lib.limits import MAX_ENTRY_SIZE
from borg_serve_lib.locking.roster import parse_roster, render_roster
from borg_serve_lib.policy.access import AllowAll
from borg_serve_lib.policy.forced_command import parse_client_command
from borg_serve_lib.policy.options import parse_serve_arguments
from borg_serve_lib.policy.paths import PathPolicy, resolve_path
from borg_serve_lib.policy.ways import Ways
from borg_serve_lib.reporting import Level
from borg_serve_lib.rpc.connection import Connection
from borg_serve_lib.rpc.services import Services
from borg_serve_lib.storage.memory import MemoryProvider
from borg_serve_lib.wire.calls import Call
from borg_serve_lib.wire.frames import FrameReader
from tests.format.sources import Bytes

Target = Callable[[bytes], None]


def _one_line(error: BorgServeError) -> None:
    assert not isinstance(error, InternalError), repr(error)
    assert "\n" not in str(error), repr(error)


def frames(data: bytes) -> None:
    """Calls out of a stream: the same whole and in pieces."""
    whole, pieces = _calls(data, len(data) or 1), _calls(data, 7)
    assert whole == pieces, (whole, pieces)


def _calls(data: bytes, step: int) -> list[object]:
    reader = FrameReader()
    found: list[object] = []
    try:
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            while piece:
                room = reader.get_buffer()
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                reader.received(count)
                piece = piece[count:]
                while (call := reader.next_call()) is not None:
                    found.append(_settled(call))
    except BorgServeError as error:
        _one_line(error)
        found.append(type(error))
    return found


def _settled(call: Call) -> tuple[object, ...]:
    """Return what a call says, with copies of the data that it only points to."""
    arguments = call.arguments or {}
    copied = {name: bytes(value) if isinstance(value, memoryview) else value for name, value in arguments.items()}
    return call.msgid, call.method, repr(copied), call.named


def connection(data: bytes) -> None:
    """A whole session before a repository is open: replies come, and nothing else."""
    lines: list[bytes] = []
    log = ClientLog(lines.append, level=Level.DEBUG, now=lambda: 0.0)

    def refuse(*arguments: object) -> object:
        raise BorgServeErrorForTest("not here")

    services = Services(
        resolve_path=refuse,  # type: ignore[arg-type]
        open_repository=refuse,  # type: ignore[arg-type]
        access=AllowAll(),
        reporter=log,
        client_log=log,
    )
    session = Connection(services)
    while data and not session.ended:
        room = session.get_buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        session.buffer_updated(count)
        data = data[count:]
        for reply in session:
            assert sum(map(len, reply)) > 0
    session.eof_received()
    session.close()
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines), lines
    assert not any(b"Traceback" in line or b"site-packages" in line for line in lines), lines


class BorgServeErrorForTest(BorgServeError):
    detail: str


def segment(data: bytes) -> None:
    """Entries, and what a repair saves: all of it sound, all sound entries of a sound file."""
    source = Bytes(data)
    read = []
    try:
        for tag, object_id, offset, size, content in segment_format.entries(source, 0):
            assert size <= MAX_ENTRY_SIZE
            assert offset + size <= len(data)
            read.append((tag, object_id, bytes(content)))
        sound = True
    except BorgServeError as error:
        _one_line(error)
        sound = False
    saved = b"".join(map(bytes, segment_format.salvage(source)))
    mended = Bytes(segment_format.MAGIC + saved)
    again = [(tag, object_id, bytes(content)) for tag, object_id, _, _, content in segment_format.entries(mended, 0)]
    if sound and len(data) >= 17:
        assert again == read
    segment_format.ending(source, 0)
    passing = segment_format.entries(source, 0, window=64, skips=lambda object_id, offset: True)
    try:
        passed = [(tag, object_id, bytes(content)) for tag, object_id, _, _, content in passing]
    except BorgServeError as error:
        _one_line(error)
        assert not sound
        return
    if sound:
        assert [entry[:2] for entry in passed] == [entry[:2] for entry in read]
        assert all(entry in (whole, (*whole[:2], b"")) for entry, whole in zip(passed, read, strict=True))


def index(data: bytes) -> None:
    """A hash table: loaded, walked, searched, changed; in a file as in memory."""
    in_memory = _changed_index(data)
    with (
        patch.multiple(hashindex, MOST_IN_MEMORY=0, MOST_MAPPED=0, MOST_TWICE=0),
        patch.object(hashlayout, "MOST_IN_MEMORY", 0),
    ):
        assert _changed_index(data) == in_memory


def _changed_index(data: bytes) -> bytes | str:
    """Return the bytes of the table after changes, or what is wrong with it."""
    storage = MemoryProvider(("/",)).create("/r", make_parent_dirs=False)
    storage.append("index.1", data)
    file = storage.create_copy("index.1", "index.2")
    try:
        table = IndexTable.load(
            file.view,
            writable=True,
            room=file,
            make_room=lambda _, parts: storage.create_scratch(parts),
        )
        items = list(table.items())
        for object_id, *_ in items[:20]:
            table.get(object_id)
        table.count_entries()
        table.set(b"\1" * 32, 1, 8)
        assert table.get(b"\1" * 32) == (1, 8)
        table.remove(b"\1" * 32)
        if all(object_id != b"\1" * 32 for object_id, *_ in items):  # a forged table may have it twice
            assert table.get(b"\1" * 32) is None
        return b"".join(table.pieces())
    except BorgServeError as error:
        return str(error)


def hints_file(data: bytes) -> None:
    """Hints: read, written, read again."""
    try:
        content = hintsfile.decode(Bytes(data))
    except BorgServeError as error:
        _one_line(error)
        return
    content.without_later_segments(5)
    if not content.unsized:
        assert hintsfile.decode(Bytes(b"".join(hintsfile.encode(content)))) == content


def integrity_file(data: bytes) -> None:
    """Integrity data, and what they are compared with."""
    try:
        content = integrity.decode(data)
        for digests, verify in ((content.hints, "verify_hints"), (content.index, "verify_index")):
            if digests is not None:
                getattr(digests, verify)("hints.1", Bytes(data))
    except BorgServeError as error:
        _one_line(error)


def config_file(data: bytes) -> None:
    """A config: read, changed, written, read again."""
    try:
        content = config.RepositoryConfig.parse(data, "/repository")
        for name in ("append_only", "storage_quota", "additional_free_space", "last_segment_checked", "key"):
            getattr(content, name)
    except BorgServeError as error:
        _one_line(error)
        return
    content.key = "a key\nof two lines"
    again = config.RepositoryConfig.parse(content.render(), "/repository")
    assert again.id == content.id
    assert again.key == content.key


def command_line(data: bytes) -> None:
    """A command line of our own, a client's, and a client's path."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (lambda: parse_serve_arguments(text.split("\n")), lambda: parse_client_command(text)):
        try:
            read()
        except BorgServeError as error:
            _one_line(error)
    policy = PathPolicy(("/allowed",))
    # Whatever has one of these names is a symlink.
    says = {"link": "/allowed/x", "back": "..", "loop": "loop"}
    ways = Ways(
        ("/base", "/cwd", "/allowed"),
        contains=policy.contains,
        readlink=lambda path: says.get(path.rpartition("/")[2]),
    )
    for may_look_at in (None, ways.allow):
        with suppress(BorgServeError):
            path = resolve_path(
                data,
                base_dir="/base",
                cwd="/cwd",
                expand_user=lambda path: "/home" + path[1:],
                realpath=lambda path: path,
                may_look_at=may_look_at,
            )
            assert not policy.allows(path) or path.startswith("/allowed")


def roster(data: bytes) -> None:
    """A lock roster: read, written, read again."""
    content = parse_roster(data)
    assert parse_roster(render_roster(content)) == content


TARGETS: dict[str, Target] = {
    "frames": frames,
    "connection": connection,
    "segment": segment,
    "index": index,
    "hints": hints_file,
    "integrity": integrity_file,
    "config": config_file,
    "command_line": command_line,
    "roster": roster,
}
