"""Values of options, from text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import UsageError
from borg_serve_lib.policy import option_values as values
from borg_serve_lib.reporting import Level

ONE_LINE = st.text(st.characters(codec="utf-8"))


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("10000000", 10_000_000),
        ("10M", 10_000_000),
        ("10000K", 10_000_000),
        ("500G", 500 * 10**9),
        ("1.5T", 1_500_000_000_000),
        ("2P", 2 * 10**15),
        ("10000000.9", 10_000_000),
        ("0.01G", 10_000_000),
        (".5G", 500_000_000),
        ("5.G", 5 * 10**9),
        ("+5G", 5 * 10**9),
        ("1e9", 10**9),
        ("1e1G", 10**10),
        ("50000000", 50_000_000),
        ("0", 0),
        ("0K", 0),
        ("0.0", 0),
    ],
)
def test_a_quota_is_bytes_in_decimal_units_truncated(text: str, quota: int) -> None:
    assert values.storage_quota(text) == quota


@pytest.mark.parametrize(
    "text", ["", "K", "50m", "5GiB", "5GB", "1E", "5 G", " 5G", "5G ", "5G\n", "1_000M", "nan", "inf"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size; write bytes"):
        values.storage_quota(text)


@pytest.mark.parametrize("text", ["9999999", "9999999.9", "9.9M", "1", "-1", "-5G", "-0.00001P"])
def test_a_quota_below_ten_million_bytes_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="too small; write at least 10M, or 0 for no limit"):
        values.storage_quota(text)


@pytest.mark.parametrize("text", ["1e400", "9" * 400 + "P", "1e300P"])
def test_a_quota_that_no_number_can_hold_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="too large"):
        values.storage_quota(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64M", 64 * 10**6), ("1.5G", 15 * 10**8), ("64000000", 64 * 10**6), ("0", 0), ("10000P", 1 << 60)],
)
def test_a_limit_of_memory_is_written_as_a_quota_is(text: str, size: int) -> None:
    assert values.memory(text) == size


@pytest.mark.parametrize("text", ["63999999", "1", "-1G"])
def test_a_limit_of_memory_in_which_no_server_can_work_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="too small; write at least 64M, or 0 for no limit"):
        values.memory(text)


@given(st.integers(10_000, 10**12), st.sampled_from("KMGTP"))
def test_a_quota_in_units_is_the_product(number: int, unit: str) -> None:
    assert values.storage_quota(f"{number}{unit}") == int(float(number) * 1000 ** (1 + "KMGTP".index(unit)))


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("077", 0o077),
        ("022", 0o022),
        ("0", 0),
        ("00", 0),
        ("777", 0o777),
        ("0o27", 0o27),
        ("0O27", 0o27),
        ("-1", 0o777),
    ],
)
def test_a_umask_is_octal_text(text: str, bits: int) -> None:
    assert values.umask(text) == bits


@pytest.mark.parametrize(
    "text", ["", "8", "abc", "0x1f", "0b1", " 22", "22\n", "7_7", "٠٢٢", "777777777777", "--1", "0o", "0o8", "0o87"]
)
def test_what_is_no_octal_number_is_no_umask(text: str) -> None:
    with pytest.raises(UsageError, match="is no octal number"):
        values.umask(text)


@given(st.text("01234567", min_size=1, max_size=11))
def test_a_umask_never_exceeds_the_permission_bits(text: str) -> None:
    assert 0 <= values.umask(text) <= 0o777


@given(st.integers(-(10**17), 10**17))
def test_whole_numbers_round_trip(number: int) -> None:
    assert values.whole_number(str(number)) == number


@pytest.mark.parametrize("text", ["", "abc", "1.5", "1e3", " 1", "1 ", "1\n", "0x10", "٣", "1" * 19, "inf", "-"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no whole number"):
        values.whole_number(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("repository", "borg.debug.repository"), ("borg.debug.repository", "borg.debug.repository"), ("x.y", "x.y")],
)
def test_a_topic_without_a_dot_is_below_borg_debug(text: str, name: str) -> None:
    assert values.topic(text) == name


@given(st.text(st.characters()))
def test_any_text_is_taken_as_it_stands(text: str) -> None:
    assert values.any_text(text) == text


@given(st.text(st.characters(), max_size=200))
def test_text_is_shown_on_one_short_line_that_is_valid_utf_8(text: str) -> None:
    shown = values.shown(text)
    shown.encode("utf-8")
    assert len(shown.splitlines()) == 1
    assert shown.isprintable()
    assert shown[0] == shown[-1] in "'\""


@given(ONE_LINE.filter(lambda text: len(text) > 60))
def test_long_text_is_cut_where_it_is_shown(text: str) -> None:
    assert values.shown(text) == repr(text[:57] + "...")


def test_text_of_sixty_characters_is_shown_whole() -> None:
    assert values.shown("x" * 60) == f"'{'x' * 60}'"


# --- seconds, levels, ways to confine


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("60", 60), ("+7", 7)])
def test_seconds_are_whole_and_not_below_zero(text: str, number: int) -> None:
    assert values.seconds(text) == number


@pytest.mark.parametrize("text", ["-1", "1.5", "", "soon", "1h", "9" * 19])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no"):
        values.seconds(text)


@pytest.mark.parametrize("level", Level)
def test_a_level_is_given_by_its_name(level: Level) -> None:
    assert values.level(level.name.lower()) is level
    assert values.level(level.name) is level


@pytest.mark.parametrize("text", ["", "10", "warn", "notset"])
def test_another_level_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="write one of debug, info, warning, error, critical"):
        values.level(text)


@pytest.mark.parametrize("text", values.CONFINE)
def test_a_way_to_confine_is_given_by_its_name(text: str) -> None:
    assert values.confine(text) == text


@pytest.mark.parametrize("text", ["", "yes", "AUTO"])
def test_another_way_to_confine_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="write one of auto, require, off"):
        values.confine(text)
