"""Text for clients, which die of anything that is no UTF-8."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.wire.text import valid_text


@pytest.mark.parametrize("text", ["", "plain", "/srv/häuser/日本", "two\nlines"])
def test_what_utf_8_can_hold_stays_as_it_is(text: str) -> None:
    assert valid_text(text) == text


def test_bytes_of_a_path_that_are_no_text_are_replaced() -> None:
    assert valid_text(os.fsdecode(b"/srv/\xff\xfe/x")) == "/srv/\ufffd\ufffd/x"


def test_escaped_bytes_that_together_are_a_character_become_it() -> None:
    assert valid_text("\udcc3\udca4") == "ä"


def test_a_surrogate_that_stands_for_no_byte_is_replaced_too() -> None:
    assert valid_text("a\ud800b") == "a?b"


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF)))
def test_any_text_can_be_encoded_afterwards(text: str) -> None:
    valid_text(text).encode("utf-8", "strict")
