"""What happens between a client and the server."""

from __future__ import annotations

from ..reporting import Event, Level


class RepositoryOpened(Event):
    """A client opened a repository. `mode`: the lock's (`none`, `shared`, `exclusive`)."""

    topic = "borg.remote"
    sentence = "opened repository {path} (lock: {mode})"
    path: str
    mode: str


class PathResolved(Event):
    """A path of the client was resolved, and allowed."""

    topic = "borg.remote"
    sentence = "resolved path {requested!r} to {resolved!r}"
    requested: str
    resolved: str


class PathRefused(Event):
    """A path of the client is outside the restrictions. For the host only: the client must not learn `resolved`."""

    topic = "borg.remote"
    sentence = "refused path {requested!r}, resolved to {resolved!r}"
    requested: str
    resolved: str


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
    """A call failed in a way nobody foresaw. `details` is for the host; the client is told the kind only."""

    topic = "borg.internal"
    sentence = "internal error in {method}: {details}"
    method: str
    details: str
