"""Policy is pure: whatever its tests let it do, it opens no file and starts no process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

EFFECTS = ("open", "os.", "subprocess.", "socket.", "shutil.", "ctypes.")


class Watch:
    """Notes each effect that policy has, itself or through what it calls; imports do not count."""

    def __init__(self) -> None:
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.active and event.startswith(EFFECTS) and self._is_of_policy():
            self.seen.append(event)

    @staticmethod
    def _is_of_policy() -> bool:
        frame = sys._getframe(2)
        while frame.f_back:
            name = frame.f_globals.get("__name__", "")
            if name.startswith(("importlib", "_frozen_importlib")):
                return False
            if name.startswith("borg_serve_lib.policy"):
                return True
            frame = frame.f_back
        return False


WATCH = Watch()


@pytest.fixture(autouse=True)
def _nothing_outside_is_touched() -> Iterator[None]:
    WATCH.seen.clear()
    WATCH.active = True
    yield
    WATCH.active = False
    assert WATCH.seen == []
