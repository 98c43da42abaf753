"""`borg-serve repo`: what a host does with its repositories, without their keys."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from borg_serve_account import account_name, become_owner
from borg_serve_console import Console, print_lines, printable

from borg_serve_lib import (
    BorgServeError,
    FileLockManager,
    FilesystemProvider,
    OpenRequest,
    Reporter,
    Repository,
    ServeOptions,
    UsageError,
    open_repository,
)
from borg_serve_lib.engine.summary import summarise
from borg_serve_lib.errors import IntegrityError
from borg_serve_lib.events.session import RepositoryOpened
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.policy.option_table import OPTIONS, Kind
from borg_serve_lib.reporting import FanOut, Peer
from borg_serve_lib.sinks.chosen import chosen_sinks
from borg_serve_lib.storage.readonly import ReadOnlyProvider
from borg_serve_lib.units import format_size

FINE, FINDINGS, FAILED, INTERRUPTED = 0, 1, 2, 130
_UMASK = 0o077
"""That of the server (spec: serve-command.md section 2.4)."""
RECORDS = tuple(option for option in OPTIONS if option.field in ("audit_log", "metrics_dir", "syslog"))
"""Those of the server's options that a tool has, too."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the words after `borg-serve repo`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("path", metavar="PATH", help="directory of the repository")
    common.add_argument("--json", action="store_true", help="print one JSON object instead of text for people")
    locked = argparse.ArgumentParser(add_help=False)
    locked.add_argument(
        "--lock-wait", metavar="SECONDS", type=_seconds, default=1, help="wait for a lock that long (default: 1)"
    )
    for option in RECORDS:
        if option.kind is Kind.FLAG:
            locked.add_argument(option.names[0], action="store_true", help=option.description)
        else:
            locked.add_argument(option.names[0], metavar=option.metavar, help=option.description)
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


def main(argv: list[str]) -> int:
    """Do what the words after `borg-serve repo` ask for; return the exit status."""
    options = parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    os.umask(_UMASK)
    path = os.path.realpath(options.path)
    console = Console(quiet=options.json)
    tool: Callable[..., tuple[int, dict[str, object]]] = {"info": _info, "check": _check, "compact": _compact}[
        options.what
    ]
    try:
        become_owner(path)
        status, told = tool(path, options, console)
    except BorgServeError as error:
        if options.json:
            print(json.dumps({"path": path, "error": str(error)}))
        else:
            print(f"borg-serve: {printable(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("borg-serve: interrupted; the lock was given back", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(told))
    else:
        print_lines(told)
    return status


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of signal handlers
    raise KeyboardInterrupt


@contextmanager
def _opened(path: str, options: argparse.Namespace, console: Console) -> Iterator[Repository]:
    """Open the repository, with all that happens told to `console` and to the records that `options` ask for."""
    with ExitStack() as stack:
        reporter = FanOut([console, *_records(options, console, stack)])
        request = OpenRequest(exclusive=True, lock_wait=options.lock_wait)
        locks = FileLockManager.of_this_machine()
        repository = open_repository(path, request, storages=FilesystemProvider(), locks=locks, reporter=reporter)
        stack.callback(repository.close)
        reporter.report(RepositoryOpened(path, "exclusive"))
        yield repository


def _records(options: argparse.Namespace, console: Console, stack: ExitStack) -> Iterator[Reporter]:
    """Yield what makes the records, as of a session of this account; `stack` closes it."""
    wanted = ServeOptions(**{option.field: getattr(options, option.field) for option in RECORDS if option.field})
    peer = Peer(os.urandom(6).hex(), account_name(), client=f"borg-serve repo {options.what}")
    for sink in chosen_sinks(wanted, complain=lambda why: console.note([why])):
        stack.callback(sink.close)
        yield sink.for_peer(peer)


def _info(path: str, options: argparse.Namespace, console: Console) -> tuple[int, dict[str, object]]:
    from borg_serve_info import info

    notes, told = info(path, console, as_data=options.json)
    return FINDINGS if notes else FINE, told


def _check(path: str, options: argparse.Namespace, console: Console) -> tuple[int, dict[str, object]]:
    with _opened(path, options, console) as repository:
        sound = repository.check(repair=options.repair, max_duration=options.max_duration)
        if not console.findings and not options.repair:
            # Hints say nothing of data, and a check has no need of them: but somebody should know.
            storages = ReadOnlyProvider(FilesystemProvider())
            console.note(summarise(path, storages=storages, reporter=Reporter()).notes)
    outcome = "no problems found" if not console.notes else "sound, with notes"
    if console.findings:
        outcome = "repaired" if options.repair and sound else "errors found"
    return _told(console, options, {"path": path, "outcome": outcome})


def _told(console: Console, options: argparse.Namespace, told: dict[str, object]) -> tuple[int, dict[str, object]]:
    """Return the exit status, and `told` with what a program is to know besides: a person has seen it on stderr."""
    found = {"findings": console.findings, "notes": console.notes}
    return FINDINGS if any(found.values()) else FINE, told | found if options.json else told


def _compact(path: str, options: argparse.Namespace, console: Console) -> tuple[int, dict[str, object]]:
    with _opened(path, options, console) as repository:
        if repository.append_only:
            raise UsageError(f"{path} is append-only: nothing may be freed there")
        if not repository.contains(MANIFEST_ID):
            raise UsageError(f"{path} has no manifest: it was never used, or needs borg check --repair")
        before = _bytes_on_disk(path)
        try:
            _compact_opened(repository, options.threshold / 100, cleanup_commits=options.cleanup_commits)
        except IntegrityError:
            if not console.findings:  # else it is a segment that was left as it is, and told of
                raise
    # Index and hints are no part of it; what was copied for the sake of a damaged segment may outweigh what went.
    freed = max(0, before - _bytes_on_disk(path))
    return _told(console, options, {"path": path, "freed": freed if options.json else format_size(freed)})


def _compact_opened(repository: Repository, threshold: float, *, cleanup_commits: bool) -> None:
    if repository.has_to_compact(threshold, cleanup_commits):
        # As clients do: a transaction that changes nothing, to be compacted with.
        repository.put(MANIFEST_ID, bytes(repository.get(MANIFEST_ID)))
        repository.commit(compact=True, threshold=threshold, cleanup_commits=cleanup_commits)


def _bytes_on_disk(path: str) -> int:
    folders = os.walk(f"{path}/data")
    return sum(os.path.getsize(f"{folder}/{name}") for folder, _, names in folders for name in names)
