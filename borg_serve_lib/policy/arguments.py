"""From the words of a command line to settings: which option, which value (spec: serve-command.md 2.2, 2.3)."""

from __future__ import annotations

from ..errors import UsageError
from ..values import Value
from .option_table import Kind, Option, find_option
from .option_values import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMAND = "serve"

_TAKES_VALUE = {Kind.VALUE, Kind.APPEND}


class Setting(Value):
    """An option that was given, and the value its field takes."""

    option: Option
    value: object


class CommandLine:
    """The words of one command line, read once from left to right.

    `lenient`: options that are unknown are left out, with their value, instead of refused. Iterate to get the settings;
    after that `has_command` says whether the word `serve` was there, and `left_out` names what was. Every error is
    UsageError.
    """

    def __init__(self, words: Iterable[str], *, lenient: bool) -> None:
        self._words = list(words)
        self._words.reverse()
        self._lenient = lenient
        self.has_command = False
        self.left_out: list[str] = []

    def __iter__(self) -> Iterator[Setting]:
        while self._words:
            word = self._words.pop()
            if not _is_option(word):
                self._take_word(word)
            elif word.startswith("--"):
                yield from self._read_long(word)
            else:
                yield from self._read_cluster(word)

    def _take_word(self, word: str) -> None:
        if word == COMMAND and not self.has_command:
            self.has_command = True
        elif self.has_command:
            raise UsageError(f"{shown(word)} is one word too many: after {COMMAND} come options only")
        else:
            raise UsageError(f"{shown(word)} is no command of this server: it knows {COMMAND} alone")

    def _read_long(self, word: str) -> Iterator[Setting]:
        name, has_value, text = word.partition("=")
        option = find_option(name)
        if option is None:
            self._leave_out(name, may_have_value=not has_value)
        elif option.kind not in _TAKES_VALUE:
            if has_value:
                raise UsageError(f"option {name} takes no value; leave out {shown('=' + text)}")
            yield _flag(option)
        else:
            yield _value(option, text if has_value else self._next_value(name))

    def _read_cluster(self, word: str) -> Iterator[Setting]:
        for position, letter in enumerate(word[1:], start=1):
            option = find_option(f"-{letter}")
            if option is None:
                # Whatever follows the letter of an unknown option may be its value.
                self._leave_out(f"-{letter}", may_have_value=position == len(word) - 1)
                return
            yield _flag(option)

    def _leave_out(self, name: str, *, may_have_value: bool) -> None:
        if not self._lenient or not _has_the_shape_of_a_name(name):
            raise UsageError(f"option {shown(name)} is unknown" + ("" if self._lenient else "; see --help"))
        self.left_out.append(name)
        if may_have_value and self._words and self._can_be_left_out(self._words[-1]):
            self._words.pop()

    def _can_be_left_out(self, word: str) -> bool:
        return not _is_option(word) and (self.has_command or word != COMMAND)

    def _next_value(self, name: str) -> str:
        if not self._words or _is_option(self._words[-1]) or self._words[-1] == "--":
            raise UsageError(f"option {name} needs a value; one that begins with a dash goes like this: {name}=VALUE")
        return self._words.pop()


def _is_option(word: str) -> bool:
    return word.startswith("-") and word not in ("-", "--") and not _is_negative_number(word)


def _is_negative_number(word: str) -> bool:
    whole, dot, fraction = word[1:].partition(".")
    if not dot:
        return _is_digits(whole)
    return _is_digits(fraction) and (whole == "" or _is_digits(whole))


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _has_the_shape_of_a_name(name: str) -> bool:
    letters = name.replace("-", "").replace("_", "")
    return letters.isascii() and letters.isalnum()


def _flag(option: Option) -> Setting:
    if option.kind is Kind.REFUSED:
        raise UsageError(f"option {option.names[0]} is refused: {option.description}")
    return Setting(option, option.constant)


def _value(option: Option, text: str) -> Setting:
    try:
        return Setting(option, option.convert(text))
    except UsageError as error:
        raise UsageError(f"option {option.names[0]}: {error.detail}") from None
