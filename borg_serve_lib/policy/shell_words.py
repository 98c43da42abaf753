"""A command line's words, by the quoting rules of the POSIX shell (spec: serve-command.md section 3.1, step 3)."""

from __future__ import annotations

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANKS = " \t\r\n"


def split_words(line: str) -> list[str]:
    """Return the words of `line`: quotes and backslashes are honoured, nothing is expanded, `#` and `;` are text.

    Raises UsageError for a quote that is not closed or a backslash at the end.
    """
    words = []
    characters = iter(line)
    for character in characters:
        if character not in _BLANKS:
            words.append(_read_word(character, characters))
    return words


def _read_word(character: str, rest: Iterator[str]) -> str:
    pieces: list[str] = []
    while character and character not in _BLANKS:
        if character == "'":
            pieces.extend(_read_single_quoted(rest))
        elif character == '"':
            pieces.extend(_read_double_quoted(rest))
        elif character == "\\":
            pieces.append(_next(rest, "a backslash ends it"))
        else:
            pieces.append(character)
        character = next(rest, "")
    return "".join(pieces)


def _read_single_quoted(rest: Iterator[str]) -> Iterator[str]:
    while (character := _next(rest, "a quote in it is not closed")) != "'":
        yield character


def _read_double_quoted(rest: Iterator[str]) -> Iterator[str]:
    while (character := _next(rest, "a quote in it is not closed")) != '"':
        if character == "\\":
            escaped = _next(rest, "a quote in it is not closed")
            yield escaped if escaped in '"\\' else character + escaped
        else:
            yield character


def _next(rest: Iterator[str], missing: str) -> str:
    character = next(rest, "")
    if not character:
        raise UsageError(f"the command cannot be read: {missing}")
    return character
