"""The config file: borg's own bytes, Python's configparser as the judge, and damaged files."""

from __future__ import annotations

import io
from configparser import ConfigParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import InvalidArgument, InvalidRepositoryConfig
from borg_serve_lib.format.config import README_TEXT, RepositoryConfig, is_repository_readme, parse_size
from tests import vectors_support as vectors

ID = bytes(range(32))
PATH = "/srv/repo"

NEW = f"""\
[repository]
version = 1
segments_per_dir = 1000
max_segment_size = 524288000
append_only = 0
storage_quota = 0
additional_free_space = 0
id = {ID.hex()}

"""

KEY = (
    f"BORG_KEY {ID.hex()}\n"
    + "\n".join(["hqlhbGdvcml0aG2mc2hhMjU2pGRhdGHaAN6eMuyx3t2nd0TtzD28nzmwZ3nFqGnMKLYaBg+/"] * 6)
    + "\nZQ=="
)


def parse(text: str | bytes) -> RepositoryConfig:
    return RepositoryConfig.parse(text, PATH)


def with_line(name: str, value: str | None) -> str:
    """NEW with another value of `name`, or without it."""
    lines = [line for line in NEW.splitlines() if not line.startswith(f"{name} =")]
    return "\n".join([*lines[:-1], *([] if value is None else [f"{name} = {value}"]), "", ""])


def judge(data: bytes) -> ConfigParser:
    """What a Python program reads from a file with these bytes."""
    parser = ConfigParser(interpolation=None)
    parser.read_file(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    return parser


def judge_writes(parser: ConfigParser) -> bytes:
    stream = io.StringIO()
    parser.write(stream)
    return stream.getvalue().encode()


def everything(parser: ConfigParser) -> dict[str, dict[str, str]]:
    return {section: dict(parser.items(section)) for section in parser.sections()}


# --- README


def test_the_readme_is_borgs_own() -> None:
    assert len(README_TEXT) == 73
    assert README_TEXT.startswith(b"This is a Borg Backup repository.\nSee https://")


@pytest.mark.parametrize("name", vectors.names())
def test_the_readme_of_each_vector_marks_a_repository(name: str, tmp_path: Path) -> None:
    text = (vectors.unpack(name, tmp_path) / "README").read_bytes()
    assert is_repository_readme(text)
    assert (text == README_TEXT) is (name != "plain-1.0.13")


def test_a_readme_marks_a_repository_within_its_first_100_bytes() -> None:
    assert is_repository_readme(b"This is a Borg repository\n")
    assert is_repository_readme(b"x" * 85 + b"Borg repository")
    assert not is_repository_readme(b"x" * 86 + b"Borg repository")
    assert not is_repository_readme(b"")
    assert not is_repository_readme(b"This is a borg backup repository.\n")


# --- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("524288000", 524288000),
        ("5M", 5_000_000),
        ("1.5G", 1_500_000_000),
        ("1K", 1000),
        ("2T", 2 * 10**12),
        ("3P", 3 * 10**15),
        ("1e3", 1000),
        (" 7 ", 7),
        ("0.9", 0),
        (".5K", 500),
        ("4273995775", 4273995775),
    ],
)
def test_a_size_is_a_decimal_number_with_a_decimal_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "K",
        "5m",
        "5k",
        "5MB",
        "5 MiB",
        "five",
        "nan",
        "inf",
        "-inf",
        "infK",
        "nanG",
        "-1",
        "-0.5",
        "-5M",
        "1e400",
        "0x10",
        "5MK",
        "1e308P",
        "9" * 1000,
    ],
)
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no size"):
        parse_size(text)


@given(st.text(max_size=12) | st.from_regex(r"[-+]?[0-9._]*(e[0-9]+)?[KMGTPkE]?", fullmatch=True))
def test_any_text_is_a_size_or_named(text: str) -> None:
    try:
        size = parse_size(text)
    except InvalidArgument:
        return
    assert size >= 0


# --- reading and writing


def test_a_new_config_has_borgs_bytes() -> None:
    config = RepositoryConfig.new(repository_id=ID, append_only=False, storage_quota=0)
    assert config.render() == NEW.encode()
    other = RepositoryConfig.new(
        repository_id=ID,
        append_only=True,
        storage_quota=10**10,
        segments_per_dir=4,
        max_segment_size=5000,
        additional_free_space=7,
    )
    again = parse(other.render())
    assert (again.append_only, again.storage_quota, again.segments_per_dir) == (True, 10**10, 4)
    assert (again.max_segment_size, again.additional_free_space, again.id) == (5000, 7, ID)


