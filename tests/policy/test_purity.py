"""The watch over these tests sees what it is for."""

from __future__ import annotations

import os

import pytest

from borg_serve_lib.policy.homes import Homes

from .conftest import WATCH


@pytest.mark.parametrize(
    "effect",
    [
        lambda: open(os.devnull).close(),
        lambda: os.listdir("/"),
        lambda: os.system("true"),
        lambda: os.symlink("/", "/"),
    ],
)
def test_an_effect_of_policy_would_be_seen(effect: object) -> None:
    def with_an_effect(name: str) -> None:
        try:
            effect()  # type: ignore[operator]
        except OSError:
            return

    Homes(None, None, None, False, with_an_effect).expand("~someone")
    assert WATCH.seen != []
    WATCH.seen.clear()
