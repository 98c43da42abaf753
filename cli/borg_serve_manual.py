"""`borg-serve manual`: the man page, and what shells need to complete words; made from the parsers."""

from __future__ import annotations

import argparse
import sys

from borg_serve_tools import parser as repo_parser

import borg_serve_lib
from borg_serve_lib.policy.option_table import OPTIONS, Kind, Option, Section

KINDS = ("man", "bash", "zsh", "fish")
_ASKED_OF_EXPLAIN = ("--original-command", "--path", "--json")

_DESCRIPTION = """\
.PP
borg-serve serves Borg repositories to borg 1.x clients over stdin and stdout, as "borg serve" does. It is started by
the client through ssh, mostly as the forced command of a line in authorized_keys(5). The client's own command then
decides the log level, the debug topics and nothing else.
.PP
"borg-serve explain" prints what the options let clients do, what would become of a client's command, and whether a
client's path would be allowed. "borg-serve repo" is for the host itself."""

_EXIT_STATUS = """\
Of the server: 0, or 2 after an error, 128 and the number of the signal that ended it. Of explain: 1 if something
would be refused. Of repo: 1 if something was found, 2 if it could not be done."""


def main(argv: list[str]) -> int:
    """Print what the words after `borg-serve manual` ask for; return the exit status."""
    if len(argv) != 1 or argv[0] not in KINDS:
        print(f"usage: borg-serve manual {'|'.join(KINDS)}", file=sys.stderr)
        return 2
    print(man_page() if argv[0] == "man" else completion(argv[0]), end="")
    return 0


# --- the man page


def man_page() -> str:
    """Return the man page borg-serve(1), for man or mandoc."""
    lines = [
        f'.TH BORG\\-SERVE 1 "" "borg_serve_lib {borg_serve_lib.__version__}" "User Commands"',
        ".SH NAME",
        "borg\\-serve \\- repository server for BorgBackup",
        ".SH SYNOPSIS",
        ".nf",
        ".B borg\\-serve [serve] [options]",
        ".B borg\\-serve explain [options] [\\-\\-original\\-command TEXT] [\\-\\-path PATH]... [\\-\\-json]",
        ".B borg\\-serve repo info|check|compact [options] PATH",
        f".B borg\\-serve manual {'|'.join(KINDS)}",
        ".fi",
        ".SH DESCRIPTION",
        _DESCRIPTION,
    ]
    for section in Section:
        options = [option for option in OPTIONS if option.section is section]
        if section is Section.HIDDEN or not options:
            continue
        lines.append(f".SH {_roff(section.value).upper()}")
        for option in options:
            lines += [".TP", f".B {_roff(_names(option))}", _roff(option.description) or "No effect."]
    lines.append(".SH TOOLS")
    for name, tool in _tools().items():
        lines += [f".SS borg\\-serve repo {name} [options] PATH", _roff(tool.description or "")]
        for action in _optional(tool):
            head = ", ".join(action.option_strings) + (f" {action.metavar}" if action.metavar else "")
            lines += [".TP", f".B {_roff(head)}", _roff((action.help or "").replace("%%", "%"))]
    lines += [
        ".SH EXIT STATUS",
        _EXIT_STATUS,
        ".SH SEE ALSO",
        ".BR borg (1),",
        ".BR authorized_keys (5)",
    ]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def _names(option: Option) -> str:
    return ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")


def _tools() -> dict[str, argparse.ArgumentParser]:
    parser = repo_parser()
    kinds = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(kinds.choices)


def _optional(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


# --- completion


def words() -> dict[str, list[str]]:
    """Return which words may follow which beginning of a command line: `` -> `serve`, `--append-only` ..."""
    served = [name for option in OPTIONS for name in option.names if option.kind is not Kind.REFUSED and len(name) > 2]
    told = {
        "": ["serve", "explain", "repo", "manual", *served],
        "serve": served,
        "explain": [*served, *_ASKED_OF_EXPLAIN],
        "repo": list(_tools()),
        "manual": list(KINDS),
    }
    for name, tool in _tools().items():
        told[f"repo {name}"] = [word for action in _optional(tool) for word in action.option_strings if len(word) > 2]
    return told


def completion(shell: str) -> str:
    """Return the completion of `borg-serve` for `bash`, `zsh` or `fish`, to be sourced or stored where they look."""
    if shell == "fish":
        return _fish()
    head = "" if shell == "bash" else "autoload -U +X bashcompinit && bashcompinit\n"
    cases = "\n".join(f'        "{beginning}") words="{" ".join(found)}" ;;' for beginning, found in words().items())
    return f"""{head}_borg_serve() {{
    local beginning="" word words current="${{COMP_WORDS[COMP_CWORD]}}"
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$word" in
            serve|explain|manual|repo) [ -z "$beginning" ] && beginning="$word" ;;
            {"|".join(_tools())}) [ "$beginning" = repo ] && beginning="repo $word" ;;
        esac
    done
    case "$beginning" in
{cases}
    esac
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(
        compgen -W "$words" -- "$current"
        case "$current" in -*) ;; *) compgen -f -- "$current" ;; esac
    )
}}
complete -o filenames -F _borg_serve borg-serve
"""


def _fish() -> str:
    lines = []
    for beginning, found in words().items():
        first, _, second = beginning.partition(" ")
        condition = "__fish_use_subcommand" if not first else f"__fish_seen_subcommand_from {second or first}"
        for word in found:
            what = f"-l {word[2:]}" if word.startswith("--") else f"-f -a {word}"
            lines.append(f"complete -c borg-serve -n '{condition}' {what}")
    return "\n".join(lines) + "\n"
