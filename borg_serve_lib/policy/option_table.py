"""The options of `borg serve`: one row each (spec: serve-command.md sections 2.1 to 2.3)."""

from __future__ import annotations

from enum import Enum

from ..errors import UsageError
from ..limits import MAX_MEMORY
from ..reporting import Level
from ..values import Value
from . import option_values as values
from .permissions import permissions_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class Kind(Enum):
    """What an option takes and does."""

    FLAG = "takes no value; the last one given wins"
    VALUE = "takes a value; the last one given wins"
    APPEND = "takes a value; values add up"
    HELP = "asks for the help text"
    VERSION = "asks for the version"
    REFUSED = "is known, and never accepted"


class Section(Enum):
    """Where the help text lists an option; the value is the heading."""

    RESTRICTIONS = "What clients may reach and store"
    LOG = "What is logged, on stderr"
    RECORDS = "What the host records"
    GENERAL = "General"
    NO_EFFECT = "Accepted without effect, for the sake of existing command lines"
    HIDDEN = "Not listed"


class Origin(Enum):
    """Where an option comes from, in the order in which the beginning of a name is looked for."""

    COMMON = "every borg command has it"
    SERVE = "borg serve has it"
    OURS = "no borg has it"


class Option(Value):
    """One option.

    `names`: long names and short ones; only options without value have short names. `field`: the field of
    ServeOptions it sets, None for none. `constant`: what an option without value sets it to. `convert`: from the text
    of the value to the field's value, raising UsageError. `origin`: where it comes from.
    """

    names: tuple[str, ...]
    kind: Kind
    section: Section
    description: str
    field: str | None = None
    constant: object = True
    metavar: str = ""
    convert: Callable[[str], object] = values.any_text
    origin: Origin = Origin.COMMON


def _serve(name: str, kind: Kind, description: str, field: str, **more: Any) -> Option:
    row = Option((name,), kind, Section.RESTRICTIONS, description, field, origin=Origin.SERVE)
    return row.evolve(**more)


def _ours(name: str, kind: Kind, description: str, field: str, **more: Any) -> Option:
    return _serve(name, kind, description, field, origin=Origin.OURS, **more)


def _record(name: str, kind: Kind, description: str, field: str, metavar: str = "") -> Option:
    return _ours(name, kind, description, field, metavar=metavar, section=Section.RECORDS)


def _level(level: Level, *names: str) -> Option:
    meaning = f"log from level {level.name.lower()} upwards"
    return Option(names, Kind.FLAG, Section.LOG, meaning, "log_level", constant=level)


def _log_flag(name: str, field: str, description: str) -> Option:
    return Option((name,), Kind.FLAG, Section.LOG, description, field)


def _idle_flag(*names: str) -> Option:
    return Option(names, Kind.FLAG, Section.NO_EFFECT, "")


def _idle_value(name: str, metavar: str, convert: Callable[[str], object] = values.any_text) -> Option:
    return Option((name,), Kind.VALUE, Section.NO_EFFECT, "", metavar=metavar, convert=convert)


