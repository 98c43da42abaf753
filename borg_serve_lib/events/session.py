"""What happens between a client and the server."""

from __future__ import annotations

from ..reporting import Event, Level


class SessionOpened(Event):
    """A client is served."""

    topic = "borg.remote"
    sentence = "session opened"
    host_only = True


class SessionClosed(Event):
    """A session has ended, its repository closed. `repository`: the path opened last; `client_version`: as the client
    told it; both "" where there is none. `outcome`: `completed`, `client vanished`, `rejected`, `timed out`, `signal`
    and its name, `ended by the host` (an embedder's), or `killed`. `seconds`: how long it took. `bytes_in`,
    `bytes_out`: received and sent. `calls`: method -> number of calls.
    """

    topic = "borg.remote"
    sentence = "session closed after {seconds:.1f} seconds: {outcome}"
    host_only = True
    repository: str
    client_version: str
    outcome: str
    seconds: float
    bytes_in: int
    bytes_out: int
    calls: dict[str, int]


class EventsOmitted(Event):
    """Before the end of a session or of a check: of these kinds there were so many more events than there are records.
    `counts`: event -> how many are left out.
    """

    level = Level.WARNING
    topic = "borg.remote"
    host_only = True
    sentence = "left out of the records: {counts}"
    counts: dict[str, int]


class RepositoryOpened(Event):
    """A client opened a repository. `mode`: the lock's (`none`, `shared`, `exclusive`)."""

    topic = "borg.remote"
    sentence = "opened repository {path} (lock: {mode})"
    path: str
    mode: str


class PathResolved(Event):
    """A path of the client was resolved, and allowed."""

    is_recorded = False
    topic = "borg.remote"
    sentence = "resolved path {requested!r} to {resolved!r}"
    requested: str
    resolved: str


class PathRefused(Event):
    """A path of the client is outside the restrictions. The client must not learn `resolved`, which is "" where it was
    not looked at to the end, since it leads through what is outside.
    """

    level = Level.WARNING
    topic = "borg.remote"
    host_only = True
    sentence = "refused path {requested!r}, resolved to {resolved!r}"
    requested: str
    resolved: str

    def message(self) -> str:
        return super().message() if self.resolved else f"refused path {self.requested!r}, which leads outside"


class CallRefused(Event):
    """The access policy forbade a call."""

    topic = "borg.remote"
    sentence = "refused call {method}: {reason}"
    method: str
    reason: str


class CallFailed(Event):
    """A call was answered with an error. `error`: its wire class."""

    topic = "borg.remote"
    sentence = "RPC method {method} failed: {error}: {text}"
    method: str
    error: str
    text: str


class OldFormatCallFailed(CallFailed):
    """A call in the positional format was answered with an error, of which such a reply can tell the class alone."""

    level = Level.ERROR
    sentence = "{text}"


class ConnectionRejected(Event):
    """The client sent something that is no request; the connection ends."""

    level = Level.ERROR
    topic = "borg.remote"
    sentence = "{reason}"
    reason: str


class SessionInterrupted(Event):
    """A signal ended the session. `signal`: its name."""

    level = Level.ERROR
    topic = "borg.remote"
    sentence = "received {signal}, the session ends"
    signal: str


class SessionTimedOut(Event):
    """A time limit of the host ended the session."""

    level = Level.ERROR
    topic = "borg.remote"
    sentence = "{reason}; the session ends"
    reason: str


class ClosingFailed(Event):
    """At its end the repository could not be closed as it should; it counts as closed even so."""

    level = Level.ERROR
    topic = "borg.remote"
    sentence = "the repository could not be closed properly: {text}"
    text: str


class InternalFailure(Event):
    """A call failed in a way nobody foresaw. The client is told the kind only."""

    level = Level.ERROR
    topic = "borg.internal"
    host_only = True
    unrecorded_fields = ("details",)
    sentence = "internal error in {method}: {details}"
    method: str
    details: str
