"""The command line of the server, as a pure function over its words (spec: serve-command.md section 2)."""

from __future__ import annotations

from ..errors import UsageError
from ..limits import MAX_MEMORY
from ..reporting import Level
from ..values import Value
from .arguments import CommandLine
from .option_table import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias


class ServeOptions(Value):
    """What a server was told on its command line. The defaults are those of `borg serve` without options.

    `storage_quota`: bytes, 0 lifts the limit of the repository's config, None leaves it. `umask`: 0 to 0o777.
    `debug_topics`: logger names. `lock_wait`: seconds, without effect (spec: serve-command.md section 3.5).
    `permissions`: one of permissions.MODES. `max_lock_wait`: seconds that a client may wait for a lock at most, None
    for as long as it likes. `max_log_level`: the lowest level that a client may ask for. `confine`: one of
    option_values.CONFINE. `idle_timeout`, `session_timeout`: seconds, 0 for no limit. `max_memory`: bytes of data that
    serve_process may take, 0 for no limit. `audit_log`, `metrics_dir`: paths, None for none. `on_event`: shell
    commands. `client_name`: what records call the client.
    """

    restrict_to_paths: tuple[str, ...] = ()
    restrict_to_repositories: tuple[str, ...] = ()
    append_only: bool = False
    permissions: str = "all"
    max_lock_wait: int | None = None
    max_log_level: Level = Level.DEBUG
    confine: str = "auto"
    idle_timeout: int = 0
    session_timeout: int = 0
    max_memory: int = MAX_MEMORY
    storage_quota: int | None = None
    umask: int = 0o077
    log_level: Level = Level.WARNING
    debug_topics: tuple[str, ...] = ()
    lock_wait: int | None = None
    log_json: bool = False
    show_rc: bool = False
    show_version: bool = False
    audit_log: str | None = None
    syslog: bool = False
    metrics_dir: str | None = None
    on_event: tuple[str, ...] = ()
    client_name: str = ""

    @property
    def records(self) -> bool:
        """Whether the host wants records of what happens."""
        return bool(self.audit_log or self.syslog or self.metrics_dir or self.on_event)


class HelpRequested(Value):
    """The command line asks for the help text."""


class VersionRequested(Value):
    """The command line asks for the version."""


CommandLineMeaning: TypeAlias = ServeOptions | HelpRequested | VersionRequested


def parse_serve_arguments(argv: Sequence[str]) -> CommandLineMeaning:
    """Return what `argv` (without the program's name; the word `serve` may be left out) means.

    Raises UsageError, with one line that names the word at fault and says what to write instead.
    Source: spec, serve-command.md section 2.
    """
    if any("\0" in word for word in argv):
        raise UsageError("the command line contains a NUL byte")
    return collect_options(CommandLine(argv, lenient=False))


def collect_options(line: CommandLine) -> CommandLineMeaning:
    """Return what all of `line` means. A request for help or version ends the reading, as in borg."""
    fields: dict[str, Any] = {}
    lists: dict[str, list[object]] = {}
    for setting in line:
        option = setting.option
        if option.kind is Kind.HELP:
            return HelpRequested()
        if option.kind is Kind.VERSION:
            return VersionRequested()
        if option.field is None:
            continue
        if option.kind is Kind.APPEND:
            lists.setdefault(option.field, []).append(setting.value)
        else:
            fields[option.field] = setting.value
    fields.update((name, tuple(given)) for name, given in lists.items())
    return ServeOptions(**fields)


def render_help() -> str:
    """Return the help text, at most 80 columns wide."""
    from .help_text import help_text

    return help_text()
