"""What a connection is given by whoever makes it."""

from __future__ import annotations

from time import monotonic

from ..reporting import Reporter
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.repository import Repository
    from ..engine.requests import OpenRequest
    from ..policy.access import AccessPolicy
    from ..wire.loglines import ClientLog

ANNOUNCED_VERSION = (1, 4, 5, -1)
"""The version clients 1.x are told: it makes them use every feature (spec: rpc.md section 2.2)."""

_UNHEARD = Reporter()


class Cancellation:
    """By which one thread ends what another one waits for."""

    def __init__(self) -> None:
        self._reason: BaseException | None = None

    def cancel(self, reason: BaseException) -> None:
        """Let whoever waits get `reason`, now and from now on; the first one counts."""
        self._reason = self._reason or reason

    def demand_none(self) -> None:
        """Raise the reason for which nothing is to be waited for any more, if there is one."""
        if self._reason is not None:
            raise self._reason


class Services(Value):
    """`resolve_path`: a client's raw path -> the absolute path of the repository; raises PathNotAllowed.
    `open_repository`: opens or creates and locks what is there. `reporter` is told everything, `client_log` is that
    part of it which writes to the client and is told when the client turns out to read JSON; `host_reporter` is the
    other part. `clock`: seconds, ascending. `cancellation`: what ends the waiting for locks in `open_repository`, None
    if nothing does.
    """

    resolve_path: Callable[[bytes], str]
    open_repository: Callable[[str, OpenRequest], Repository]
    access: AccessPolicy
    reporter: Reporter
    client_log: ClientLog
    host_reporter: Reporter = _UNHEARD
    server_version: tuple[int, ...] = ANNOUNCED_VERSION
    clock: Callable[[], float] = staticmethod(monotonic)
    cancellation: Cancellation | None = None
