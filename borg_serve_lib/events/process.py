"""The beginning and the end of a server process."""

from __future__ import annotations

from ..reporting import Event, Level


class VersionShown(Event):
    """What runs here, asked for with --show-version."""

    level = Level.INFO
    topic = "borg.output.show-version"
    is_recorded = False
    sentence = "borg-serve {version}"
    version: str


class Confined(Event):
    """The process cannot reach anything but `paths` any more, nor Python's own files. `paths`: as told."""

    topic = "borg.remote"
    sentence = "confined to the restricted paths"
    paths: tuple[str, ...]


class NotConfined(Event):
    """The process was not confined, since that was not possible and not required."""

    topic = "borg.remote"
    sentence = "not confined: {reason}"
    reason: str


class CommandRefused(Event):
    """The client asked for something else than to be served, or in a way that is not understood; nothing of it was
    run. `command`: what it asked for, printable, and cut where it is long.
    """

    level = Level.WARNING
    topic = "borg.remote"
    host_only = True
    sentence = "refused command {command}: {reason}"
    command: str
    reason: str


class EndedWell(Event):
    """The process ends without a fault, asked for with --show-rc."""

    level = Level.INFO
    topic = "borg.output.show-rc"
    is_recorded = False
    sentence = "terminating with success status, rc {status}"
    status: int


class EndedBadly(Event):
    """The process ends after a fault or by a signal, asked for with --show-rc."""

    level = Level.ERROR
    topic = "borg.output.show-rc"
    is_recorded = False
    sentence = "terminating with error status, rc {status}"
    status: int
