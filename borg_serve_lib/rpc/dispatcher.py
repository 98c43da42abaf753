"""One call in, one reply out. Source: spec, rpc.md sections 1.3, 3 and 6."""

from __future__ import annotations

from ..errors import BorgServeError, InternalError, InvalidArgument, InvalidRPCMethod
from ..wire.calls import Call, data_reply_head, nil_reply, result_reply
from .methods import METHODS, REQUIRED, Method
from .session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.calls import Reply


class Dispatcher:
    """Looks a call up in the table, checks its arguments and the right to it, runs it, and packs what comes of it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def reply_to(self, call: Call) -> Reply:
        """Return the reply to `call`: its result or its error. Raises nothing."""
        try:
            result = self._run(call)
        except BorgServeError as error:
            return self._failed(call, error)
        except Exception as error:  # noqa: BLE001 - the one place where nothing may get past
            return self._failed(call, self._unforeseen(call, error))
        if result is None:
            return (nil_reply(call),)
        if call.method == "get":
            return data_reply_head(call, len(result)), result
        return (result_reply(call, result),)

    def _run(self, call: Call) -> Any:
        method = METHODS.get(call.method)
        if method is None:
            raise InvalidRPCMethod(call.method)
        values = checked_arguments(method, call)
        if method.verb is not None:
            self._session.demand(method.verb, call.method)
        return method.handler(self._session, *values)

    def _failed(self, call: Call, error: BorgServeError) -> Reply:
        from ..events.session import CallFailed
        from ..wire.failures import error_reply

        self._session.services.reporter.report(CallFailed(call.method, error.wire_class, str(error)))
        return (error_reply(call, error),)

    def _unforeseen(self, call: Call, error: Exception) -> BorgServeError:
        from traceback import format_exception

        from ..events.session import InternalFailure

        self._session.services.reporter.report(InternalFailure(call.method, "".join(format_exception(error))))
        return InternalError(f"internal error of the server ({type(error).__name__})")


def checked_arguments(method: Method, call: Call) -> list[Any]:
    """Return the values of the method's parameters. Raises InvalidArgument, WrongState."""
    given = call.arguments
    if given is None:
        raise InvalidArgument(f"{call.method} does not take that many values")
    values = []
    for parameter in method.parameters:
        name = parameter.name
        if name in given:
            values.append(parameter.check(name, given[name]))
        elif parameter.default is REQUIRED:
            raise InvalidArgument(f"{call.method} needs the argument {name}")
        else:
            values.append(parameter.default)
    return values
