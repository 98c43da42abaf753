"""The help text, made from the table of options."""

from __future__ import annotations

import textwrap

from .option_table import OPTIONS, Option, Section

_WIDTH = 79
_DESCRIPTION_COLUMN = 29

_INTRODUCTION = """\
usage: borg-serve [serve] [options]
       borg-serve explain [options] [--original-command TEXT]
                          [--path PATH]... [--json]
       borg-serve repo info|check|compact [options] PATH
       borg-serve manual man|bash|zsh|fish

Serves Borg repositories to borg 1.x clients over stdin and stdout, as
"borg serve" does. It is not started by hand but by the client through ssh,
mostly as the forced command of a line in authorized_keys:

  command="borg-serve --restrict-to-path /srv/backups/alice",restrict ssh-...

The client's own command then decides the log level, the debug topics and
nothing else.

"explain" serves nothing: it prints what the options let clients do, what
would become of a client's command, and whether a client's path would be
allowed. Its exit status is 1 if the command or a path would be refused.

"repo" is for the host itself: what is in a repository and who has it locked,
whether it is sound, freeing what was deleted; see "borg-serve repo --help".
"manual" prints this as a man page, or what a shell needs to complete words.
"""

_CLOSING = """\
Long options may be cut to a unique beginning; values are given as
"--option VALUE" or "--option=VALUE".
"""


def help_text() -> str:
    """Return the help text, one paragraph per section of the table."""
    listed = (section for section in Section if section is not Section.HIDDEN)
    return "\n".join([_INTRODUCTION, *map(_paragraph, listed), _CLOSING])


def _paragraph(section: Section) -> str:
    options = [option for option in OPTIONS if option.section is section]
    body = _names_only(options) if section is Section.NO_EFFECT else "".join(map(_entry, options))
    return f"{section.value}:\n{body}"


def _names_only(options: list[Option]) -> str:
    # A blank within an item must not be where the line breaks.
    text = ", ".join(_head(option).replace(" ", "\0") for option in options)
    lines = textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ") + "\n"


def _entry(option: Option) -> str:
    head = f"  {_head(option)}"
    indent = " " * _DESCRIPTION_COLUMN
    if len(head) > _DESCRIPTION_COLUMN - 2:
        head += "\n" + indent
    else:
        head = head.ljust(_DESCRIPTION_COLUMN)
    lines = textwrap.wrap(option.description, _WIDTH - _DESCRIPTION_COLUMN, break_on_hyphens=False)
    return head + f"\n{indent}".join(lines) + "\n"


def _head(option: Option) -> str:
    names = sorted(option.names, key=lambda name: (len(name) > 2, option.names.index(name)))
    return "/".join(names) + (f" {option.metavar}" if option.metavar else "")
