"""The server side of BorgBackup, as a library.

The names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._version import __version__
    from .engine.opening import HostRules, open_repository
    from .engine.repository import Repository
    from .engine.requests import OpenRequest
    from .errors import BorgServeError, UsageError
    from .locking.base import LockManager, LockMode, RepositoryLock
    from .locking.identity import Identity
    from .locking.manager import FileLockManager
    from .locking.memory import MemoryLockManager
    from .locking.owner import Owner, Verdict
    from .policy.access import AccessPolicy, AllOf, AllowAll, Decision, Verb
    from .policy.explanation import Explanation
    from .policy.forced_command import resolve_options
    from .policy.homes import Homes
    from .policy.options import HelpRequested, ServeOptions, VersionRequested, parse_serve_arguments, render_help
    from .policy.paths import PathPolicy, resolve_path
    from .process import explain_command_line, serve_process
    from .reporting import Event, Level, Peer, Reporter
    from .rpc.connection import Connection
    from .server import Server, account_home, path_resolver
    from .sinks.auditlog import AuditLog
    from .sinks.hook import Hook
    from .sinks.hostlog import HostLog
    from .sinks.metrics import Metrics
    from .sinks.systemlog import SystemLog
    from .storage.base import Storage, StorageProvider
    from .storage.memory import MemoryProvider
    from .storage.places import FilesystemProvider
    from .transports.stdio import serve_stdio
    from .transports.streams import log_to, serve_streams
    from .transports.watch import TimeLimits
    from .wire.loglines import ClientLog

__all__ = [
    "AccessPolicy",
    "AllOf",
    "AllowAll",
    "AuditLog",
    "BorgServeError",
    "ClientLog",
    "Connection",
    "Decision",
    "Event",
    "Explanation",
    "FileLockManager",
    "FilesystemProvider",
    "HelpRequested",
    "Homes",
    "Hook",
    "HostLog",
    "HostRules",
    "Identity",
    "Level",
    "LockManager",
    "LockMode",
    "MemoryLockManager",
    "MemoryProvider",
    "Metrics",
    "OpenRequest",
    "Owner",
    "PathPolicy",
    "Peer",
    "Reporter",
    "Repository",
    "RepositoryLock",
    "ServeOptions",
    "Server",
    "Storage",
    "StorageProvider",
    "SystemLog",
    "TimeLimits",
    "UsageError",
    "Verb",
    "Verdict",
    "VersionRequested",
    "__version__",
    "account_home",
    "explain_command_line",
    "log_to",
    "open_repository",
    "parse_serve_arguments",
    "path_resolver",
    "render_help",
    "resolve_options",
    "resolve_path",
    "serve_process",
    "serve_stdio",
    "serve_streams",
]

_MODULES = {
    "_version": ("__version__",),
    "engine.opening": ("HostRules", "open_repository"),
    "engine.repository": ("Repository",),
    "engine.requests": ("OpenRequest",),
    "errors": ("BorgServeError", "UsageError"),
    "sinks.auditlog": ("AuditLog",),
    "sinks.hook": ("Hook",),
    "sinks.hostlog": ("HostLog",),
    "sinks.metrics": ("Metrics",),
    "sinks.systemlog": ("SystemLog",),
    "locking.base": ("LockManager", "LockMode", "RepositoryLock"),
    "locking.identity": ("Identity",),
    "locking.manager": ("FileLockManager",),
    "locking.memory": ("MemoryLockManager",),
    "locking.owner": ("Owner", "Verdict"),
    "policy.access": ("AccessPolicy", "AllOf", "AllowAll", "Decision", "Verb"),
    "policy.explanation": ("Explanation",),
    "policy.forced_command": ("resolve_options",),
    "policy.homes": ("Homes",),
    "policy.options": ("HelpRequested", "ServeOptions", "VersionRequested", "parse_serve_arguments", "render_help"),
    "policy.paths": ("PathPolicy", "resolve_path"),
    "reporting": ("Event", "Level", "Peer", "Reporter"),
    "rpc.connection": ("Connection",),
    "process": ("explain_command_line", "serve_process"),
    "server": ("Server", "account_home", "path_resolver"),
    "storage.base": ("Storage", "StorageProvider"),
    "storage.memory": ("MemoryProvider",),
    "storage.places": ("FilesystemProvider",),
    "transports.stdio": ("serve_stdio",),
    "transports.streams": ("log_to", "serve_streams"),
    "transports.watch": ("TimeLimits",),
    "wire.loglines": ("ClientLog",),
}
"""Where the public names are."""


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
