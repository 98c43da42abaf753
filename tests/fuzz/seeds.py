"""Sound inputs to begin with."""

from __future__ import annotations

import msgpack

from borg_serve_lib.format import config, hints, hintsfile, integrity
from borg_serve_lib.format.entry import COMMIT_ENTRY, delete_entry, put_header
from borg_serve_lib.format.hashindex import IndexTable
from borg_serve_lib.format.shadows import ShadowIndex
from borg_serve_lib.locking.identity import Holder
from borg_serve_lib.locking.roster import Roster, render_roster

ONE, TWO = b"\1" * 32, b"\2" * 32
NEGOTIATE = {"client_data": {"client_version": [1, 4, 5, -1], "client_system": "Linux"}}


def _call(method: str, **arguments: object) -> bytes:
    return bytes(msgpack.packb({"i": 1, "m": method, "a": arguments}, use_bin_type=False))


def _config() -> bytes:
    new = config.RepositoryConfig.new(repository_id=ONE, append_only=False, storage_quota=0)
    new.key = "BORG_KEY\nline"
    return new.render()


def _index() -> bytes:
    table = IndexTable.new(2)
    table.set(ONE, 0, 8)
    table.set(TWO, 1, 8)
    return bytes(table.view)


HINTS = b"".join(
    hintsfile.encode(
        hints.Hints(
            segments={0: 1, 1: 0}, compact={1: 41}, storage_quota_use=50, shadow_index=ShadowIndex([(TWO, (0,))])
        )
    )
)

SEEDS: dict[str, list[bytes]] = {
    "frames": [
        _call("negotiate", **NEGOTIATE) + _call("open", path="/x", create=False, lock_wait=1, lock=True),
        _call("put", id=ONE, data=b"data", wait=False) + _call("get", id=ONE) + _call("delete", id=ONE),
        bytes(msgpack.packb((1, 2, "negotiate", [NEGOTIATE["client_data"]]), use_bin_type=False)),
    ],
    "segment": [b"BORG_SEG" + put_header(ONE, b"data") + b"data" + delete_entry(TWO) + COMMIT_ENTRY],
    "index": [_index()],
    "hints": [bytes(HINTS)],
    "integrity": [integrity.encode({"final": "0" * 16}, {"HashHeader": "1" * 16, "final": "2" * 16})],
    "config": [_config()],
    "command_line": [
        b"borg serve --umask=077 --debug",
        b"--restrict-to-path\n/a\n--append-only",
        b"/~/x",
        b"A=1 borg serve",
    ],
    "roster": [render_roster(Roster(shared=frozenset({Holder("host@1", 5, 0)}), exclusive=frozenset()))],
}
SEEDS["connection"] = SEEDS["frames"] + [_call("inject_exception", kind="DoesNotExist"), _call("get", id=ONE)]
