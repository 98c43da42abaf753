from __future__ import annotations

from typing import ClassVar

from borg_serve_lib.events.maintenance import IndexDamaged
from borg_serve_lib.reporting import Event, FanOut, Level, Reporter


class Counted(Event):
    level = Level.WARNING
    sentence: ClassVar[str] = "{count} of {total}"
    count: int
    total: int


class Kept(Reporter):
    def __init__(self) -> None:
        self.events: list[Event] = []

    def report(self, event: Event) -> None:
        self.events.append(event)


def test_an_event_words_itself_from_its_fields() -> None:
    assert Counted(1, 3).message() == "1 of 3"


def test_braces_in_a_field_are_text() -> None:
    assert "{x}" in IndexDamaged("{x}").message()


def test_a_fan_out_passes_each_event_to_all_in_order() -> None:
    first, second = Kept(), Kept()
    reporter = FanOut([first, Reporter(), second])
    events = [Counted(1, 2), Counted(2, 2)]
    for event in events:
        reporter.report(event)
    assert first.events == second.events == events
