"""Events as lines on standard error, in the two formats that clients understand. Source: spec, rpc.md section 7."""

from __future__ import annotations

from ..reporting import Event, Level, Reporter
from .text import valid_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..events.maintenance import Progress, ProgressFinished

PROGRESS_TOPIC = "borg.output.progress"


class ClientLog(Reporter):
    """Writes the events that the client asked for, one line each.

    `write` takes whole lines. `level`: the least severe told. `topics`: loggers told at any level, with all below them;
    one without a dot stands for `borg.debug.TOPIC` too. `json`: begin in the JSON format. `now`: Unix time in seconds.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        *,
        level: Level = Level.WARNING,
        topics: Iterable[str] = (),
        json: bool = False,
        now: Callable[[], float],
    ) -> None:
        self._write = write
        self._level = level
        self._topics = tuple(dict.fromkeys(full for topic in topics for full in _loggers(topic)))
        self._json = json
        self._now = now
        self._operations: dict[str, int] = {}
        self._started = 0

    def use_json(self) -> None:
        """The client has told that it reads JSON lines."""
        self._json = True

    def report(self, event: Event) -> None:
        if event.topic == PROGRESS_TOPIC:
            self._report_progress(event)
        elif not event.host_only and (event.level >= self._level or self._is_asked_for(event.topic)):
            self._report_message(event)

    def _is_asked_for(self, topic: str) -> bool:
        return any(topic == asked or topic.startswith(f"{asked}.") for asked in self._topics)

    def _report_message(self, event: Event) -> None:
        text, level = valid_text(event.message()), event.level.name
        if not self._json:
            self._write_plain(level, event.topic, text, "\n")
            return
        self._write_json(
            {
                "type": "log_message",
                "time": self._now(),
                "message": text,
                "levelname": level,
                "name": event.topic,
            }
        )

    # --- progress: told at any level, as all servers do; the client decides (section 7.4)

    def _report_progress(self, event: Event) -> None:
        from ..events.maintenance import Progress, ProgressFinished

        if isinstance(event, Progress):
            self._report_step(event)
        elif isinstance(event, ProgressFinished):
            self._report_end(event)

    def _report_step(self, step: Progress) -> None:
        number, text = self._number(step.operation), valid_text(step.message())
        if not self._json:
            self._write_plain("INFO", PROGRESS_TOPIC, text, "\r")
            return
        counts = {"message": text, "current": step.current, "total": step.total, "info": None}
        self._write_json(counts | self._progress_record(number, step.operation, finished=False))

    def _report_end(self, end: ProgressFinished) -> None:
        number = self._number(end.operation)
        del self._operations[end.operation]
        if self._json:
            self._write_json(self._progress_record(number, end.operation, finished=True))
        else:
            self._write_plain("INFO", PROGRESS_TOPIC, "", "\r")

    def _number(self, operation: str) -> int:
        """Return the number of a running operation; one that just begins gets the next."""
        if operation not in self._operations:
            self._started += 1
            self._operations[operation] = self._started
        return self._operations[operation]

    def _progress_record(self, number: int, operation: str, *, finished: bool) -> dict[str, object]:
        return {
            "operation": number,
            "msgid": operation,
            "type": "progress_percent",
            "finished": finished,
            "time": self._now(),
        }

    # --- lines

    def _write_plain(self, level: str, topic: str, text: str, end: str) -> None:
        # One line, whatever is in the text: a line of its own could be taken for one of ours.
        self._write(f"$LOG {level} {topic} Remote: {' '.join(text.splitlines())}{end}".encode())

    def _write_json(self, record: dict[str, object]) -> None:
        from json import dumps

        self._write(dumps(record).encode() + b"\n")


def _loggers(topic: str) -> tuple[str, ...]:
    return (topic,) if "." in topic else (topic, f"borg.debug.{topic}")
