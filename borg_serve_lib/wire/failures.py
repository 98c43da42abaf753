"""Errors as replies that clients rebuild. Source: spec, rpc.md section 6."""

from __future__ import annotations

from ..errors import BorgServeError
from .calls import Call, pack
from .text import valid_text


def error_reply(call: Call, error: BorgServeError) -> bytes:
    """Return the reply to a call that failed. It says what is wrong and nothing of where in our code that was."""
    wire_class = error.wire_class
    sentence = valid_text(str(error))
    if not call.named:
        return b"\x94\x01" + call.msgid + pack(wire_class) + pack(sentence)
    fields = {
        "exception_class": wire_class,
        "exception_args": [valid_text(arg) if isinstance(arg, str) else arg for arg in error.wire_args],
        "exception_full": [sentence],
        "exception_short": [sentence],
        "exception_trace": error.shows_trace,
        "sysinfo": "",
    }
    parts = [pack(name) + pack(value) for name, value in fields.items()]
    return b"\x87\xa1i" + call.msgid + b"".join(parts)
