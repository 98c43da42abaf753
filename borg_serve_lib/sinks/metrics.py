"""Figures for Prometheus, in the files that its node exporter collects.

One file for each repository, and one for what concerns none. Counters go on from what the file says, under a lock, so
that they add up over all processes and sessions. What cannot be written now is written with what comes next.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from contextlib import suppress

import portalocker

from ..errors import UsageError
from .base import Sink
from .hostlog import tell_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, TypeAlias

    from prometheus_client.core import Metric

    from .record import Record

    Labels: TypeAlias = tuple[tuple[str, str], ...]
    Figures: TypeAlias = dict[tuple[str, Labels], float]

GAUGES: Final = {
    "borg_serve_last_commit_timestamp_seconds": "When objects were added or deleted last.",
    "borg_serve_objects": "Objects after the last commit.",
    "borg_serve_used_bytes": "What counted for the quota after the last commit.",
    "borg_serve_quota_bytes": "The storage quota, 0 for none.",
    "borg_serve_last_check_timestamp_seconds": "When a check was finished last.",
    "borg_serve_last_check_sound": "Whether the last check found no error, or repaired what it found.",
}
COUNTERS: Final = {
    "borg_serve_transactions": "Transactions committed.",
    "borg_serve_objects_added": "Objects added by committed transactions.",
    "borg_serve_objects_deleted": "Objects deleted by committed transactions.",
    "borg_serve_added_bytes": "Bytes written by committed transactions.",
    "borg_serve_sessions": "Sessions that have ended.",
    "borg_serve_received_bytes": "Bytes received from clients.",
    "borg_serve_sent_bytes": "Bytes sent to clients.",
    "borg_serve_denied": "Commands, paths and calls refused.",
    "borg_serve_damage": "Findings of damage.",
}
_DAMAGE: Final = (
    "check-failed",
    "commit-damaged",
    "compacted-segment-missing",
    "damaged-segment-kept",
    "hints-damaged",
    "index-damaged",
    "reference-count-wrong",
    "transactions-lost",
)
_CURE: Final = "pip install '.[metrics]' in a clone of borg_serve_lib, or pip install prometheus-client"
_PATIENCE: Final = 5.0
"""Seconds to wait for the others who write to the directory."""
_READABLE: Final = 0o644
"""The node exporter runs as somebody else."""


class Metrics(Sink):
    """Keeps `borg_serve*.prom` in a directory; written at each commit, after each check, at the end of a session."""

    def __init__(
        self, directory: str, *, complain: Callable[[str], None] = tell_host, **clock: Callable[[], float]
    ) -> None:
        """`complain`: is told once that files cannot be written. Raises UsageError if `directory` is none that can be
        written to, or the package prometheus_client is missing.
        """
        super().__init__(**clock)
        demand_usable(directory)
        self._directory = directory
        self._complain = complain
        self._complained = False
        self._repositories: dict[str, str] = {}
        self._gauges: dict[str, Figures] = defaultdict(dict)
        self._increases: dict[str, Figures] = defaultdict(lambda: defaultdict(float))

    def write(self, record: Record) -> None:
        event, session = str(record["event"]), str(record.get("session", ""))
        if event == "repository-opened":
            self._repositories[session] = str(record["path"])
        repository = self._repositories.get(session, "")
        take = _TAKERS.get(event)
        if take is not None:
            take(self, repository, record)
        elif event in _DAMAGE:
            self._add(repository, "borg_serve_damage", 1)
        if event in ("transaction-committed", "session-closed") or event.startswith("check-finished"):
            self._save()
        if event == "session-closed":
            self._repositories.pop(session, None)

    def close(self) -> None:
        self._save()

    def _set(self, repository: str, name: str, value: object) -> None:
        self._gauges[repository][name, ()] = _number(value)

    def _add(self, repository: str, name: str, value: object, **labels: str) -> None:
        self._increases[repository][name, tuple(labels.items())] += _number(value)

    # --- what is counted

    def _take_commit(self, repository: str, record: Record) -> None:
        if record["added"] or record["deleted"]:
            # Compaction commits, too: it must not look like a backup.
            self._set(repository, "borg_serve_last_commit_timestamp_seconds", int(self._now()))
        self._set(repository, "borg_serve_objects", record["objects"])
        self._set(repository, "borg_serve_used_bytes", record["bytes_used"])
        self._set(repository, "borg_serve_quota_bytes", record["quota"])
        self._add(repository, "borg_serve_transactions", 1)
        self._add(repository, "borg_serve_objects_added", record["added"])
        self._add(repository, "borg_serve_objects_deleted", record["deleted"])
        self._add(repository, "borg_serve_added_bytes", record["bytes_added"])

    def _take_check(self, repository: str, record: Record) -> None:
        self._set(repository, "borg_serve_last_check_timestamp_seconds", int(self._now()))
        self._set(repository, "borg_serve_last_check_sound", record["event"] == "check-finished")

    def _take_end(self, repository: str, record: Record) -> None:
        self._add(repository, "borg_serve_sessions", 1, outcome=str(record["outcome"]))
        self._add(repository, "borg_serve_received_bytes", record["bytes_in"])
        self._add(repository, "borg_serve_sent_bytes", record["bytes_out"])

    def _take_refusal(self, repository: str, record: Record, count: object = 1) -> None:
        self._add(repository, "borg_serve_denied", count, kind=str(record["event"]).partition("-")[0])

    def _take_omitted(self, repository: str, record: Record) -> None:
        """Count what there are no records of."""
        counts = record["counts"]
        assert isinstance(counts, dict)  # noqa: S101 - see EventsOmitted
        for event, count in counts.items():
            if event in _DAMAGE:
                self._add(repository, "borg_serve_damage", count)
            elif event.endswith("-refused"):
                self._take_refusal(repository, {"event": event}, count)

    # --- files

    def _save(self) -> None:
        for repository in {*self._gauges, *self._increases}:
            try:
                with self._locked():
                    self._update(repository, self._gauges.get(repository, {}), self._increases.get(repository, {}))
            except (OSError, ValueError, portalocker.LockException) as error:
                # The figures wait for the next time.
                if not self._complained:
                    self._complain(f"metrics cannot be written to {self._directory!r}: {error}")
                self._complained = True
            else:
                self._gauges.pop(repository, None)
                self._increases.pop(repository, None)
                self._complained = False

    def _locked(self) -> portalocker.Lock:
        """Return the lock on the directory. Entering it raises LockException if another has it for too long."""
        return portalocker.Lock(
            f"{self._directory}/.borg_serve.lock",
            timeout=_PATIENCE,
            check_interval=0.05,
            flags=portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING,
            opener=self._open_lock,
        )

    def _open_lock(self, path: str, flags: int) -> int:
        """Open the lock file, for all who may write to the directory."""
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # another account made it, and has done this
            directory = os.stat(self._directory)
            os.fchown(descriptor, -1, directory.st_gid)
            os.fchmod(descriptor, directory.st_mode & 0o666)
        return descriptor

    def _update(self, repository: str, gauges: Figures, increases: Figures) -> None:
        from prometheus_client import CollectorRegistry, write_to_textfile

        path = f"{self._directory}/{file_name(repository)}"
        figures = _read(path)
        figures.update(gauges)
        for key, increase in increases.items():
            figures[key] = figures.get(key, 0.0) + increase
        registry = CollectorRegistry()
        registry.register(_Figures(repository, figures))
        write_to_textfile(path, registry)
        os.chmod(path, _READABLE)


_TAKERS: Final[dict[str, Callable[[Metrics, str, Record], None]]] = {
    "transaction-committed": Metrics._take_commit,
    "check-finished": Metrics._take_check,
    "check-finished-with-errors": Metrics._take_check,
    "session-closed": Metrics._take_end,
    "path-refused": Metrics._take_refusal,
    "call-refused": Metrics._take_refusal,
    "command-refused": Metrics._take_refusal,
    "events-omitted": Metrics._take_omitted,
}


def demand_usable(directory: str) -> None:
    """Raise UsageError if figures cannot be kept in `directory`, with the cure where there is one."""
    try:
        import prometheus_client  # noqa: F401 - loaded when it is needed
    except ImportError:
        raise UsageError(f"metrics need the package prometheus_client; {_CURE}") from None
    if not os.path.isdir(directory) or not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"the metrics directory {directory!r} is no directory that can be written to")


def file_name(repository: str) -> str:
    """Return the name of a repository's file; "" is for what concerns none."""
    digest = hashlib.sha256(repository.encode()).hexdigest()[:16]
    return f"borg_serve_{digest}.prom" if repository else "borg_serve.prom"


class _Figures:
    """A collector over figures that are there already."""

    def __init__(self, repository: str, figures: Figures) -> None:
        self._repository = repository
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for kind, names in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, text in names.items():
                found = [(labels, value) for (each, labels), value in self._figures.items() if each == name]
                if found:
                    labels_used = sorted({label for labels, _ in found for label, _ in labels})
                    family = kind(name, text, labels=["repository", *labels_used])
                    for labels, value in found:
                        given = dict(labels)
                        family.add_metric([self._repository, *(given.get(label, "") for label in labels_used)], value)
                    yield family


def _read(path: str) -> Figures:
    """Return the figures in a file; none if there is none or it cannot be understood."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        families = list(text_string_to_metric_families(text))
    except (FileNotFoundError, ValueError):
        return {}
    figures: Figures = {}
    for family in families:
        for sample in family.samples:
            labels = tuple((name, value) for name, value in sorted(sample.labels.items()) if name != "repository")
            figures[sample.name.removesuffix("_total"), labels] = sample.value
    return figures


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
