"""The values that options take, from text (spec: serve-command.md sections 2.2 and 2.4).

Each function returns the value or raises UsageError, whose sentence names the text and says what to write instead.
"""

from __future__ import annotations

from ..errors import UsageError
from ..limits import MIN_MAX_MEMORY, MIN_STORAGE_QUOTA
from ..reporting import Level

CONFINE = ("auto", "require", "off")
"""When to confine the process: where that is possible, always or not at all, never."""

_SHOWN_LENGTH = 60
_SIZE_SUFFIXES = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_NUMBER_CHARACTERS = frozenset("0123456789+-.eE")
_MOST_MEMORY = 1 << 60
"""Bytes: more than any machine has, and a number that systems take."""

_MAX_OCTAL_DIGITS = 11
_MAX_DECIMAL_DIGITS = 18


def shown(text: str) -> str:
    """Return `text` for a message: quoted, on one line, control and undecodable bytes escaped, cut when long."""
    return repr(text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "...")


def any_text(text: str) -> str:
    """Return `text`: every text is fine."""
    return text


def storage_quota(text: str) -> int:
    """Return the quota in bytes of `500G`, `1.5T`, `10000000` ... (decimal units, upper case); 0 means no limit."""
    return _size(text, MIN_STORAGE_QUOTA)


def memory(text: str) -> int:
    """Return the bytes of memory of `500M`, `1.5G` ..., written as a quota is; 0 means no limit."""
    return min(_size(text, MIN_MAX_MEMORY), _MOST_MEMORY)


def _size(text: str, least: int) -> int:
    number, factor = (text[:-1], _SIZE_SUFFIXES[text[-1]]) if text[-1:] in _SIZE_SUFFIXES else (text, 1)
    try:
        # float also reads nan, inf, blanks, underscores and the digits of all scripts.
        size = float(number) if _NUMBER_CHARACTERS.issuperset(number) else float("not a number")
    except ValueError:
        sentence = f"{shown(text)} is no size; write bytes, or a number with K, M, G, T or P, such as 500G"
        raise UsageError(sentence) from None
    try:
        whole = int(size * factor)
    except OverflowError:
        raise UsageError(f"{shown(text)} is too large for a size") from None
    if whole != 0 and whole < least:
        raise UsageError(f"{shown(text)} is too small; write at least {least // 10**6}M, or 0 for no limit")
    return whole


def umask(text: str) -> int:
    """Return the permission bits (0 to 0o777) of octal text: `022`, `0o27`, `-1` (all bits)."""
    digits = _unsigned(text)
    digits = digits[2:] if digits[:2] in ("0o", "0O") else digits
    if not 0 < len(digits) <= _MAX_OCTAL_DIGITS or not frozenset("01234567").issuperset(digits):
        raise UsageError(f"{shown(text)} is no octal number; write permission bits such as 077 or 022")
    return int(text, 8) & 0o777


def whole_number(text: str) -> int:
    """Return the number of `7`, `+7`, `-7`."""
    digits = _unsigned(text)
    if len(digits) > _MAX_DECIMAL_DIGITS or not (digits.isascii() and digits.isdecimal()):
        raise UsageError(f"{shown(text)} is no whole number")
    return int(text)


def seconds(text: str) -> int:
    """Return the number of seconds of `60`."""
    number = whole_number(text)
    if number < 0:
        raise UsageError(f"{shown(text)} is no time to wait; write a number of seconds, 0 or more")
    return number


def confine(text: str) -> str:
    """Return `text` if it says when to confine the process."""
    if text not in CONFINE:
        raise UsageError(f"{shown(text)} is no way to confine; write one of {', '.join(CONFINE)}")
    return text


def level(text: str) -> Level:
    """Return the level of a name such as `warning`."""
    try:
        return Level[text.upper()]
    except KeyError:
        names = ", ".join(level.name.lower() for level in Level)
        raise UsageError(f"{shown(text)} is no level; write one of {names}") from None


def _unsigned(text: str) -> str:
    return text[1:] if text[:1] in ("+", "-") else text


def topic(text: str) -> str:
    """Return the logger name of a debug topic: without a dot, `T` is `borg.debug.T` (spec: rpc.md section 7.5)."""
    return text if "." in text else f"borg.debug.{text}"
