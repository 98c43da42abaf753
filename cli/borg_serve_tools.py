"""`borg-serve repo`: what a host does with its repositories, without their keys."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from borg_serve_lib import (
    BorgServeError,
    Event,
    FileLockManager,
    FilesystemProvider,
    OpenRequest,
    Reporter,
    Repository,
    UsageError,
    open_repository,
)
from borg_serve_lib.engine.summary import Summary, summarise
from borg_serve_lib.events.maintenance import CheckFailed, CompactionFinished, Progress, ProgressFinished
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.locking.owner import Owner
from borg_serve_lib.reporting import Level
from borg_serve_lib.units import format_size

FINE, FINDINGS, FAILED, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the words after `borg-serve repo`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("path", metavar="PATH", help="directory of the repository")
    common.add_argument("--json", action="store_true", help="print one JSON object instead of text for people")
    locked = argparse.ArgumentParser(add_help=False)
    locked.add_argument(
        "--lock-wait", metavar="SECONDS", type=_seconds, default=1, help="wait for a lock that long (default: 1)"
    )
    top = argparse.ArgumentParser(
        prog="borg-serve repo",
        description="Look at, check and compact repositories on this host. No key is needed, nor native borg.",
        epilog="Exit status: 0 all is well, 1 something was found, 2 it could not be done.",
        allow_abbrev=False,
    )
    kinds = top.add_subparsers(dest="what", required=True, metavar="info|check|compact")
    kinds.add_parser(
        "info",
        parents=[common],
        help="tell what is in a repository and who has it locked; writes nothing and waits for nobody",
        description="Tell what is in a repository and who has it locked. Writes nothing, and waits for nobody.",
        allow_abbrev=False,
    )
    check = kinds.add_parser(
        "check",
        parents=[common, locked],
        help="read all segments, and compare the index with them",
        description="Read all segments, and compare the index with them, as borg check --repository-only does.",
        allow_abbrev=False,
    )
    check.add_argument("--repair", action="store_true", help="repair what is found; damaged objects are lost")
    check.add_argument(
        "--max-duration",
        metavar="SECONDS",
        type=_seconds,
        default=0,
        help="check a part for so long; the next such check goes on there",
    )
    compact = kinds.add_parser(
        "compact",
        parents=[common, locked],
        help="free the space of what was deleted",
        description="Free the space of what was deleted, as borg compact does.",
        allow_abbrev=False,
    )
    compact.add_argument(
        "--threshold",
        metavar="PERCENT",
        type=_percent,
        default=10,
        help="leave segments of which less than that can be freed (default: 10)",
    )
    compact.add_argument(
        "--cleanup-commits", action="store_true", help="remove the 17-byte segments that borg before 1.1.18 left"
    )
    return top


def _seconds(text: str) -> int:
    return _number(text, "a number of seconds, 0 or more", 0, 10**9)


def _percent(text: str) -> int:
    return _number(text, "a number from 0 to 99", 0, 99)


def _number(text: str, wanted: str, least: int, most: int) -> int:
    if text.isascii() and text.isdecimal() and least <= int(text[:12]) <= most:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")


class Console(Reporter):
    """Shows progress and findings on stderr, and remembers the findings."""

    def __init__(self, *, quiet: bool) -> None:
        self.findings: list[str] = []
        self.freed = 0
        self._quiet = quiet
        self._bar: Any = None

    def report(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._advance(event)
        elif isinstance(event, ProgressFinished):
            self._close_bar()
        elif isinstance(event, CompactionFinished):
            self.freed = event.freed
        elif event.level >= Level.WARNING and not event.host_only:
            if isinstance(event, CheckFailed):
                self.findings.append(event.message())
            self._say(event.message())

    def _advance(self, step: Progress) -> None:
        if self._quiet or not sys.stderr.isatty():
            return
        if self._bar is None:
            try:
                from tqdm import tqdm
            except ImportError:
                self._say(step.message())
                return
            self._bar = tqdm(total=step.total, unit="seg", leave=False, file=sys.stderr)
        self._bar.update(step.current - self._bar.n)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        print(_printable(line), file=sys.stderr)


def main(argv: list[str]) -> int:
    """Do what the words after `borg-serve repo` ask for; return the exit status."""
    options = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    path = os.path.realpath(options.path)
    console = Console(quiet=options.json)
    tool: Callable[..., tuple[int, dict[str, object]]] = {"info": _info, "check": _check, "compact": _compact}[
        options.what
    ]
    try:
        status, told = tool(path, options, console)
    except BorgServeError as error:
        if options.json:
            print(json.dumps({"path": path, "error": str(error)}))
        else:
            print(f"borg-serve: {_printable(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("borg-serve: interrupted; the lock was given back", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(told))
    else:
        _print_lines(told)
    return status


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of signal handlers
    raise KeyboardInterrupt


def _print_lines(told: dict[str, object]) -> None:
    width = max(map(len, told)) + 1
    for name, value in told.items():
        head = f"{name}:"
        for line in value if isinstance(value, (list, tuple)) else [value]:
            print(f"{head:<{width}} {_printable(str(line))}")
            head = ""


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _open(path: str, options: argparse.Namespace, console: Console) -> Repository:
    return open_repository(
        path,
        OpenRequest(exclusive=True, lock_wait=options.lock_wait),
        storages=FilesystemProvider(),
        locks=FileLockManager.of_this_machine(),
        reporter=console,
    )


# --- info


def _info(path: str, options: argparse.Namespace, console: Console) -> tuple[int, dict[str, object]]:
    from borg_serve_lib.storage.readonly import ReadOnlyProvider

    summary = summarise(path, storages=ReadOnlyProvider(FilesystemProvider()), reporter=console)
    owners = FileLockManager.of_this_machine().lock_for(path).owners()
    committed = None
    if summary.last_segment:
        with suppress(OSError):
            committed = os.stat(f"{path}/{summary.last_segment}").st_mtime
    told = _as_data(summary, owners, committed) if options.json else _as_text(summary, owners, committed)
    return FINDINGS if summary.notes else FINE, told


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


# --- check, compact


def _check(path: str, options: argparse.Namespace, console: Console) -> tuple[int, dict[str, object]]:
    repository = _open(path, options, console)
    try:
        sound = repository.check(repair=options.repair, max_duration=options.max_duration)
    finally:
        repository.close()
    outcome = "no problems found" if not console.findings else "repaired" if sound else "errors found"
    told: dict[str, object] = {"path": path, "outcome": outcome}
    if options.json:
        told["findings"] = console.findings
    return FINDINGS if console.findings else FINE, told


def _compact(path: str, options: argparse.Namespace, console: Console) -> tuple[int, dict[str, object]]:
    repository = _open(path, options, console)
    try:
        if repository.append_only:
            raise UsageError(f"{path} is append-only: nothing may be freed there")
        if not repository.contains(MANIFEST_ID):
            raise UsageError(f"{path} has no manifest: it was never used, or needs borg check --repair")
        before = _bytes_on_disk(path)
        # As clients do: a transaction that changes nothing, to be compacted with.
        repository.put(MANIFEST_ID, bytes(repository.get(MANIFEST_ID)))
        repository.commit(compact=True, threshold=options.threshold / 100, cleanup_commits=options.cleanup_commits)
    finally:
        repository.close()
    freed = before - _bytes_on_disk(path)
    told: dict[str, object] = {"path": path, "freed": freed if options.json else format_size(freed)}
    return FINE, told


def _bytes_on_disk(path: str) -> int:
    folders = os.walk(f"{path}/data")
    return sum(os.path.getsize(f"{folder}/{name}") for folder, _, names in folders for name in names)
