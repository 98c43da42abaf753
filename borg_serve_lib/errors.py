"""All errors this library raises: what borg clients rebuild from them is class data.

A client rebuilds an error from `wire_class` and `wire_args` and words it itself; what it does not know it shows as
`str(error)`. Source: spec, rpc.md section 6 and repository-format.md section 23.
"""

from __future__ import annotations

from .units import format_size
from .values import FieldsSignature, bound_fields, dataclass_transform, declared_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar


@dataclass_transform()
class BorgServeError(Exception):
    """Root of all errors of this library. Subclasses declare their data as fields, given by position or name.

    `wire_class`: the class name a client is told. `exit_code`: of a process that ends with it, with
    BORG_EXIT_CODES=modern. `shows_trace`: whether a borg client adds a traceback *of its own* when it reports it.
    `sentence`: a format string over the fields of the error.
    """

    __signature__ = FieldsSignature()

    wire_class: ClassVar[str] = "Error"
    exit_code: ClassVar[int] = 2
    shows_trace: ClassVar[bool] = False
    sentence: ClassVar[str] = "{detail}"

    _names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._names = declared_fields(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = bound_fields(type(self), self._names, args, kwargs)
        super().__init__(*values.values())
        self.__dict__.update(values)

    @property
    def wire_args(self) -> tuple[str | int, ...]:
        """The arguments a client is told, in the order it expects them (spec: rpc.md section 6.2)."""
        return tuple(self.__dict__[name] for name in self._names)

    def __str__(self) -> str:
        return self.sentence.format(**self.__dict__)


# --- the repository -------------------------------------------------------------------------------------------------


class _PathError(BorgServeError):
    path: str


class AlreadyExists(_PathError):
    """A repository is at `path`, or a parent directory `path` is one."""

    wire_class = "AlreadyExists"
    exit_code = 10
    sentence = "A repository already exists at {path}."


class AtticRepository(_PathError):
    """The newest segment has Attic's magic."""

    wire_class = "AtticRepository"
    exit_code = 11
    sentence = 'Attic repository detected. Please run "borg upgrade {path}".'


class CheckNeeded(_PathError):
    """The files contradict each other in a way only a check can judge."""

    wire_class = "CheckNeeded"
    exit_code = 12
    shows_trace = True
    sentence = 'Inconsistency detected. Please run "borg check {path}".'


class DoesNotExist(_PathError):
    """Nothing is at `path`."""

    wire_class = "DoesNotExist"
    exit_code = 13
    sentence = "Repository {path} does not exist."


class InsufficientFreeSpaceError(BorgServeError):
    """The file system has less room than a commit may need. Both fields in bytes."""

    wire_class = "InsufficientFreeSpaceError"
    exit_code = 14
    required: int
    available: int

    @property
    def wire_args(self) -> tuple[str | int, ...]:
        return format_size(self.required), format_size(self.available)

    def __str__(self) -> str:
        required, available = self.wire_args
        return f"Insufficient free space to complete transaction (required: {required}, available: {available})."


class InvalidRepository(_PathError):
    """What is at `path` is not a repository."""

    wire_class = "InvalidRepository"
    exit_code = 15
    sentence = "{path} is not a valid repository. Check repo config."


class InvalidRepositoryConfig(BorgServeError):
    """The config file of the repository at `path` cannot be used, for `reason`."""

    wire_class = "InvalidRepositoryConfig"
    exit_code = 16
    sentence = "{path} does not have a valid configuration. Check repo config [{reason}]."
    path: str
    reason: str


class ObjectNotFound(BorgServeError):
    """No object has this id (64 hex digits)."""

    wire_class = "ObjectNotFound"
    exit_code = 17
    shows_trace = True
    sentence = "Object with key {object_id} not found in repository {path}."
    object_id: str
    path: str


class ParentPathDoesNotExist(_PathError):
    """The directory that is to hold the new repository is missing."""

    wire_class = "ParentPathDoesNotExist"
    exit_code = 18
    sentence = "The parent path of the repo directory [{path}] does not exist."


class PathAlreadyExists(_PathError):
    """Something that is not an empty directory is in the way of a new repository."""

    wire_class = "PathAlreadyExists"
    exit_code = 19
    sentence = "There is already something at {path}."


class StorageQuotaExceeded(BorgServeError):
    """The stored data exceed the quota. Both fields in bytes."""

    wire_class = "StorageQuotaExceeded"
    exit_code = 20
    quota: int
    used: int

    @property
    def wire_args(self) -> tuple[str | int, ...]:
        return format_size(self.quota), format_size(self.used)

    def __str__(self) -> str:
        quota, used = self.wire_args
        return f"The storage quota ({quota}) has been exceeded ({used}). Try deleting some archives."


class PathPermissionDenied(_PathError):
    """The server's account may not look at or write to `path`."""

    wire_class = "PathPermissionDenied"
    exit_code = 21
    sentence = "Permission denied to {path}."


# --- damaged data ---------------------------------------------------------------------------------------------------


class IntegrityError(BorgServeError):
    """Stored data are damaged; `detail` names what and where."""

    wire_class = "IntegrityError"
    exit_code = 90
    shows_trace = True
    sentence = "Data integrity error: {detail}"
    detail: str


class FileIntegrityError(IntegrityError):
    """An index or hints file does not match its digest or cannot be read as what it should be."""

    wire_class = "FileIntegrityError"
    exit_code = 91
    sentence = "File failed integrity check: {detail}"


# --- locks ----------------------------------------------------------------------------------------------------------


class LockError(BorgServeError):
    """Root of the lock errors; `path` is the lock's (`<repository>/lock` or `<repository>/lock.exclusive`)."""

    wire_class = "LockError"
    exit_code = 70
    sentence = "Failed to acquire the lock {path}."
    path: str


class LockFailed(LockError):
    """The lock files cannot be written, for `reason`."""

    wire_class = "LockFailed"
    exit_code = 72
    shows_trace = True
    sentence = "Failed to create/acquire the lock {path} ({reason})."
    reason: str


class LockTimeout(LockError):
    """Somebody else held the lock for the whole time of waiting. `owners`: who, and what to do; "" if unknown."""

    wire_class = "LockTimeout"
    exit_code = 73
    owners: str = ""

    @property
    def wire_args(self) -> tuple[str | int, ...]:
        return (f"{self.path}, {self.owners}" if self.owners else self.path,)

    def __str__(self) -> str:
        return f"Failed to create/acquire the lock {self.wire_args[0]} (timeout)."


class NotLocked(LockError):
    """A lock that is to be released is not there."""

    wire_class = "NotLocked"
    exit_code = 74
    shows_trace = True
    sentence = "Failed to release the lock {path} (was not locked)."


class NotMyLock(LockError):
    """A lock that is to be released is somebody else's."""

    wire_class = "NotMyLock"
    exit_code = 75
    shows_trace = True
    sentence = "Failed to release the lock {path} (was/is locked, but not by me)."


# --- the file system ------------------------------------------------------------------------------------------------


class StorageError(BorgServeError):
    """The operating system refused an operation: `errno`, its text, and the name of the file within the repository."""

    wire_class = "OSError"
    sentence = "{reason} (error {errno}): {name}"
    errno: int
    reason: str
    name: str

    @property
    def wire_args(self) -> tuple[str | int, ...]:
        return self.errno, self.reason


class FileMissing(StorageError):
    """The file or directory does not exist."""

    wire_class = "FileNotFoundError"


class FileExists(StorageError):
    """A file that must be new exists already."""

    wire_class = "FileExistsError"


class NotPermitted(StorageError):
    """The account or the mount does not allow it (EACCES, EPERM, EROFS)."""

    wire_class = "PermissionError"


class NoSpace(StorageError):
    """The disk is full (ENOSPC)."""

    sentence = "The disk is full: {reason} (error {errno}): {name}. Deleting archives and compacting needs little room."


class FileSystemQuotaExceeded(NoSpace):
    """The server's account has used up its quota of the file system (EDQUOT), which is not the storage quota."""

    sentence = (
        "The file system's quota for the server's account is used up: {reason} (error {errno}): {name}. "
        "Deleting archives and compacting needs little room."
    )


class NotEnoughMemory(StorageError):
    """The process gets no more memory (ENOMEM). Of a commit it may have been the COMMIT that was still written."""

    sentence = (
        "{reason} (error {errno}). The server must be given more memory (--max-memory), "
        "or fewer changes in one transaction."
    )


def not_enough_memory() -> NotEnoughMemory:
    """Return the error for what Python tells by MemoryError."""
    from errno import ENOMEM

    return NotEnoughMemory(ENOMEM, "Cannot allocate memory", "")


# --- calls ----------------------------------------------------------------------------------------------------------


class InvalidRPCMethod(BorgServeError):
    """The client called a method this server does not have."""

    wire_class = "InvalidRPCMethod"
    exit_code = 82
    sentence = "RPC method {method} is not valid"
    method: str


class PathNotAllowed(_PathError):
    """The path is outside what this connection may reach."""

    wire_class = "PathNotAllowed"
    exit_code = 83
    sentence = "Repository path not allowed: {path}"


class _DetailError(BorgServeError):
    detail: str


class InvalidArgument(_DetailError):
    """An argument of a call is missing, of the wrong type, or out of range."""

    wire_class = "ValueError"


class WrongState(_DetailError):
    """The call is not possible now: no exclusive lock, an open transaction, a repository that is not open."""

    wire_class = "AssertionError"


class NoRepositoryOpen(_DetailError):
    """A call needs an open repository and there is none."""

    wire_class = "AttributeError"


class InjectedError(_DetailError):
    """What `inject_exception('divide')` is for (spec: rpc.md section 3.7)."""

    wire_class = "ZeroDivisionError"


class UnknownMarker(_DetailError):
    """The marker of a list or scan is not the id of an object."""

    wire_class = "KeyError"


class MissingVersion(_DetailError):
    """A client that negotiates does not tell its version (spec: rpc.md section 2)."""

    wire_class = "KeyError"


class NonceMismatch(_DetailError):
    """A nonce reservation does not start where the last one ended."""

    wire_class = "Exception"


class InvalidNonce(_DetailError):
    """The nonce file does not hold 16 hex digits."""


class AccessDenied(_DetailError):
    """The access policy of this connection forbids the call."""


class InternalError(_DetailError):
    """Something unforeseen went wrong in this library."""


# --- the connection and the command line ----------------------------------------------------------------------------


class ProtocolError(_DetailError):
    """The client sent bytes that are no request: the connection ends (spec: rpc.md section 1.4)."""


class UnexpectedRPCDataFormat(ProtocolError):
    """The client sent a message that is neither a map nor an array of four (spec: rpc.md section 1.4)."""

    wire_class = "UnexpectedRPCDataFormatFromClient"
    exit_code = 85


class ConfinementImpossible(_DetailError):
    """The process cannot give up what it was to give up."""


class UsageError(_DetailError):
    """A command line, our own or the client's, cannot be used."""
