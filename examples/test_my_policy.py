"""Unit tests of a policy of one's own: no disk, no server, no client."""

from datetime import datetime

import pytest
from own_rules import HousePolicy

from borg_serve_lib import Verb


@pytest.mark.parametrize(("hour", "allowed"), [(7, False), (8, True), (17, True), (18, False)])
def test_deleting_is_for_office_hours(hour: int, allowed: bool) -> None:
    policy = HousePolicy("alice", set(), now=lambda: datetime(2026, 11, 24, hour))
    assert policy.decide(Verb.DELETE).allowed is allowed
    assert policy.decide(Verb.PUT).allowed


def test_the_frozen_may_restore() -> None:
    policy = HousePolicy("bob", {"bob"}, now=lambda: datetime(2026, 11, 24, 12))
    assert [verb.value for verb in Verb if policy.decide(verb).allowed] == ["list", "get", "key-read", "check"]
