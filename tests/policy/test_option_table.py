"""The table of options, compared with the specification's tables."""

from __future__ import annotations

import pytest

from borg_serve_lib.errors import UsageError
from borg_serve_lib.policy.option_table import OPTIONS, Kind, Origin, find_option
from borg_serve_lib.policy.options import ServeOptions
from borg_serve_lib.values import declared_fields

SERVE_OPTIONS = {"--restrict-to-path", "--restrict-to-repository", "--append-only", "--storage-quota"}
COMMON_OPTIONS = {
    "--critical", "--error", "--warning", "--info", "--verbose", "-v", "--debug", "--debug-topic", "--umask",
    "--lock-wait", "--show-rc", "--show-version", "--log-json", "--progress", "-p", "--remote-path", "--rsh",
    "--remote-ratelimit",
    "--upload-ratelimit", "--upload-buffer", "--remote-buffer", "--iec", "--consider-part-files", "--debug-profile",
    "--bypass-lock", "--help", "-h", "--version", "-V",
}  # fmt: skip


OUR_OPTIONS = {
    "--permissions",
    "--confine",
    "--idle-timeout",
    "--session-timeout",
    "--max-memory",
    "--max-lock-wait",
    "--max-log-level",
    "--audit-log",
    "--syslog",
    "--metrics-dir",
    "--on-event",
    "--client-name",
}


def test_the_table_has_the_options_of_borg_1_4_and_some_of_our_own() -> None:
    names = {
        origin: {name for option in OPTIONS if option.origin is origin for name in option.names} for origin in Origin
    }
    assert names == {Origin.COMMON: COMMON_OPTIONS, Origin.SERVE: SERVE_OPTIONS, Origin.OURS: OUR_OPTIONS}


def test_no_name_stands_in_two_rows() -> None:
    names = [name for option in OPTIONS for name in option.names]
    assert len(names) == len(set(names))


def test_each_field_of_the_options_is_set_by_some_row_and_each_row_sets_a_field_that_exists() -> None:
    assert {option.field for option in OPTIONS} - {None} == set(declared_fields(ServeOptions))


def test_only_options_without_a_value_have_one_letter_names() -> None:
    short = [option for option in OPTIONS if any(len(name) == 2 for name in option.names)]
    assert {option.kind for option in short} == {Kind.FLAG, Kind.HELP, Kind.VERSION}


def test_exactly_the_options_with_a_value_name_it_for_the_help() -> None:
    with_value = {option.names for option in OPTIONS if option.kind in (Kind.VALUE, Kind.APPEND)}
    assert {option.names for option in OPTIONS if option.metavar} == with_value


@pytest.mark.parametrize("name", sorted(SERVE_OPTIONS | COMMON_OPTIONS))
def test_every_full_name_is_found_even_where_others_begin_with_it(name: str) -> None:
    option = find_option(name)
    assert option is not None
    assert name in option.names


@pytest.mark.parametrize(
    ("beginning", "name"),
    [
        ("--a", "--append-only"),
        ("--st", "--storage-quota"),
        ("--restrict-to-p", "--restrict-to-path"),
        ("--restrict-to-r", "--restrict-to-repository"),
        ("--um", "--umask"),
        ("--loc", "--lock-wait"),
        ("--log", "--log-json"),
        ("--debug-t", "--debug-topic"),
        ("--inf", "--info"),
        ("--w", "--warning"),
        ("--e", "--error"),
        ("--cr", "--critical"),
        ("--rs", "--rsh"),
        ("--verb", "--verbose"),
        ("--show-r", "--show-rc"),
        ("--b", "--bypass-lock"),
        ("--h", "--help"),
        ("--p", "--progress"),
        ("--perm", "--permissions"),
        ("--au", "--audit-log"),
        ("--sy", "--syslog"),
    ],
)
def test_a_unique_beginning_is_enough(beginning: str, name: str) -> None:
    option = find_option(beginning)
    assert option is not None
    assert name in option.names


@pytest.mark.parametrize(
    "beginning", ["--s", "--u", "--lo", "--d", "--deb", "--i", "--c", "--r", "--restrict", "--v", "--ver", "--"]
)
def test_a_beginning_of_several_names_is_refused_and_names_them(beginning: str) -> None:
    with pytest.raises(UsageError, match=f"option {beginning} is ambiguous: it could be --[a-z-]+ or --"):
        find_option(beginning)


def test_the_refusal_of_an_ambiguous_name_says_what_to_write() -> None:
    with pytest.raises(UsageError) as caught:
        find_option("--restrict")
    assert str(caught.value) == (
        "option --restrict is ambiguous: it could be --restrict-to-path or --restrict-to-repository; write more of it"
    )


@pytest.mark.parametrize(
    "name", ["--nosuch", "--debugg", "--Debug", "-x", "-", "-P", "--restrict-to-path=", "--no-files-cache"]
)
def test_other_names_are_unknown(name: str) -> None:
    assert find_option(name) is None
