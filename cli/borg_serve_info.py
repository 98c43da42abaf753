"""`borg-serve repo info`: what is in a repository, for people and for programs."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone

from borg_serve_console import Console

from borg_serve_lib import FileLockManager, FilesystemProvider
from borg_serve_lib.engine.summary import Summary, summarise
from borg_serve_lib.locking.owner import Owner
from borg_serve_lib.storage.readonly import ReadOnlyProvider
from borg_serve_lib.units import format_size


def info(path: str, console: Console, *, as_data: bool) -> tuple[tuple[str, ...], dict[str, object]]:
    """Return what is out of order in the repository at `path`, and all that can be told of it.

    `as_data`: whether it is for programs. Raises what `summarise` raises.
    """
    summary = summarise(path, storages=ReadOnlyProvider(FilesystemProvider()), reporter=console)
    owners = FileLockManager.of_this_machine().lock_for(path).owners()
    committed = None
    if summary.last_segment:
        with suppress(OSError):
            committed = os.stat(f"{path}/{summary.last_segment}").st_mtime
    return summary.notes, (_as_data if as_data else _as_text)(summary, owners, committed)


def _as_data(summary: Summary, owners: tuple[Owner, ...], committed: float | None) -> dict[str, object]:
    told: dict[str, object] = {name: value for name, value in summary.__dict__.items() if name != "last_segment"}
    told["committed"] = None if committed is None else _moment(committed)
    told["locks"] = [_owner_data(owner) for owner in owners]
    return told


def _owner_data(owner: Owner) -> dict[str, object]:
    record = owner.record
    return {
        "mode": owner.mode.value,
        "host": owner.holder.host,
        "pid": owner.holder.pid,
        "verdict": owner.verdict.value,
        "since": _moment(record.since) if record is not None and record.since else None,
        "user": record.user if record is not None else "",
        "client": record.client if record is not None else "",
        "activity": record.activity if record is not None else "",
    }


def _as_text(summary: Summary, owners: tuple[Owner, ...], committed: float | None) -> dict[str, object]:
    def size(count: int | None) -> str:
        return "unknown" if count is None else format_size(count)

    last = "none" if summary.transaction is None else f"{summary.transaction}"
    told: dict[str, object] = {
        "repository": summary.path,
        "id": summary.id,
        "objects": "unknown" if summary.objects is None else summary.objects,
        "segments": f"{summary.segments}, {size(summary.segment_bytes)}",
        "used": f"{size(summary.used_bytes)}" + (f" of {size(summary.quota)}" if summary.quota else ", no quota"),
        "freeable": size(summary.freeable_bytes),
        "append-only": "yes" if summary.append_only else "no",
        "last transaction": last + (f", {_moment(committed)}" if committed is not None else ""),
        "locks": [_owner_text(_owner_data(owner)) for owner in owners] or "none",
    }
    if summary.transactions:
        told["transactions"] = summary.transactions
    if summary.notes:
        told["out of order"] = summary.notes
    return told


def _owner_text(owner: dict[str, object]) -> str:
    words = [f"{owner['mode']}, process {owner['pid']} on {owner['host']}, {owner['verdict']}"]
    told = (("since", "since"), ("user", "for"), ("client", "from"), ("activity", "busy with"))
    words += [f"{word} {owner[name]}" for name, word in told if owner[name]]
    return ", ".join(words)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
