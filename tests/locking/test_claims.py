from __future__ import annotations

import os

from borg_serve_lib.locking.claims import Claims


def test_the_first_claimant_has_it_until_it_gives_it_up() -> None:
    claims = Claims(os.getpid)
    assert claims.owner("/a") is None
    assert claims.claim("/a", "first")
    assert claims.claim("/a", "first")
    assert not claims.claim("/a", "second")
    assert claims.owner("/a") == "first"
    claims.drop("/a", "second")
    assert claims.owner("/a") == "first"
    claims.drop("/a", "first")
    assert claims.owner("/a") is None


def test_a_claim_that_failed_is_void() -> None:
    claims = Claims(os.getpid)
    claims.claim("/a", "first")
    claims.claim("/a", "second")
    claims.drop("/a", "first")
    assert claims.owner("/a") is None
    assert claims.claim("/a", "third")


def test_claims_to_different_paths_do_not_meet() -> None:
    claims = Claims(os.getpid)
    assert claims.claim("/a", "first")
    assert claims.claim("/b", "second")


def test_dropping_what_was_never_claimed_does_nothing() -> None:
    Claims(os.getpid).drop("/a", "first")


def test_an_entry_is_ours_from_the_first_reader_until_it_is_removed() -> None:
    claims = Claims(os.getpid)
    assert not claims.has_entry("/a")
    claims.sign_on("/a", "first")
    claims.sign_on("/a", "second")
    assert claims.readers("/a") == {"first", "second"}
    claims.sign_off("/a", "first")
    claims.sign_off("/a", "first")
    assert claims.readers("/a") == {"second"}
    claims.sign_off("/a", "second")
    assert (claims.readers("/a"), claims.has_entry("/a")) == (frozenset(), True)
    claims.entry_removed("/a")
    assert not claims.has_entry("/a")
    claims.sign_off("/a", "first")
    claims.sign_all_off("/a")
    assert not claims.has_entry("/a")


def test_all_readers_can_be_signed_off_at_once() -> None:
    claims = Claims(os.getpid)
    claims.sign_on("/a", "first")
    claims.sign_on("/b", "first")
    claims.sign_all_off("/a")
    assert claims.readers("/a") == frozenset()
    assert claims.readers("/b") == {"first"}


def test_each_that_waits_has_the_lowest_number_that_is_free() -> None:
    claims = Claims(os.getpid)
    assert [claims.number("/a", who) for who in ("x", "y", "x", "z")] == [0, 1, 0, 2]
    assert claims.number("/b", "y") == 0
    claims.free_number("/a", "x")
    claims.free_number("/a", "x")
    claims.free_number("/c", "x")
    assert [claims.number("/a", who) for who in ("y", "x")] == [1, 0]


def test_a_child_made_by_fork_has_claimed_nothing() -> None:
    pid = 5
    claims = Claims(lambda: pid)
    claims.claim("/a", "first")
    claims.sign_on("/a", "first")
    pid = 6
    assert (claims.owner("/a"), claims.has_entry("/a"), claims.readers("/a")) == (None, False, frozenset())
    assert claims.claim("/a", "second")
