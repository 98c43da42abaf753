"""One server process for one client, as sshd starts it: confined, serving stdin and stdout, then its exit status."""

from __future__ import annotations

import os

from .errors import ConfinementImpossible, UsageError
from .policy.forced_command import resolve_options
from .policy.paths import PathPolicy
from .policy.permissions import READ_ONLY
from .reporting import FanOut, Peer
from .server import Server, path_resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .locking.identity import Identity
    from .policy.access import AccessPolicy
    from .policy.explanation import Explanation
    from .policy.homes import Homes
    from .policy.options import ServeOptions
    from .reporting import Event, Reporter

_STDIN, _STDOUT, _STDERR = range(3)
_FAULT = 2

_TOPICS_ASKED_FOR = ("borg.output.show-version", "borg.output.show-rc")
"""Told at any level: their events are reported only if an option asks for them."""


def serve_process(
    forced: ServeOptions,
    *,
    original_command: str | None,
    homes: Homes,
    borg_host_id: str | None = None,
    user: str = "",
    client_address: str = "",
    modern_exit_codes: bool = False,
    access: AccessPolicy | None = None,
    reporter: Reporter | None = None,
) -> int:
    """Serve the one client at stdin and stdout, with the repositories on this machine's disks; return the exit status.

    The process is confined, and its memory limited, before it looks at anything that comes from the client. `forced`:
    the host's own options. `original_command`: what the client asked for, see resolve_options. `borg_host_id`: the host
    part of lock names, None for the machine's own. `user`, `client_address`: whom others are told of who wait for a
    lock of this process, unless `forced` has a name for the client, which is told instead of the account.
    `modern_exit_codes`: whether faults have statuses of their own (spec: serve-command.md section 10). `access`: what
    clients may do of what the options permit. `reporter`: is told what happens, beside the client's log. Raises
    UsageError for options that cannot be enforced, and for a command that is refused.
    """
    from time import time

    from .confinement.memory import limit_memory
    from .locking.identity import Identity
    from .locking.manager import FileLockManager
    from .storage.places import FilesystemProvider
    from .transports.linewriter import LineWriter
    from .transports.stdio import serve_stdio
    from .transports.watch import TimeLimits
    from .wire.loglines import ClientLog

    _occupy_standard_descriptors()
    cwd = current_directory()
    paths = PathPolicy.from_options(forced, cwd=cwd, realpath=os.path.realpath)
    identity = Identity(borg_host_id, user=user, client=client_address)
    reporter = _with_records(forced, reporter)
    if forced.max_memory:
        limit_memory(forced.max_memory)
    outcome = _confine(forced, paths, identity)
    peer = Peer(os.urandom(6).hex(), user, client_address, forced.client_name)
    options = _wanted_options(forced, original_command, reporter, peer)
    writer = LineWriter(_STDERR)
    log = ClientLog(
        writer,
        level=options.log_level,
        topics=(*options.debug_topics, *_TOPICS_ASKED_FOR),
        json=options.log_json,
        now=time,
    )
    if outcome is not None:
        FanOut([log] if reporter is None else [log, reporter.for_peer(peer)]).report(outcome)
    server = Server(
        options,
        paths=paths,
        resolver=path_resolver(homes, cwd, paths),
        storages=FilesystemProvider(paths.trees),
        locks=FileLockManager.of_this_machine(identity, reporter=log),
        access=access,
        reporter=reporter,
    )
    if options.show_version:
        _show_version(log)
    limits = TimeLimits(idle=options.idle_timeout or None, session=options.session_timeout or None)
    connection = server.connect(log, user=user, address=client_address, client=forced.client_name, session=peer.session)
    status = serve_stdio(connection, stdin=_STDIN, stdout=_STDOUT, limits=limits, ending=writer.hurry, exits=True)
    status = status if modern_exit_codes else _classic(status)
    if options.show_rc:
        _show_status(log, status)
    return status