OPTIONS: tuple[Option, ...] = (
    _serve(
        "--restrict-to-path",
        Kind.APPEND,
        "allow only repositories at PATH or below it; may be given several times",
        "restrict_to_paths",
        metavar="PATH",
    ),
    _serve(
        "--restrict-to-repository",
        Kind.APPEND,
        "allow only the repository at exactly PATH; may be given several times. If both kinds are given, "
        "both must allow a path",
        "restrict_to_repositories",
        metavar="PATH",
    ),
    _serve(
        "--append-only",
        Kind.FLAG,
        "let clients add and mark as deleted, but remove nothing from disk: no compaction, no destroying",
        "append_only",
    ),
    _ours(
        "--permissions",
        Kind.VALUE,
        "what clients may do: all (default); no-delete: back up, restore, check; write-only: back up; read-only: "
        "restore and check, with nothing written to the repository, not even a lock",
        "permissions",
        metavar="KIND",
        convert=permissions_mode,
    ),
    _ours(
        "--confine",
        Kind.VALUE,
        "let the kernel (Linux, Landlock) deny the server everything outside the restricted paths: auto (default; "
        "where that is possible), require (do not start otherwise), off",
        "confine",
        metavar="WHEN",
        convert=values.confine,
    ),
    _ours(
        "--max-lock-wait",
        Kind.VALUE,
        "let clients wait for a lock for at most SECONDS, whatever they ask for",
        "max_lock_wait",
        metavar="SECONDS",
        convert=values.seconds,
    ),
    _ours(
        "--idle-timeout",
        Kind.VALUE,
        "end a session in which the client has neither sent nor taken a byte for SECONDS (default: 0, never)",
        "idle_timeout",
        metavar="SECONDS",
        convert=values.seconds,
    ),
    _ours(
        "--session-timeout",
        Kind.VALUE,
        "end a session after SECONDS in all (default: 0, never)",
        "session_timeout",
        metavar="SECONDS",
        convert=values.seconds,
    ),
    _ours(
        "--max-memory",
        Kind.VALUE,
        f"refuse what needs more memory than SIZE in one session (default: {MAX_MEMORY // 10**6}M; 0: no limit)",
        "max_memory",
        metavar="SIZE",
        convert=values.memory,
    ),
    _ours(
        "--max-log-level",
        Kind.VALUE,
        "let clients have nothing logged below LEVEL: critical, error, warning, info or debug (default)",
        "max_log_level",
        metavar="LEVEL",
        convert=values.level,
    ),
    _serve(
        "--storage-quota",
        Kind.VALUE,
        "limit what a repository may store, e.g. 500G or 1.5T (decimal units); overrides the quota in its config, "
        "0 lifts it",
        "storage_quota",
        metavar="QUOTA",
        convert=values.storage_quota,
    ),
    Option(
        ("--umask",),
        Kind.VALUE,
        Section.RESTRICTIONS,
        "permission bits that new files do not get, in octal (default: 077)",
        "umask",
        metavar="M",
        convert=values.umask,
    ),
    _level(Level.CRITICAL, "--critical"),
    _level(Level.ERROR, "--error"),
    _level(Level.WARNING, "--warning"),
    _level(Level.INFO, "--info", "--verbose", "-v"),
    _level(Level.DEBUG, "--debug"),
    Option(
        ("--debug-topic",),
        Kind.APPEND,
        Section.LOG,
        "log TOPIC from level debug upwards, whatever the level (without a dot, TOPIC means borg.debug.TOPIC); "
        "may be given several times",
        "debug_topics",
        metavar="TOPIC",
        convert=values.topic,
    ),
    _log_flag("--log-json", "log_json", "log as JSON lines from the start, not only once the client has asked for it"),
    _log_flag("--show-rc", "show_rc", "log the exit status at the end"),
    _log_flag("--show-version", "show_version", "log the version at the start, at level info"),
    _record("--audit-log", Kind.VALUE, "append what happens to FILE, as lines of JSON", "audit_log", "FILE"),
    _record("--syslog", Kind.FLAG, "send what happens to syslog, too", "syslog"),
    _record(
        "--metrics-dir",
        Kind.VALUE,
        "keep figures for Prometheus in DIR, as files for the node exporter",
        "metrics_dir",
        "DIR",
    ),
    _record(
        "--on-event",
        Kind.APPEND,
        "run CMD for each event, which it gets as JSON on its standard input; may be given several times",
        "on_event",
        "CMD",
    ),
    _record("--client-name", Kind.VALUE, "what the client of this line is called in records", "client_name", "NAME"),
    Option(("--help", "-h"), Kind.HELP, Section.GENERAL, "print this help and exit"),
    Option(("--version", "-V"), Kind.VERSION, Section.GENERAL, "print the version and exit"),
    Option(
        ("--lock-wait",),
        Kind.VALUE,
        Section.NO_EFFECT,
        "",
        "lock_wait",
        metavar="SECONDS",
        convert=values.whole_number,
    ),
    _idle_flag("--progress", "-p"),
    _idle_flag("--iec"),
    _idle_flag("--consider-part-files"),
    _idle_value("--remote-path", "PATH"),
    _idle_value("--rsh", "COMMAND"),
    _idle_value("--remote-ratelimit", "RATE", values.whole_number),
    _idle_value("--upload-ratelimit", "RATE", values.whole_number),
    _idle_value("--remote-buffer", "SIZE", values.whole_number),
    _idle_value("--upload-buffer", "SIZE", values.whole_number),
    _idle_value("--debug-profile", "FILE"),
    Option(
        ("--bypass-lock",),
        Kind.REFUSED,
        Section.HIDDEN,
        "a server never works on a repository without its lock; leave the option out",
    ),
)
"""All options, in the order of the help text."""

_BY_NAME = {name: option for option in OPTIONS for name in option.names}


def find_option(name: str) -> Option | None:
    """Return the option that `name` (`--lock-wait`, `--lock-w`, `-v`) means, or None for an unknown one.

    A long name may be cut to a unique beginning; where that fits common options, they alone count (spec:
    serve-command.md section 2.3), and ours count last. Raises UsageError when it fits several.
    """
    exact = _BY_NAME.get(name)
    if exact is not None or not name.startswith("--"):
        return exact
    for origin in Origin:
        found = _only_one(name, (each for each, option in _BY_NAME.items() if option.origin is origin))
        if found is not None:
            return found
    return None


def _only_one(beginning: str, names: Iterable[str]) -> Option | None:
    candidates = sorted(name for name in names if name.startswith(beginning))
    if len(candidates) > 1:
        raise UsageError(f"option {beginning} is ambiguous: it could be {' or '.join(candidates)}; write more of it")
    return _BY_NAME[candidates[0]] if candidates else None
