"""One call in, one reply out. Source: spec, rpc.md sections 1.3, 3 and 6."""

from __future__ import annotations

from .. import errors
from ..errors import BorgServeError
from ..wire.calls import Call, nil_reply
from .methods import METHODS, REQUIRED, Method
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.calls import Reply

_TOLD_BY_CLIENTS = (
    errors.AlreadyExists,
    errors.DoesNotExist,
    errors.InsufficientFreeSpaceError,
    errors.InvalidRepository,
    errors.InvalidRepositoryConfig,
    errors.PathAlreadyExists,
    errors.PathNotAllowed,
    errors.StorageQuotaExceeded,
)
"""Errors that need no line in the log beside their reply (spec: rpc.md section 6.3)."""


class Dispatcher:
    """Looks a call up in the table, checks its arguments and the right to it, runs it, and packs what comes of it.

    Nothing it is asked for raises: what nobody foresaw ends here, told to the host in full and to the client by name.
    `calls`: method -> how many calls there were.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.calls = dict.fromkeys(METHODS, 0)

    def reply_to(self, call: Call) -> Reply:
        """Return the reply to `call`: its result or its error."""
        try:
            return self._reply(call)
        except BorgServeError as error:
            return self._failed(call, error)
        except MemoryError:
            return self._failed(call, errors.not_enough_memory())
        except Exception as error:  # noqa: BLE001 - nothing may get past
            return self._failed(call, self._unforeseen(call.method, error))

    @property
    def wants_announcements(self) -> bool:
        """Whether it pays to tell which objects will be asked for next."""
        repository = self._session.repository
        return repository is not None and repository.reads_slowly

    def announce(self, object_ids: list[bytes]) -> None:
        """Tell the repository, if one is open, which objects will be asked for next."""
        repository = self._session.repository
        if repository is None:
            return
        try:
            repository.announce(object_ids)
        except Exception as error:  # noqa: BLE001 - the calls themselves will show what is wrong
            self._unforeseen("announce", error)

    def close(self) -> bool:
        """Close the repository, if one is open; return whether all was well with it."""
        try:
            return self._session.close_repository()
        except Exception as error:  # noqa: BLE001 - the process ends in good order even so
            self._unforeseen("close", error)
            return False

    def _reply(self, call: Call) -> Reply:
        method = METHODS.get(call.method)
        if method is None:
            raise errors.InvalidRPCMethod(call.method)
        self.calls[call.method] += 1
        values = call.values or checked_arguments(method, call)
        if method.verb is not None:
            self._session.demand(method.verb, call.method)
        result = method.handler(self._session, *values)
        if result is None:
            return (nil_reply(call),)
        return method.reply(call, result)

    def _failed(self, call: Call, error: BorgServeError) -> Reply:
        from ..events.session import CallFailed, OldFormatCallFailed
        from ..wire.failures import error_reply

        # A reply in the old format has no room for the details: its client finds them in the log.
        event = CallFailed if call.named or isinstance(error, _TOLD_BY_CLIENTS) else OldFormatCallFailed
        self._session.services.reporter.report(event(call.method, error.wire_class, str(error)))
        return (error_reply(call, error),)

    def _unforeseen(self, what: str, error: Exception) -> BorgServeError:
        from traceback import format_exception

        from ..events.session import InternalFailure

        self._session.services.reporter.report(InternalFailure(what, "".join(format_exception(error))))
        return errors.InternalError(f"internal error of the server ({type(error).__name__})")


def checked_arguments(method: Method, call: Call) -> list[Any]:
    """Return the values of the method's parameters. Raises InvalidArgument, WrongState."""
    given = call.arguments
    if given is None:
        raise errors.InvalidArgument(f"{call.method} cannot be called with these values by position")
    values = []
    for parameter in method.parameters:
        name = parameter.name
        if name in given:
            values.append(parameter.check(name, given[name]))
        elif parameter.default is REQUIRED:
            raise errors.InvalidArgument(f"{call.method} needs the argument {name}")
        else:
            values.append(parameter.default)
    return values