@pytest.mark.parametrize("name", vectors.names())
def test_a_config_written_by_borg_is_read_and_comes_out_byte_for_byte(name: str, tmp_path: Path) -> None:
    data = (vectors.unpack(name, tmp_path) / "config").read_bytes()
    config = parse(data)
    assert config.render() == data
    read = judge(data)["repository"]
    assert config.version == 1
    assert config.id.hex() == read["id"]
    assert config.segments_per_dir == int(read["segments_per_dir"])
    assert config.max_segment_size == int(read["max_segment_size"])
    assert config.append_only is (name == "append-only-1.4.5")
    assert config.storage_quota == int(read.get("storage_quota", "0"))
    assert config.additional_free_space == 0
    assert config.last_segment_checked is None
    assert config.key == read.get("key", "")
    assert bool(config.key) is (name == "repokey-1.4.5")


def test_what_is_not_required_has_a_default() -> None:
    config = parse(
        f"[repository]\nversion = 1\nsegments_per_dir = 10000\nmax_segment_size = 5242880\nid = {ID.hex()}\n"
    )
    assert (config.append_only, config.storage_quota, config.additional_free_space) == (False, 0, 0)
    assert (config.key, config.last_segment_checked) == ("", None)
    assert (config.segments_per_dir, config.max_segment_size) == (10000, 5242880)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("yes", True),
        ("True", True),
        ("ON", True),
        ("0", False),
        ("No", False),
        ("false", False),
        ("oFF", False),
    ],
)
def test_append_only_takes_the_words_for_yes_and_no(text: str, value: bool) -> None:
    assert parse(with_line("append_only", text)).append_only is value


def test_sizes_may_have_units() -> None:
    assert parse(with_line("storage_quota", "1.5G")).storage_quota == 1_500_000_000
    assert parse(with_line("additional_free_space", "2G")).additional_free_space == 2 * 10**9
    assert parse(with_line("max_segment_size", "5M")).max_segment_size == 5_000_000
    assert parse(with_line("max_segment_size", "4273995775")).max_segment_size == 4273995775


def test_the_id_may_have_blanks_around_it_and_capitals() -> None:
    assert parse(with_line("id", f"  {ID.hex().upper()}  ")).id == ID
    assert parse(with_line("id", f"\n  {ID.hex()}")).id == ID


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_names_have_no_case_and_lines_any_end(newline: str) -> None:
    text = NEW.replace("version = 1", "VERSION: 1").replace("id =", "Id=").replace("\n", newline)
    for form in (text, text.encode()):
        assert parse(form).render().splitlines()[:2] == [b"[repository]", b"version = 1"]
        assert parse(form).id == ID


def test_foreign_names_and_sections_survive_a_rewrite_and_comments_do_not() -> None:
    text = (
        "# mine\n"
        + NEW.rstrip()
        + "\nComment = 100 % mine %(x)s ${y}\n\tand\n\n\tmore\n; gone\n\n[other]\nkey = 1\nVersion = 7\n\n"
    )
    config = parse(text)
    config.append_only = True
    config.key = KEY
    config.last_segment_checked = 5
    config.last_segment_checked = None
    again = judge(config.render())
    assert again["repository"]["comment"] == "100 % mine %(x)s ${y}\nand\n\nmore"
    assert dict(again["other"]) == {"key": "1", "version": "7"}
    assert again["repository"]["key"] == KEY
    assert parse(config.render()).render() == config.render()


def test_what_may_change_is_written_and_read() -> None:
    config = parse(NEW)
    config.append_only = True
    config.storage_quota = 5 * 10**9
    config.additional_free_space = 10**7
    config.last_segment_checked = 123
    again = parse(config.render())
    for one in (config, again):
        assert (one.append_only, one.storage_quota, one.additional_free_space) == (True, 5 * 10**9, 10**7)
        assert one.last_segment_checked == 123
    again.append_only = False
    again.storage_quota = 0
    again.additional_free_space = 0
    again.last_segment_checked = None
    assert again.last_segment_checked is None
    assert again.render() == NEW.encode()
    again.last_segment_checked = None
    assert again.render() == NEW.encode()


# --- the key


def test_a_key_of_several_lines_lies_in_the_file_as_borg_writes_it() -> None:
    config = parse(NEW)
    assert config.key == ""
    config.key = KEY
    lines = KEY.split("\n")
    expected = NEW[:-1] + f"key = {lines[0]}\n" + "".join(f"\t{line}\n" for line in lines[1:]) + "\n"
    assert config.render() == expected.encode()
    assert config.key == parse(config.render()).key == KEY
    config.key = "another"
    assert parse(config.render()).key == "another"
    config.key = ""
    assert parse(config.render()).key == ""


