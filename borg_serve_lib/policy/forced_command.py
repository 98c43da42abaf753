"""What a client may decide when a forced command is in place (spec: serve-command.md section 3)."""

from __future__ import annotations

from ..errors import UsageError
from ..limits import MAX_ORIGINAL_COMMAND
from ..reporting import Level
from .arguments import CommandLine
from .option_values import shown
from .options import HelpRequested, ServeOptions, VersionRequested, collect_options
from .shell_words import split_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

CLIENT_DECIDES: Final = ("log_level", "debug_topics", "lock_wait")
"""The fields of ServeOptions that come from the client, its defaults included; all others are the host's own.

Source: spec, serve-command.md section 3.2, the column of 1.4.
"""


def resolve_options(forced: ServeOptions, original_command: str | None) -> ServeOptions:
    """Return the options that hold when the host's are `forced` and the client asked for `original_command`.

    `original_command`: the value of SSH_ORIGINAL_COMMAND, None when there is none: then `forced` holds as it is.
    Nothing of it is ever executed. Raises UsageError, in one line, for a command that is not a readable `borg serve`.
    Source: spec, serve-command.md sections 3.1 to 3.3, with its recommendations.
    """
    if original_command is None:
        return forced
    requested = parse_client_command(original_command)
    return within_limits(forced.evolve(**{field: getattr(requested, field) for field in CLIENT_DECIDES}))


def within_limits(options: ServeOptions) -> ServeOptions:
    """Return `options` with no more logged than the host lets clients have."""
    if options.log_level >= options.max_log_level and not options.debug_topics:
        return options
    topics = options.debug_topics if options.max_log_level <= Level.DEBUG else ()
    return options.evolve(log_level=max(options.log_level, options.max_log_level), debug_topics=topics)


def parse_client_command(command: str) -> ServeOptions:
    """Return the options of a client's `borg serve` command; options unknown here are left out.

    All other options are checked as if they counted. Raises UsageError.
    """
    if "\0" in command:
        raise UsageError("the client's command contains a NUL byte")
    if len(command) > MAX_ORIGINAL_COMMAND:
        raise UsageError(f"the client's command is longer than {MAX_ORIGINAL_COMMAND} characters")
    try:
        return _parse(split_client_command(command))
    except UsageError as error:
        raise UsageError(f"the client's command {shown(command)} is refused: {error.detail}") from None


def split_client_command(command: str) -> list[str]:
    """Return the words of a client's command, the program's name first; environment assignments are left out."""
    return _without_assignments(split_words(command))


def _without_assignments(words: list[str]) -> list[str]:
    for position, word in enumerate(words):
        if "=" not in word:
            return words[position:]
    return []


def _parse(words: list[str]) -> ServeOptions:
    # The first word is the name of the program, whatever it is.
    line = CommandLine(words[1:], lenient=True)
    meaning = collect_options(line)
    if isinstance(meaning, HelpRequested | VersionRequested):
        raise UsageError("help and version are for the server's own command line")
    if not line.has_command:
        raise UsageError("this server can only be asked for `borg serve`")
    return meaning
