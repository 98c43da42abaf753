"""The server side of BorgBackup, as a library.

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._version import __version__
    from .engine.opening import open_repository
    from .engine.repository import Repository
    from .engine.requests import OpenRequest
    from .errors import BorgServeError, UsageError
    from .locking.manager import FileLockManager
    from .locking.memory import MemoryLockManager
    from .policy.access import AccessPolicy, Decision, Verb
    from .policy.forced_command import resolve_options
    from .policy.homes import Homes
    from .policy.options import ServeOptions, parse_serve_arguments
    from .policy.paths import PathPolicy, resolve_path
    from .process import serve_process
    from .reporting import Event, Reporter
    from .rpc.connection import Connection
    from .server import Server, path_resolver
    from .storage.memory import MemoryProvider
    from .storage.places import FilesystemProvider
    from .transports.stdio import serve_stdio
    from .transports.streams import log_to, serve_streams
    from .transports.watch import TimeLimits
    from .wire.loglines import ClientLog

__all__ = [
    "AccessPolicy",
    "BorgServeError",
    "ClientLog",
    "Connection",
    "Decision",
    "Event",
    "FileLockManager",
    "FilesystemProvider",
    "Homes",
    "MemoryLockManager",
    "MemoryProvider",
    "OpenRequest",
    "PathPolicy",
    "Reporter",
    "Repository",
    "ServeOptions",
    "Server",
    "TimeLimits",
    "UsageError",
    "Verb",
    "__version__",
    "log_to",
    "open_repository",
    "parse_serve_arguments",
    "path_resolver",
    "resolve_options",
    "resolve_path",
    "serve_process",
    "serve_stdio",
    "serve_streams",
]

_MODULES = {
    "_version": ("__version__",),
    "engine.opening": ("open_repository",),
    "engine.repository": ("Repository",),
    "engine.requests": ("OpenRequest",),
    "errors": ("BorgServeError", "UsageError"),
    "locking.manager": ("FileLockManager",),
    "locking.memory": ("MemoryLockManager",),
    "policy.access": ("AccessPolicy", "Decision", "Verb"),
    "policy.forced_command": ("resolve_options",),
    "policy.homes": ("Homes",),
    "policy.options": ("ServeOptions", "parse_serve_arguments"),
    "policy.paths": ("PathPolicy", "resolve_path"),
    "process": ("serve_process",),
    "reporting": ("Event", "Reporter"),
    "rpc.connection": ("Connection",),
    "server": ("Server", "path_resolver"),
    "storage.memory": ("MemoryProvider",),
    "storage.places": ("FilesystemProvider",),
    "transports.stdio": ("serve_stdio",),
    "transports.streams": ("log_to", "serve_streams"),
    "transports.watch": ("TimeLimits",),
    "wire.loglines": ("ClientLog",),
}
"""Where the public names are."""


if not TYPE_CHECKING:  # to a type checker any name would be one of the package then

    def __getattr__(name: str) -> object:
        from importlib import import_module

        for module, names in _MODULES.items():
            if name in names:
                value: object = getattr(import_module(f"{__name__}.{module}"), name)
                globals()[name] = value
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
