"""Errors as replies: every error of the library, in both formats."""

from __future__ import annotations

import os
from typing import Any

import msgpack
import pytest

from borg_serve_lib import errors
from borg_serve_lib.errors import BorgServeError
from borg_serve_lib.wire.calls import Call
from borg_serve_lib.wire.failures import error_reply

NAMED = Call(b"\x07", "open", {}, named=True)
OLD = Call(b"\x07", "open", {}, named=False)

# Class -> how many arguments clients use (spec: rpc.md section 6.2; `loc` is their own).
USED_BY_CLIENTS = {
    "Error": 1,
    "AlreadyExists": 0,
    "AtticRepository": 1,
    "CheckNeeded": 0,
    "DoesNotExist": 0,
    "InsufficientFreeSpaceError": 2,
    "InvalidRepository": 0,
    "InvalidRepositoryConfig": 2,
    "ObjectNotFound": 1,
    "ParentPathDoesNotExist": 1,
    "PathAlreadyExists": 1,
    "StorageQuotaExceeded": 2,
    "PathPermissionDenied": 1,
    "LockFailed": 2,
    "LockTimeout": 1,
    "NotLocked": 1,
    "NotMyLock": 1,
    "InvalidRPCMethod": 1,
    "PathNotAllowed": 1,
    "IntegrityError": 1,
}

SHOWS_TRACE = {"CheckNeeded", "ObjectNotFound", "IntegrityError", "FileIntegrityError", "LockFailed", "NotLocked"} | {
    "NotMyLock"
}


def samples() -> list[BorgServeError]:
    found, kinds = [], [BorgServeError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        hints = {name: hint for base in kind.__mro__ for name, hint in getattr(base, "__annotations__", {}).items()}
        fields = {name: 7 if hint == "int" else f"<{name}>" for name, hint in hints.items() if "ClassVar" not in hint}
        if fields and not kind.__name__.startswith("_"):
            found.append(kind(**fields))
    return found


SAMPLES = samples()


def unpacked(reply: bytes) -> Any:
    return msgpack.unpackb(reply, raw=True, use_list=True, strict_map_key=False)


def test_there_is_a_sample_of_every_error() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BorgServeError)}
    kinds = {kind for kind in kinds if not kind.__name__.startswith("_")} - {BorgServeError}
    assert kinds <= {type(sample) for sample in SAMPLES}
    assert {sample.wire_class for sample in SAMPLES} >= USED_BY_CLIENTS.keys()


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_a_named_reply_has_all_fields_clients_need(error: BorgServeError) -> None:
    reply = unpacked(error_reply(NAMED, error))
    assert list(reply) == [
        b"i",
        b"exception_class",
        b"exception_args",
        b"exception_full",
        b"exception_short",
        b"exception_trace",
        b"sysinfo",
    ]
    assert reply[b"i"] == 7
    assert reply[b"exception_class"] == error.wire_class.encode()
    assert reply[b"exception_full"] == reply[b"exception_short"] == [str(error).encode()]
    assert reply[b"exception_trace"] is (error.wire_class in SHOWS_TRACE)
    assert reply[b"sysinfo"] == b""
    arguments = reply[b"exception_args"]
    used = USED_BY_CLIENTS.get(error.wire_class, 0)
    assert len(arguments) >= used
    assert all(isinstance(argument, bytes) for argument in arguments[:used])


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_a_positional_reply_has_the_class_and_a_text(error: BorgServeError) -> None:
    assert unpacked(error_reply(OLD, error)) == [1, 7, error.wire_class.encode(), str(error).encode()]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_no_error_is_a_type_error_which_would_make_old_clients_open_again(error: BorgServeError) -> None:
    assert error.wire_class != "TypeError"


def test_a_path_that_is_no_utf_8_is_told_with_replacement_characters() -> None:
    error = errors.DoesNotExist(os.fsdecode(b"/srv/\xff"))
    for call in (NAMED, OLD):
        error_reply(call, error).decode("utf-8", "surrogateescape").encode("utf-8", "surrogateescape")
    reply = unpacked(error_reply(NAMED, error))
    assert reply[b"exception_args"] == ["/srv/\ufffd".encode()]
    assert reply[b"exception_short"] == ["Repository /srv/\ufffd does not exist.".encode()]
    assert unpacked(error_reply(OLD, error))[3] == "Repository /srv/\ufffd does not exist.".encode()


def test_a_reply_is_byte_by_byte_what_msgpack_makes_of_it_in_the_old_format() -> None:
    error = errors.NoSpace(28, "No space left on device", "data/0/1")
    fields = {
        "i": 7,
        "exception_class": "OSError",
        "exception_args": [28, "No space left on device"],
        "exception_full": [str(error)],
        "exception_short": [str(error)],
        "exception_trace": False,
        "sysinfo": "",
    }
    assert error_reply(NAMED, error) == msgpack.packb(fields, use_bin_type=False)
