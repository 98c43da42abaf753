from __future__ import annotations

import pytest

from borg_serve_lib.errors import UsageError
from borg_serve_lib.limits import MANIFEST_ID
from borg_serve_lib.policy.access import AllowAll, Verb
from borg_serve_lib.policy.permissions import MODES, Permissions, permissions_mode, policy_of

SOME = b"\x07" * 32

# What each kind of permissions is for, in the words of its help.
ALLOWED = {
    "no-delete": {Verb.LIST, Verb.GET, Verb.PUT, Verb.KEY_READ, Verb.CHECK, Verb.CREATE},
    "write-only": {Verb.PUT, Verb.KEY_READ, Verb.CREATE},
    "read-only": {Verb.LIST, Verb.GET, Verb.KEY_READ, Verb.CHECK},
}


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("mode", ALLOWED)
def test_each_kind_allows_what_it_says(mode: str, verb: Verb) -> None:
    decision = Permissions(mode).decide(verb, SOME)
    assert decision.allowed is (verb in ALLOWED[mode])
    assert (mode in decision.reason) is not decision.allowed
    assert "\n" not in decision.reason


@pytest.mark.parametrize(
    ("mode", "verb", "allowed"),
    [
        ("no-delete", Verb.OVERWRITE, True),
        ("write-only", Verb.OVERWRITE, True),
        ("read-only", Verb.OVERWRITE, False),
        ("write-only", Verb.GET, True),
        ("no-delete", Verb.DELETE, False),
        ("write-only", Verb.DELETE, False),
    ],
)
def test_each_backup_writes_the_manifest_anew(mode: str, verb: Verb, allowed: bool) -> None:
    assert Permissions(mode).decide(verb, MANIFEST_ID).allowed is allowed


@pytest.mark.parametrize("verb", Verb)
def test_all_is_all(verb: Verb) -> None:
    assert isinstance(policy_of("all"), AllowAll)
    assert Permissions("all").decide(verb, SOME).allowed


@pytest.mark.parametrize("text", ["", "ALL", "readonly", "read-only ", "none"])
def test_other_words_are_no_permissions(text: str) -> None:
    with pytest.raises(UsageError, match="write one of all, no-delete, write-only, read-only"):
        permissions_mode(text)


def test_every_mode_has_a_policy() -> None:
    for mode in MODES:
        assert permissions_mode(mode) == mode
        policy_of(mode)
