"""Rights."""

from __future__ import annotations

import pytest

from borg_serve_lib.policy.access import AccessPolicy, AllOf, AllowAll, Decision, Verb


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


def test_several_policies_allow_what_each_of_them_allows_and_the_first_refusal_counts() -> None:
    class Refusing(AccessPolicy):
        def __init__(self, verb: Verb, looks: bool = False) -> None:
            self.verb, self.looks_at_objects = verb, looks

        def decide(self, verb: Verb, object_id: bytes | None = None) -> Decision:
            return Decision(verb is not self.verb, f"not {self.verb.value}, {object_id!r}")

    both = AllOf(Refusing(Verb.DELETE), Refusing(Verb.DELETE, looks=True), Refusing(Verb.COMPACT))
    assert both.decide(Verb.DELETE, b"x") == Decision(False, "not delete, b'x'")
    assert both.decide(Verb.COMPACT) == Decision(False, "not compact, None")
    assert both.decide(Verb.PUT).allowed
    assert both.looks_at_objects
    assert not AllOf(Refusing(Verb.PUT)).looks_at_objects
