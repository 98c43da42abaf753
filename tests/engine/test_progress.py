from borg_serve_lib.engine.progress import ProgressMeter
from borg_serve_lib.events.maintenance import Progress, ProgressFinished
from tests.engine.support import Notes


def told(total: int, step: float) -> list[object]:
    notes = Notes()
    meter = ProgressMeter(notes, "repository.check", "{:.0f}%", total=total, step=step)
    for _ in range(total):
        meter.advance()
    meter.finish()
    assert notes.of(ProgressFinished) == [ProgressFinished("repository.check")]
    return [(event.current, event.text) for event in notes.of(Progress)]


def test_each_part_is_told_with_what_was_done_before_it() -> None:
    assert told(4, 1) == [(1, "0%"), (2, "25%"), (3, "50%"), (4, "75%")]


def test_of_many_parts_only_those_are_told_that_reach_the_next_step() -> None:
    assert told(1000, 25) == [(1, "0%"), (251, "25%"), (501, "50%"), (751, "75%")]
