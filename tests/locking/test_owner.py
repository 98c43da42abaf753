"""What the owner of a lock says of itself, and what others are told of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.locking.base import LockMode
from borg_serve_lib.locking.identity import Holder
from borg_serve_lib.locking.owner import Owner, OwnerRecord, Verdict, describe, parse_record, render_record

TEXT = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=200)
RECORDS = st.builds(
    OwnerRecord,
    started=st.floats(0, 4e9),
    since=st.floats(0, 4e9),
    boot=TEXT,
    device=st.integers(-1, 2**63),
    mode=TEXT,
    activity=TEXT,
    user=TEXT,
    client=TEXT,
)


@given(RECORDS)
def test_a_record_round_trips(record: OwnerRecord) -> None:
    assert parse_record(render_record(record)) == record
    assert parse_record(render_record(record).ljust(5000)) == record


@given(st.binary(max_size=300))
def test_whatever_the_bytes_are_reading_them_is_no_error(data: bytes) -> None:
    parse_record(data)


@given(st.none() | st.booleans() | st.floats() | TEXT | st.lists(TEXT) | st.dictionaries(TEXT, TEXT))
def test_fields_of_other_types_count_as_missing(value: Any) -> None:
    import json

    record = parse_record(json.dumps({"boot": value, "device": value, "unknown": value, "user": "joe"}).encode())
    assert record is not None
    assert record.user == "joe"
    assert isinstance(record.boot, str)
    assert type(record.device) is int


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    record = parse_record(b'{"user": "\\u001b[31mroot\\nline", "client": "' + b"x" * 500 + b'"}')
    assert record is not None
    assert record.user == "?[31mroot?line"
    assert len(record.client) == 200
    owner = Owner(Holder("a\x1bb", 1, 0), LockMode.SHARED, Verdict.ALIVE, record)
    assert "\x1b" not in describe([owner])


def test_a_long_name_is_cut_when_it_is_written() -> None:
    assert len(render_record(OwnerRecord(user="x" * 100_000))) < 1000


UNKNOWN = "nobody here can say whether it is alive: if it is not, borg break-lock removes the lock"
COMPACTION = "compaction; alive: wait until it is done, with a longer --lock-wait"
MOMENT = "2026-11-23 18:30:05 UTC"
FULL = OwnerRecord(since=1_795_458_605.0, user="joe", client="192.0.2.7", activity="compaction")


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        ([], ""),
        (
            [Owner(Holder("vm@1", 7, 0), LockMode.EXCLUSIVE, Verdict.ALIVE, FULL)],
            f"held by a writer, process 7 on vm@1, for joe, from 192.0.2.7, since {MOMENT}, busy with {COMPACTION}",
        ),
        (
            [Owner(Holder("vm@1", 7, 0), LockMode.SHARED, Verdict.UNKNOWN)],
            f"held by a reader, process 7 on vm@1; {UNKNOWN}",
        ),
        (
            [
                Owner(Holder("vm@1", 7, 0), LockMode.SHARED, Verdict.ALIVE, OwnerRecord(since=1e300)),
                Owner(Holder("vm@2", 8, 0), LockMode.SHARED, Verdict.UNKNOWN),
            ],
            f"held by a reader, process 7 on vm@1, and 1 more; {UNKNOWN}",
        ),
    ],
)
def test_waiting_clients_are_told_who_where_since_when_and_what_to_do(owners: list[Owner], told: str) -> None:
    assert describe(owners) == told
