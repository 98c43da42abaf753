"""The sinks that a command line asks for."""

from __future__ import annotations

from ..errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..policy.options import ServeOptions
    from .base import Sink


def chosen_sinks(options: ServeOptions, *, complain: Callable[[str], None]) -> list[Sink]:
    """Return the sinks for the records that `options` ask for, as far as they can be written to.

    `complain`: is told, in a sentence, of each that cannot: a record is no restriction, so nothing fails without it.
    """
    sinks: list[Sink] = []
    for make in _makers(options):
        try:
            sinks.append(make())
        except UsageError as error:
            complain(error.detail)
    return sinks


def _makers(options: ServeOptions) -> Iterator[Callable[[], Sink]]:
    if options.audit_log:
        from .auditlog import AuditLog

        yield lambda: AuditLog(str(options.audit_log))
    if options.syslog:
        from .systemlog import SystemLog

        yield SystemLog
    if options.metrics_dir:
        from .metrics import Metrics

        yield lambda: Metrics(str(options.metrics_dir))
    if options.on_event:
        from .hook import Hook

        yield from (lambda command=command: Hook(command) for command in options.on_event)


def unusable_records(options: ServeOptions) -> list[str]:
    """Return a sentence for each record that `options` ask for and this account could not keep; nothing is made."""
    found: list[str] = []
    try:
        if options.audit_log:
            from .auditlog import demand_appendable

            demand_appendable(options.audit_log)
    except UsageError as error:
        found.append(error.detail)
    try:
        if options.metrics_dir:
            from .metrics import demand_usable

            demand_usable(options.metrics_dir)
    except UsageError as error:
        found.append(error.detail)
    return found
