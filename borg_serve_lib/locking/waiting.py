"""How long to wait for somebody else's lock, and how often to look."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InvalidArgument

LONGEST_PAUSE = 0.2
"""Seconds. Borg looks every min(60, wait / 10) seconds, every second if it waits for ever; we react sooner."""

A_LONG_TIME = 1.0
"""Seconds after which it is worth telling that a lock is waited for."""


class Deadline:
    """A point in time until which waiting makes sense, and the rhythm of looking (spec: section 9.2, timing)."""

    def __init__(
        self,
        wait: float | None,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        rhythm: float | None = None,
        waited_long: Callable[[], None] = lambda: None,
    ) -> None:
        """`wait`: seconds from now, 0 looks once, None never ends. `clock`: seconds, monotonic.

        `rhythm`: seconds between two looks, by default a tenth of `wait` but at most LONGEST_PAUSE. `waited_long`: is
        called at the first pause after A_LONG_TIME; then `is_late` is True.
        Raises InvalidArgument for a negative `wait`.
        """
        if wait is not None and not wait >= 0:
            raise InvalidArgument(f"the time to wait for a lock must not be negative: {wait}")
        if rhythm is None:
            rhythm = LONGEST_PAUSE if wait is None else min(LONGEST_PAUSE, wait / 10)
        self._clock = clock
        self._sleep = sleep
        self.begun = clock()
        self.is_late = False
        self._waited_long = waited_long
        self._end = None if wait is None else self.begun + wait
        self._rhythm = rhythm

    def part(self, fraction: float, longest: float) -> Deadline:
        """Return a deadline after `fraction` of the time that is left, `longest` seconds at most."""
        left = longest if self._end is None else max(0.0, self._end - self._clock()) * fraction
        return Deadline(min(left, longest), self._clock, self._sleep)

    def passed(self) -> bool:
        """Return whether the time is over."""
        return self._end is not None and self._clock() >= self._end

    def pause(self, longest: float | None = None) -> None:
        """Sleep until it is time to look again: after `longest` seconds (default: the rhythm), or at the end."""
        seconds = self._rhythm if longest is None else longest
        if self._end is not None:
            seconds = min(seconds, self._end - self._clock())
        if not self.is_late and self._clock() - self.begun >= A_LONG_TIME:
            self.is_late = True
            self._waited_long()
        self._sleep(max(seconds, 0.001))