@pytest.mark.parametrize("name", vectors.names())
def test_saving_the_key_again_leaves_the_file_as_it_is(name: str, tmp_path: Path) -> None:
    data = (vectors.unpack(name, tmp_path) / "config").read_bytes()
    config = parse(data)
    if config.key:
        config.key = config.key
    assert config.render() == data


key_texts = st.one_of(
    st.text(st.sampled_from("ab=+/\n\r\t #;[]:%$\u00e4\u2028\x0b\x1c"), max_size=40),
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            ["version = 2", "[repository]", "id = 00", "append_only = 1", "", " ", "\t", "#", "key = 2", "x"]
        )
    ).flatmap(lambda lines: st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\r"]).map(lambda end: end.join(lines))),
)


@given(key_texts)
def test_a_key_is_read_as_configparser_reads_it_and_changes_nothing_else(text: str) -> None:
    config = parse(NEW)
    try:
        config.key = text
    except InvalidArgument:
        assert "\0" in text
        return
    written = judge(NEW.encode())
    written.set("repository", "key", text.replace("\r\n", "\n").replace("\r", "\n"))
    assert config.render() == judge_writes(judge(judge_writes(written)))
    assert config.key == parse(config.render()).key == judge(config.render()).get("repository", "key").strip()
    read = everything(judge(config.render()))
    del read["repository"]["key"]
    assert read == everything(judge(NEW.encode()))


@given(st.lists(st.text("ABCDabcd0123+/=", min_size=1, max_size=70), min_size=1, max_size=12))
def test_a_key_as_clients_send_it_is_returned_as_it_was(lines: list[str]) -> None:
    config = parse(NEW)
    config.key = "\n".join(lines)
    assert config.key == parse(config.render()).key == "\n".join(lines)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_key_that_no_config_can_hold_is_refused(text: str) -> None:
    config = parse(NEW)
    with pytest.raises(InvalidArgument):
        config.key = text
    assert config.render() == NEW.encode()


# --- configparser as the judge

config_lines = st.lists(
    st.one_of(
        st.sampled_from(["[repository]", "[other]", "[DEFAULT]", "[]", "[x", "version = 1", "segments_per_dir: 4"]),
        st.sampled_from(
            ["max_segment_size = 5M", f"id = {ID.hex()}", "append_only = yes", "storage_quota = 1G", "key = a"]
        ),
        st.sampled_from(
            ["\tb", "  c", "", "   ", "# x", "; y", "name", "name =", "= value", "Name : v = w", "a\rb = 1"]
        ),
        st.sampled_from(["\xa0", "\u2028x = 1", "last_segment_checked = 7"]),
        st.text(max_size=10),
    ),
    max_size=14,
)


@settings(deadline=None)
@given(config_lines, st.booleans())
def test_random_lines_are_read_as_configparser_reads_them_or_named(lines: list[str], behind_a_good_one: bool) -> None:
    data = ((NEW if behind_a_good_one else "") + "\n".join(lines)).encode()
    try:
        config = parse(data)
    except InvalidRepositoryConfig:
        return
    read = judge(data)
    assert config.render() == judge_writes(read)
    assert everything(judge(config.render())) == everything(read)
    section = read["repository"]
    assert config.id.hex() == section["id"].lower()
    assert config.append_only is section.getboolean("append_only", fallback=False)
    assert config.key == section.get("key", fallback="").strip()


# --- damage


