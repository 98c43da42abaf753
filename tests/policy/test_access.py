"""Rights."""

from __future__ import annotations

import pytest

from borg_serve_lib.policy.access import AccessPolicy, AllowAll, Decision, Verb


def test_the_verbs_are_those_of_the_design() -> None:
    names = "list get put overwrite delete key-read key-write check repair compact break-lock create destroy"
    assert [verb.value for verb in Verb] == names.split()


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("object_id", [None, bytes(32)])
def test_without_a_policy_of_its_own_a_host_allows_everything(verb: Verb, object_id: bytes | None) -> None:
    assert AllowAll().decide(verb, object_id) == Decision(True, "")


def test_allowing_everything_needs_no_difference_between_put_and_overwrite() -> None:
    assert AllowAll().looks_at_objects is False


def test_a_policy_without_a_decision_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        AccessPolicy()  # type: ignore[abstract]


def test_a_policy_of_the_host_is_one_method() -> None:
    class NoDeletes(AccessPolicy):
        def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
            return Decision(verb is not Verb.DELETE, "nothing is deleted here" if verb is Verb.DELETE else "")

    assert NoDeletes().decide(Verb.DELETE, bytes(32)) == Decision(False, "nothing is deleted here")
    assert NoDeletes().decide(Verb.PUT).allowed
