from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.locking.identity import Holder
from borg_serve_lib.locking.roster import Roster, examine_roster, parse_roster, render_roster

A, B, C, W = Holder("a@1", 100, 0), Holder("b-2.x@2", 2000, 0), Holder("c", 3, 0), Holder("w@9", 77, 0)
FULL = Roster(frozenset({A, B, C}), frozenset({W}))

holders = st.builds(Holder, st.text(max_size=8), st.integers(-(2**40), 2**40), st.integers(0, 2**40))
rosters = st.builds(Roster, st.frozensets(holders, max_size=4), st.frozensets(holders, max_size=4))


def test_a_roster_is_rendered_as_borg_renders_it() -> None:
    assert render_roster(Roster(exclusive=frozenset({Holder("vm@3281355014145", 6193, 0)}))) == (
        b'{"exclusive": [["vm@3281355014145", 6193, 0]]}'
    )


@given(rosters)
def test_every_roster_comes_back_and_is_json_to_others(roster: Roster) -> None:
    data = render_roster(roster)
    assert parse_roster(data) == roster
    document = json.loads(data.decode("ascii"))
    assert {tuple(entry) for entry in document.get("shared", [])} == {(h.host, h.pid, h.thread) for h in roster.shared}


@pytest.mark.parametrize(
    "data", [b"", b"  \n", b"{}", b"null", b"0", b"[]", b"garbage", b"\0" * 46, b"{", b'{"shared": [[']
)
def test_a_file_that_names_nobody_is_an_empty_roster(data: bytes) -> None:
    assert parse_roster(data) == Roster()


@pytest.mark.parametrize(
    "bad",
    ["1", "null", "{}", "[]", '"x"', '["x"]', '["x", 1]', '["x", 1, 0, 0]', '[1, 1, 0]', '["x", "1", 0]',
     '["x", 1.0, 0]', '["x", true, 0]', '["x", 1, null]', '[["x", 1, 0]]'],
)  # fmt: skip
def test_one_malformed_entry_costs_no_other_its_place(bad: str) -> None:
    data = f'{{"shared": [["a@1", 100, 0], {bad}, ["c", 3, 0]], "exclusive": [{bad}, ["w@9", 77, 0]]}}'
    assert parse_roster(data.encode()) == Roster(frozenset({A, C}), frozenset({W}))


@pytest.mark.parametrize("bad", ["1", "null", "{}", '"x"', '["a@1", 100, 0]'])
def test_a_list_of_the_wrong_type_costs_the_other_list_nothing(bad: str) -> None:
    assert parse_roster(f'{{"exclusive": {bad}, "shared": [["a@1", 100, 0]]}}'.encode()) == Roster(frozenset({A}))


def test_an_entry_of_unknown_kind_protects_its_holder() -> None:
    assert parse_roster(b'{"shqred": [["a@1", 100, 0]]}') == Roster(frozenset({A}))
    assert parse_roster(b'[["a@1", 100, 0]]') == Roster(frozenset({A}))


@pytest.mark.parametrize("length", range(len(render_roster(FULL)) + 1))
def test_a_roster_cut_anywhere_keeps_each_entry_that_is_whole(length: int) -> None:
    data = render_roster(FULL)
    cut = parse_roster(data[:length])
    whole = {holder for holder in (A, B, C) if data.index(_entry(holder)) + len(_entry(holder)) <= length}
    assert cut.shared == whole
    assert cut.exclusive == ({W} if length >= len(data) - 2 else set())


@pytest.mark.parametrize("order", ["shared first", "exclusive first"])
def test_one_flipped_bit_costs_at_most_one_reader_its_place(order: str) -> None:
    data = render_roster(FULL)
    if order == "exclusive first":
        shared, exclusive = data[1:-1].split(b', "exclusive"')
        data = b'{"exclusive"' + exclusive + b", " + shared + b"}"
    assert parse_roster(data) == FULL
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            assert len(parse_roster(bytes(flipped)).shared & FULL.shared) >= 2, bytes(flipped)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"shared":' * 50_000,
        b'{"shared": [["a@1", ' + b"9" * 5000 + b', 0], ["c", 3, 0]]}',
        b'["' * 50_000,
        b'{"shared": [["' + b"\xff\xfe" + b'", 1, 0]]}',
        b'{"shared": [["\\ud800", 1, 0]]}',
        b'{"shared": NaN}',
    ],
)
def test_hostile_json_never_raises(data: bytes) -> None:
    roster = parse_roster(data)
    assert parse_roster(render_roster(roster)) == roster


def test_a_number_too_long_for_an_int_costs_no_other_its_place() -> None:
    data = b'{"shared": [["a@1", ' + b"9" * 5000 + b', 0], ["c", 3, 0]]}'
    assert parse_roster(data).shared >= {C}


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b"{",
        b'{"shared": 1}',
        b'{"shared": [["a@1", 1]]}',
        b'{"other": []}',
        b'{"shared": {}}',
    ],
)
def test_a_damaged_roster_is_told_from_a_whole_one(damaged: bytes) -> None:
    assert not examine_roster(damaged)[1]
    for whole in (b"{}", b'{"exclusive": []}', b'{"shared": [["a@1", 1, 0]]}   ', render_roster(FULL)):
        assert examine_roster(whole)[1]


@given(rosters)
def test_what_was_written_is_whole_and_nothing_that_was_cut_is(roster: Roster) -> None:
    data = render_roster(roster)
    assert examine_roster(data) == (roster, True)
    assert not any(examine_roster(data[:length])[1] for length in range(len(data)))


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    parse_roster(data)


@given(st.text(alphabet='{}[]",:0123 \\sharedxclusiv@', max_size=120))
def test_nothing_that_looks_like_a_roster_makes_it_raise(text: str) -> None:
    parse_roster(text.encode())


def test_a_holder_is_put_in_just_the_named_lists() -> None:
    roster = Roster(frozenset({A}), frozenset({B}))
    assert roster.with_holder(A, shared=False, exclusive=True) == Roster(frozenset(), frozenset({A, B}))
    assert roster.with_holder(C, shared=True, exclusive=False) == Roster(frozenset({A, C}), frozenset({B}))
    assert roster.with_holder(B, shared=False, exclusive=False) == Roster(frozenset({A}))
    assert not Roster()
    assert roster.without(frozenset({A, B})) == Roster()


def _entry(holder: Holder) -> bytes:
    return json.dumps([holder.host, holder.pid, holder.thread]).encode()
