"""What an argument of a call may be. Each check returns the value as handlers want it, or raises InvalidArgument.

Source: spec, rpc.md sections 1.2 and 3.
"""

from __future__ import annotations

from ..errors import InvalidArgument, WrongState
from ..limits import ID_SIZE, MAX_PATH_SIZE, MAX_TEXT_ARGUMENT, MAX_WAIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def object_id(name: str, value: Any) -> bytes:
    """An id: exactly 32 bytes. Another length is the reference's AssertionError."""
    if not isinstance(value, bytes):
        raise InvalidArgument(f"{name} must be bytes")
    if len(value) != ID_SIZE:
        raise WrongState(f"{name} must have {ID_SIZE} bytes, not {len(value)}")
    return value


def optional_id(name: str, value: Any) -> bytes | None:
    """An id, or nil."""
    return None if value is None else object_id(name, value)


def data(name: str, value: Any) -> bytes | memoryview:
    """Bytes of any length."""
    if not isinstance(value, (bytes, memoryview)):
        raise InvalidArgument(f"{name} must be bytes")
    return value


def flag(name: str, value: Any) -> bool:
    """A bool; old clients send 0 and 1 as well."""
    if value not in (0, 1):
        raise InvalidArgument(f"{name} must be true or false")
    return bool(value)


def optional_flag(name: str, value: Any) -> bool | None:
    """A bool, or nil."""
    return None if value is None else flag(name, value)


def number(name: str, value: Any) -> int:
    """An integer of at most 64 bits that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(f"{name} must be a whole number")
    if value < 0:
        raise InvalidArgument(f"{name} must not be negative")
    return value


def optional_number(name: str, value: Any) -> int | None:
    """An integer of at most 64 bits that is not negative, or nil."""
    return None if value is None else number(name, value)


def ratio(name: str, value: Any) -> float:
    """A number to compare a fraction with. Clients pass on any percentage their user gives, above 100 too."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # noqa: PLR0124 - NaN
        raise InvalidArgument(f"{name} must be a number")
    return float(value)


def seconds(name: str, value: Any) -> float:
    """A finite number of seconds that is not negative."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise InvalidArgument(f"{name} must be a number of seconds, 0 or more")
    return min(value, MAX_WAIT)


def optional_seconds(name: str, value: Any) -> float | None:
    """A finite number of seconds that is not negative, or nil for no end."""
    return None if value is None else seconds(name, value)


def path(name: str, value: Any) -> bytes:
    """A path as bytes, without NUL, no longer than any file's."""
    if not isinstance(value, bytes) or b"\0" in value:
        raise InvalidArgument(f"{name} must be a path without NUL")
    if len(value) > MAX_PATH_SIZE:
        raise InvalidArgument(f"{name} must be a path of at most {MAX_PATH_SIZE} bytes")
    return value


def text(name: str, value: Any) -> str:
    """A short text."""
    if not isinstance(value, bytes):
        raise InvalidArgument(f"{name} must be text")
    if len(value) > MAX_TEXT_ARGUMENT:
        raise InvalidArgument(f"{name} must be a text of at most {MAX_TEXT_ARGUMENT} bytes")
    return value.decode("utf-8", "replace")


def anything(name: str, value: Any) -> Any:  # noqa: ARG001 - checks have one signature
    """Whatever it is, the handler looks at it."""
    return value
