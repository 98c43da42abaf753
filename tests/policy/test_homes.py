"""What `~` means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.policy.homes import Homes

ACCOUNTS = {"": "/home/me", "me": "/home/me", "root": "/root", "daemon": "/usr/sbin", "slash": "/", "trail": "/t/"}


def homes(
    borg_base_dir: str | None = None, home: str | None = "/home/env", user: str | None = "me", is_root: bool = False
) -> Homes:
    return Homes(borg_base_dir, home, user, is_root, ACCOUNTS.get)


@pytest.mark.parametrize(
    ("rules", "base_dir"),
    [
        (homes(borg_base_dir="/base"), "/base"),
        (homes(borg_base_dir="rel"), "rel"),
        (homes(borg_base_dir=""), "/home/env"),
        (homes(), "/home/env"),
        (homes(home=None, user="daemon"), "/usr/sbin"),
        (homes(home="", user="daemon"), "/usr/sbin"),
        (homes(home=None, user="nosuch"), "~nosuch"),
        (homes(home=None, user=None), "/home/me"),
        (homes(home=None, user=""), "/home/me"),
        (homes(home="/root"), "/home/me"),
        (homes(home="/root", user="daemon"), "/usr/sbin"),
        (homes(home="/root", is_root=True), "/root"),
        (homes(home="/root", borg_base_dir="/base"), "/base"),
        (Homes(None, None, None, False, lambda name: None), "~"),
    ],
)
def test_the_base_directory_is_the_first_that_is_known(rules: Homes, base_dir: str) -> None:
    assert rules.base_dir() == base_dir


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("~", "/home/env"),
        ("~/x", "/home/env/x"),
        ("~daemon", "/usr/sbin"),
        ("~daemon/x/y", "/usr/sbin/x/y"),
        ("~daemon//x", "/usr/sbin//x"),
        ("~slash", "/"),
        ("~slash/x", "/x"),
        ("~trail/x", "/t/x"),
        ("~nosuch", "~nosuch"),
        ("~nosuch/x", "~nosuch/x"),
        ("x/~", "x/~"),
        ("/~", "/~"),
        ("", ""),
    ],
)
def test_a_leading_tilde_is_replaced_where_the_account_exists(path: str, expanded: str) -> None:
    assert homes().expand(path) == expanded


def test_the_base_directory_of_borg_does_not_move_homes() -> None:
    assert homes(borg_base_dir="/base").expand("~") == "/home/env"


def test_a_home_that_is_roots_is_ignored_unless_root_asks() -> None:
    assert homes(home="/root").expand("~/x") == "/home/me/x"
    assert homes(home="/root", is_root=True).expand("~/x") == "/root/x"


def test_without_variable_and_account_a_tilde_is_a_name() -> None:
    assert Homes(None, None, None, True, lambda name: None).expand("~/x") == "~/x"


def test_root_is_not_looked_up_when_root_asks() -> None:
    def forbidden(name: str) -> str | None:
        raise AssertionError(name)

    assert Homes(None, "/root", None, True, forbidden).expand("~") == "/root"


@given(st.text(st.characters()))
def test_only_a_leading_tilde_changes_anything(path: str) -> None:
    assert path.startswith("~") or homes().expand(path) == path


def test_they_are_found_in_an_environment() -> None:
    environment = {"BORG_BASE_DIR": "/base", "HOME": "/home/env", "OTHER": "x"}
    assert Homes.of(environment, is_root=True, account_home=ACCOUNTS.get) == homes("/base", user=None, is_root=True)


def test_a_restricted_client_learns_nothing_by_way_of_anothers_home() -> None:
    assert homes().expand_known("~daemon/../../srv/alice/repo") is None
    assert homes().expand_known("~nosuch/../../srv/alice/repo") is None
    assert homes().expand_known("~daemon/..x/y") == "/usr/sbin/..x/y"
    assert homes().expand_known("~/../x") == "/home/env/../x"