def _wanted_options(
    forced: ServeOptions, original_command: str | None, reporter: Reporter | None, peer: Peer
) -> ServeOptions:
    """Return the options that hold for what the client asked for. Raises UsageError, which the host is told of."""
    try:
        return resolve_options(forced, original_command)
    except UsageError as error:
        from .events.process import CommandRefused
        from .policy.option_values import shown

        if reporter is not None:
            reporter.for_peer(peer).report(CommandRefused(shown(original_command or ""), error.detail))
        raise


def _confine(options: ServeOptions, paths: PathPolicy, identity: Identity) -> Event | None:
    """Confine this process if `options` say so; return what to tell of it. Raises UsageError."""
    if options.confine == "off":
        return None
    from .confinement.landlock import Landlock
    from .confinement.process import confine_process
    from .events.process import Confined, NotConfined

    writable, strictly = options.permissions != READ_ONLY, options.confine == "require"
    if writable and paths.restricts:
        identity.settle()
    try:
        return Confined(tuple(confine_process(Landlock(), paths.trees, writable=writable, strictly=strictly)))
    except ConfinementImpossible as error:
        if strictly:
            raise UsageError(f"option --confine=require cannot be kept: {error.detail}") from None
        return NotConfined(error.detail)


def _with_records(options: ServeOptions, reporter: Reporter | None) -> Reporter | None:
    """Return what takes the events for `reporter` and for the records that the host wants.

    A record that cannot be kept is told to syslog, at each session, and stops no backup; the client learns nothing.
    """
    if not options.records:
        return reporter
    from .sinks.chosen import chosen_sinks
    from .sinks.hostlog import tell_host
    from .sinks.keeper import start_keeper

    def complain(why: str) -> None:
        tell_host(f"{why}; the session is served without it")

    try:
        relay = start_keeper(lambda: chosen_sinks(options, complain=complain))
    except (OSError, UsageError) as error:
        tell_host(f"no records are kept of this session: {error}")
        return reporter
    return FanOut([relay] if reporter is None else [reporter, relay])


def _occupy_standard_descriptors() -> None:
    """Let no file of a repository get the number that log lines or replies are written to."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the one that is missing.
            os.open(os.devnull, os.O_RDWR)


def _classic(status: int) -> int:
    from .transports.stdio import SIGNALLED

    return _FAULT if 0 < status < SIGNALLED else status


def _show_version(log: Reporter) -> None:
    from ._version import __version__
    from .events.process import VersionShown

    log.report(VersionShown(__version__))


def _show_status(log: Reporter, status: int) -> None:
    from .events.process import EndedBadly, EndedWell

    log.report(EndedBadly(status) if status else EndedWell(status))


def explain_command_line(argv: Sequence[str], *, homes: Homes) -> Explanation:
    """Return what a server with the options in `argv` would allow, without serving anything.

    `argv`: the words after `explain`, see the help text; if they ask for help, that is returned. Raises UsageError.
    """
    from .policy.explanation import Explanation, explain, parse_explain_arguments
    from .policy.options import render_help
    from .sinks.chosen import unusable_records

    question = parse_explain_arguments(argv)
    if question is None:
        return Explanation(render_help(), allowed=True)
    cwd = current_directory()
    paths = PathPolicy.from_options(question.options, cwd=cwd, realpath=os.path.realpath)
    resolve = path_resolver(homes, cwd, paths)
    try:
        kept, unconfined = _would_keep(question.options, paths), ""
    except ConfinementImpossible as error:
        kept, unconfined = (), error.detail
    unrecorded = unusable_records(question.options)
    return explain(question, paths, resolve, kept=kept, unconfined=unconfined, unrecorded=unrecorded)


def _would_keep(options: ServeOptions, paths: PathPolicy) -> tuple[str, ...]:
    """Return what a server would be confined to. Raises ConfinementImpossible."""
    from .confinement.landlock import Landlock
    from .confinement.process import reachable_trees

    if options.confine == "off":
        return ()
    Landlock().demand_possible()
    return tuple(reachable_trees(paths.trees, strictly=options.confine == "require"))


def current_directory() -> str:
    """Return the absolute current directory. Raises UsageError when there is none any more."""
    try:
        return os.getcwd()
    except OSError as error:
        raise UsageError(f"the current directory cannot be used: {error.strerror}; start in another one") from None