@pytest.mark.parametrize("name", ["version", "segments_per_dir", "max_segment_size", "id"])
def test_a_missing_option_is_named(name: str) -> None:
    with pytest.raises(InvalidRepositoryConfig, match=f"option '{name}' is missing"):
        parse(with_line(name, None))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("version", "2", "repository version 2 is not supported by this borg version"),
        ("version", "-1", "repository version -1 is not supported by this borg version"),
        ("version", "one", "option 'version': 'one' is no whole number"),
        ("version", "1.0", "option 'version': '1.0' is no whole number"),
        ("version", "", "option 'version': '' is no whole number"),
        ("segments_per_dir", "0", "option 'segments_per_dir': 0 is less than 1"),
        ("segments_per_dir", "-1000", "option 'segments_per_dir': -1000 is less than 1"),
        ("segments_per_dir", "1K", "option 'segments_per_dir': '1K' is no whole number"),
        ("segments_per_dir", "9" * 5000, "option 'segments_per_dir': '999"),
        ("max_segment_size", "0", "option 'max_segment_size': '0' is less than 1 byte"),
        ("max_segment_size", "-5M", "option 'max_segment_size': '-5M' is no size"),
        ("max_segment_size", "", "option 'max_segment_size': '' is no size"),
        ("max_segment_size", "4273995776", "'4273995776' is too large, it must be less than 4273995776 bytes"),
        ("max_segment_size", "5G", "option 'max_segment_size': '5G' is too large"),
        ("append_only", "maybe", "option 'append_only': 'maybe' is neither yes nor no"),
        ("append_only", "", "option 'append_only': '' is neither yes nor no"),
        ("append_only", "2", "option 'append_only': '2' is neither yes nor no"),
        ("storage_quota", "lots", "option 'storage_quota': 'lots' is no size"),
        ("storage_quota", "-1", "option 'storage_quota': '-1' is no size"),
        ("storage_quota", "inf", "option 'storage_quota': 'inf' is no size"),
        ("additional_free_space", "nan", "option 'additional_free_space': 'nan' is no size"),
        ("id", "", "option 'id': '' is not 64 hex digits"),
        ("id", ID.hex()[2:], "is not 64 hex digits"),
        ("id", ID.hex() + "00", "is not 64 hex digits"),
        ("id", ID.hex()[1:], "is not 64 hex digits"),
        ("id", "g" + ID.hex()[1:], "is not 64 hex digits"),
        ("id", ID.hex()[:30] + "    " + ID.hex()[30:60], "is not 64 hex digits"),
        ("id", ID.hex()[:30] + "  " + ID.hex()[30:], "is not 64 hex digits"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, reason: str) -> None:
    with pytest.raises(InvalidRepositoryConfig) as caught:
        parse(with_line(name, value))
    assert caught.value.path == PATH
    assert reason in caught.value.reason
    assert len(caught.value.reason) < 200


def test_a_bad_place_of_a_partial_check_is_named_when_it_is_needed() -> None:
    config = parse(with_line("last_segment_checked", "far"))
    assert config.id == ID
    with pytest.raises(InvalidRepositoryConfig, match="option 'last_segment_checked': 'far' is no whole number"):
        _ = config.last_segment_checked
    config.last_segment_checked = None
    assert config.last_segment_checked is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no repository section found"),
        (b"\n\n# only a comment\n", "no repository section found"),
        (b"[Repository]\nversion = 1\n", "no repository section found"),
        (b"[other]\n" + NEW.encode().partition(b"\n")[2], "no repository section found"),
        (NEW.encode().partition(b"\n")[2], "line 1 is before any section"),
        (b"\xef\xbb\xbf" + NEW.encode(), "line 1 is before any section"),
        (NEW.encode().rstrip() + b"\nid = 00\n", "option 'id' is there twice, again in line 9"),
        (NEW.encode().rstrip() + b"\nID = 00\n", "option 'id' is there twice, again in line 9"),
        (NEW.encode() + b"[repository]\n", "section 'repository' is there twice, again in line 10"),
        (NEW.encode().rstrip() + b"\nsecret words\n", "it cannot be understood, see line 9"),
        (NEW.encode().rstrip() + b"\na\nb\nc\nd\n", "it cannot be understood, see line 9, 10, 11"),
        (NEW.encode() + b"\xff", f"it is no UTF-8 text, byte {len(NEW)} cannot be read"),
        (NEW.encode("utf-16"), "it is no UTF-8 text, byte 0 cannot be read"),
        (NEW.encode() + b"\0", "it contains a NUL character"),
        (bytes(4096), "it contains a NUL character"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_apart(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidRepositoryConfig) as caught:
        parse(data)
    assert (caught.value.path, caught.value.reason) == (PATH, reason)


def test_text_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(InvalidRepositoryConfig, match="no UTF-8 text"):
        parse(NEW + "\ud800")


def test_a_damaged_line_of_the_key_is_not_quoted() -> None:
    with pytest.raises(InvalidRepositoryConfig) as caught:
        parse(NEW.rstrip() + "\nkey = c2VjcmV0\nc2VjcmV0\n")
    assert "c2VjcmV0" not in str(caught.value)


def test_one_flipped_bit_is_read_or_named() -> None:
    data = (NEW.rstrip() + "\nkey = c2VjcmV0\n\tc2VjcmV0\n\n").encode()
    named = 0
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert parse(bytes(flipped)).render()
        except InvalidRepositoryConfig:
            named += 1
    assert 0 < named < len(data) * 8


def test_a_config_cut_anywhere_is_read_or_named() -> None:
    for length in range(len(NEW)):
        text = NEW[:length]
        try:
            config = parse(text)
        except InvalidRepositoryConfig:
            assert length < len(NEW) - 2
        else:
            assert config.id == ID
            assert length >= len(NEW) - 2
