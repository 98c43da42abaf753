from __future__ import annotations

from collections.abc import Iterator

import pytest

from borg_serve_lib import errors
from borg_serve_lib.errors import (
    BorgServeError,
    InsufficientFreeSpaceError,
    LockFailed,
    NotPermitted,
    ObjectNotFound,
    StorageQuotaExceeded,
)

# spec: repository-format.md section 23, rpc.md section 6
MODERN_EXIT_CODES = {
    "AlreadyExists": 10,
    "AtticRepository": 11,
    "CheckNeeded": 12,
    "DoesNotExist": 13,
    "InsufficientFreeSpaceError": 14,
    "InvalidRepository": 15,
    "InvalidRepositoryConfig": 16,
    "ObjectNotFound": 17,
    "ParentPathDoesNotExist": 18,
    "PathAlreadyExists": 19,
    "StorageQuotaExceeded": 20,
    "PathPermissionDenied": 21,
    "LockError": 70,
    "LockFailed": 72,
    "LockTimeout": 73,
    "NotLocked": 74,
    "NotMyLock": 75,
    "InvalidRPCMethod": 82,
    "PathNotAllowed": 83,
    "UnexpectedRPCDataFormatFromClient": 85,
    "IntegrityError": 90,
    "FileIntegrityError": 91,
}


def public_errors() -> Iterator[type[BorgServeError]]:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, BorgServeError) and not name.startswith("_"):
            yield value


def made(cls: type[BorgServeError]) -> BorgServeError:
    kinds = {"required": 10, "available": 5, "quota": 5, "used": 6, "errno": 13}
    return cls(**{name: kinds.get(name, f"<{name}>") for name in cls._names})


def test_each_class_of_borg_has_its_exit_code() -> None:
    codes = {cls.wire_class: cls.exit_code for cls in public_errors() if cls.exit_code != 2}
    assert codes == MODERN_EXIT_CODES


@pytest.mark.parametrize("cls", [cls for cls in public_errors() if cls is not BorgServeError])
def test_an_error_words_itself_and_travels_as_text_and_numbers(cls: type[BorgServeError]) -> None:
    error = made(cls)
    assert str(error)
    assert "{" not in str(error)
    assert all(isinstance(argument, (str, int)) for argument in error.wire_args)
    assert error.__dict__.keys() >= set(cls._names)


def test_sizes_travel_as_people_read_them() -> None:
    assert InsufficientFreeSpaceError(2_000_000, 999).wire_args == ("2.00 MB", "999 B")
    assert StorageQuotaExceeded(quota=1000, used=1500).wire_args == ("1.00 kB", "1.50 kB")


def test_an_error_of_the_system_travels_without_the_name_of_the_file() -> None:
    assert NotPermitted(13, "Permission denied", "data/0/1").wire_args == (13, "Permission denied")


def test_clients_get_the_fields_in_the_order_they_expect() -> None:
    assert ObjectNotFound("00", "/repository").wire_args == ("00", "/repository")
    assert LockFailed("/repository/lock", "[Errno 28] No space").wire_args == (
        "/repository/lock",
        "[Errno 28] No space",
    )


def test_braces_in_a_field_are_text() -> None:
    assert str(LockFailed("{x}", "{y}")) == "Failed to create/acquire the lock {x} ({y})."
