"""Events as lines on standard error, in the two formats that clients understand. Source: spec, rpc.md section 7."""

from __future__ import annotations

from ..reporting import Event, Level, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROGRESS_TOPIC = "borg.output.progress"


class ClientLog(Reporter):
    """Writes the events that the client asked for.

    `write` takes whole lines. `level`: the least severe told. `topics`: loggers told at any level; one without a dot
    stands for `borg.debug.TOPIC` too. `json`: begin in the JSON format. `now`: Unix time in seconds.
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
        self._topics = frozenset(full for topic in topics for full in (topic, f"borg.debug.{topic}"))
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
        elif event.level >= self._level or event.topic in self._topics:
            text = event.message()
            if self._json:
                self._write_json(
                    {
                        "type": "log_message",
                        "time": self._now(),
                        "message": text,
                        "levelname": event.level.name,
                        "name": event.topic,
                    }
                )
            else:
                self._write_text(f"$LOG {event.level.name} {event.topic} Remote: {' '.join(text.splitlines())}\n")

    def _report_progress(self, event: Event) -> None:
        # Both kinds of events have `operation`; all servers tell progress at any level (spec: rpc.md section 7.4).
        operation = getattr(event, "operation", "")
        text = event.message()
        if operation not in self._operations:
            self._started += 1
            self._operations[operation] = self._started
        number = self._operations[operation]
        if not text:
            del self._operations[operation]
        if not self._json:
            self._write_text(f"$LOG INFO {PROGRESS_TOPIC} Remote: {text}\r")
            return
        record: dict[str, object] = {"operation": number, "msgid": operation, "type": "progress_percent"}
        if text:
            record |= {
                "message": text,
                "current": getattr(event, "current", 0),
                "total": getattr(event, "total", 0),
                "info": None,
            }
        self._write_json(record | {"finished": not text, "time": self._now()})

    def _write_json(self, record: dict[str, object]) -> None:
        from json import dumps

        self._write_text(dumps(record) + "\n")

    def _write_text(self, text: str) -> None:
        self._write(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode())
