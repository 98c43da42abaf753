"""What a connection remembers between calls: its services and the repository it has open."""

from __future__ import annotations

from ..errors import AccessDenied, BorgServeError, NoRepositoryOpen, NotLocked, NotMyLock
from ..policy.access import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..engine.repository import Repository
    from ..policy.access import Decision
    from .services import Services


class Session:
    """One client's session. `path`: of the repository opened last. `client_version`: as the client told it. Or "".

    `first_nonce`: where its first reservation of nonces in that repository began, None before there was one.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.repository: Repository | None = None
        self.path = ""
        self.client_version = ""
        self.first_nonce: int | None = None

    def opened(self) -> Repository:
        """Return the open repository. Raises NoRepositoryOpen."""
        if self.repository is None:
            raise NoRepositoryOpen("no repository is open")
        return self.repository

    def demand_object(self, verb: Verb, method: str, object_id: bytes) -> None:
        """Raise AccessDenied unless the policy allows `verb`, or what it is for an object, see
        AccessPolicy.looks_at_objects.
        """
        access = self.services.access
        if access.looks_at_objects:
            is_own = self.opened().is_own(object_id)
            if is_own:
                verb = Verb.PUT
            elif verb is Verb.PUT and is_own is False:
                verb = Verb.OVERWRITE
        decision = access.decide(verb, object_id)
        if not decision.allowed:
            self._refuse(method, decision)

    def demand(self, verb: Verb, method: str, object_id: bytes | None = None) -> None:
        """Raise AccessDenied unless the policy allows `verb`."""
        decision = self.services.access.decide(verb, object_id)
        if not decision.allowed:
            self._refuse(method, decision)

    def _refuse(self, method: str, decision: Decision) -> NoReturn:
        from ..events.session import CallRefused

        self.services.reporter.report(CallRefused(method, decision.reason))
        raise AccessDenied(decision.reason)

    def allows(self, verb: Verb) -> bool:
        """Return whether the policy allows `verb`."""
        return self.services.access.decide(verb, None).allowed

    def close_repository(self) -> bool:
        """Close the open repository, if any; return whether all was well with it. What was not is reported."""
        repository, self.repository = self.repository, None
        if repository is None:
            return True
        try:
            repository.close()
        except (NotLocked, NotMyLock) as error:
            from ..events.locks import LockLost

            self.services.reporter.report(LockLost(str(error)))
        except BorgServeError as error:
            from ..events.session import ClosingFailed

            self.services.reporter.report(ClosingFailed(str(error)))
        else:
            return True
        return False
