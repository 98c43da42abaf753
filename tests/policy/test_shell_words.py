"""Splitting a command line into words, with the standard library's splitter as the judge."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from borg_serve_lib.errors import UsageError
from borg_serve_lib.policy.shell_words import split_words

TRICKY = st.text(st.sampled_from(" \t\r\n'\"\\#;=$`a\udcff\v\u00a0é"), max_size=40)


def judged(line: str) -> list[str] | None:
    try:
        return shlex.split(line, comments=False, posix=True)
    except ValueError:
        return None


def ours(line: str) -> list[str] | None:
    try:
        return split_words(line)
    except UsageError:
        return None


@given(TRICKY)
@example("")
@example("''")
@example("a''b\"\"c")
@example('"\\a\\"\\\\\\$"')
@example("'a\\'b'")
@example("\\\n")
def test_lines_are_split_as_the_standard_library_splits_them(line: str) -> None:
    assert ours(line) == judged(line)


@given(st.lists(st.text(st.characters(), max_size=10)))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert split_words(shlex.join(words)) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("borg serve", ["borg", "serve"]),
        ("  borg\tserve \n", ["borg", "serve"]),
        ("borg serve # x", ["borg", "serve", "#", "x"]),
        ("borg serve; rm x", ["borg", "serve;", "rm", "x"]),
        ("borg '' \"\"", ["borg", "", ""]),
        ("bo'rg s'er\\ ve", ["borg ser ve"]),
        ("$HOME `id` *", ["$HOME", "`id`", "*"]),
    ],
)
def test_nothing_is_expanded_and_nothing_is_a_comment(line: str, words: list[str]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize("line", ["borg 'serve", 'borg "serve', 'borg "serve\\"', "'", "a'b'\"c"])
def test_a_quote_that_is_not_closed_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match="a quote in it is not closed"):
        split_words(line)


@pytest.mark.parametrize("line", ["\\", "borg serve\\", "'a'\\"])
def test_a_backslash_at_the_end_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match="a backslash ends it"):
        split_words(line)


@pytest.mark.parametrize("piece", ["'", '"', "\\", '"\\', "a'", '"a" ', "\\\\", "x", " "])
def test_long_lines_of_any_piece_are_read_in_one_pass(piece: str) -> None:
    line = piece * (64 * 1024 // len(piece))
    assert ours(line) == judged(line)
