"""The sinks that a command line asks for."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy.options import ServeOptions
    from .base import Sink


def chosen_sinks(options: ServeOptions) -> list[Sink]:
    """Return the sinks for the records that `options` ask for. Raises UsageError for what cannot be written to."""
    sinks: list[Sink] = []
    if options.audit_log:
        from .auditlog import AuditLog

        sinks.append(AuditLog(options.audit_log))
    if options.syslog:
        from .systemlog import SystemLog

        sinks.append(SystemLog())
    if options.metrics_dir:
        from .metrics import Metrics

        sinks.append(Metrics(options.metrics_dir))
    if options.on_event:
        from .hook import Hook

        sinks += [Hook(command) for command in options.on_event]
    return sinks
