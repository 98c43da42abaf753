"""The integrity file: the worked example, borg's own files, and what damaged ones mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import FileIntegrityError
from borg_serve_lib.format import integrity
from borg_serve_lib.format.hashindex import IndexTable
from borg_serve_lib.format.integrity import FileDigests, IntegrityData
from borg_serve_lib.limits import MANIFEST_ID
from tests import vectors_support as vectors
from tests.format.sources import Bytes

HINTS_1 = bytes.fromhex(
    "85a776657273696f6e02a87365676d656e74738200010100a7636f6d70616374810109b173746f726167655f71756f74615f757365cd01d4"
    "ac736861646f775f696e64657880"
)
HINTS_1_DIGESTS = {"final": "47066451cc6d6e92"}
INDEX_1_DIGESTS = {"HashHeader": "1e7b5372ec4f7b80", "final": "2aeee047ae71e07e"}
INTEGRITY_1 = (
    b"\x83\xa7version\x02"
    b'\xa5hints\xda\x00\x40{"algorithm": "XXH64", "digests": {"final": "47066451cc6d6e92"}}'
    b'\xa5index\xda\x00\x62{"algorithm": "XXH64", "digests": {"HashHeader": "1e7b5372ec4f7b80", '
    b'"final": "2aeee047ae71e07e"}}'
)


def index_1() -> bytes:
    table = IndexTable.new()
    table.set(MANIFEST_ID, 0, 8)
    return bytes(table.view)


def packed(**content: object) -> bytes:
    return bytes(msgpack.packb(content, use_bin_type=False))


def record(algorithm: object = "XXH64", **digests: object) -> str:
    return json.dumps({"algorithm": algorithm, "digests": digests})


GOOD_HINTS = record(**HINTS_1_DIGESTS)
GOOD_INDEX = record(**INDEX_1_DIGESTS)


def hints_digests(name: str, data: bytes) -> dict[str, str]:
    digests = integrity.HintsDigests(name)
    pieces = [data[:1], data[1:]]
    assert list(digests.following(pieces)) == pieces
    return digests.at_the_end()


# --- the worked example


def test_the_digests_of_the_worked_example_come_out() -> None:
    assert hints_digests("hints.1", HINTS_1) == HINTS_1_DIGESTS
    assert integrity.index_digests("index.1", Bytes(index_1())) == INDEX_1_DIGESTS


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_digests_are_taken_of_any_kind_of_buffer_and_hold_none(kind: type) -> None:
    data = kind(index_1())
    assert integrity.index_digests("index.1", Bytes(data)) == INDEX_1_DIGESTS
    if isinstance(data, bytearray):
        data.append(0)  # a bytearray that is still looked at cannot grow
    if isinstance(data, memoryview):
        data.release()


def test_the_file_of_the_worked_example_comes_out_byte_for_byte() -> None:
    assert len(INTEGRITY_1) == 190
    assert integrity.encode(HINTS_1_DIGESTS, INDEX_1_DIGESTS) == INTEGRITY_1


def test_the_file_of_the_worked_example_is_read() -> None:
    data = integrity.decode(INTEGRITY_1)
    assert data == IntegrityData(
        hints=FileDigests("XXH64", HINTS_1_DIGESTS), index=FileDigests("XXH64", INDEX_1_DIGESTS), notes=()
    )
    assert data.hints is not None
    assert data.index is not None
    data.hints.verify_hints("hints.1", Bytes(HINTS_1))
    data.index.verify_index("index.1", Bytes(index_1()))


# --- borg's own files

DAMAGED = {"corrupt-index", "corrupt-hints", "integrity-without-header-digest", "garbage-integrity"}


def with_integrity() -> list[str]:
    names = []
    for name in vectors.names():
        files = vectors.expectations()[name]["state"]["files"]
        if name not in DAMAGED and any(file.startswith("integrity.") for file in files):
            names.append(name)
    return names


def transactions(path: Path, kind: str) -> set[str]:
    return {file.suffix for file in path.glob(f"{kind}.*") if file.suffix != ".tmp"}


@pytest.mark.parametrize("name", with_integrity())
def test_each_file_written_by_borg_vouches_for_its_files(name: str, tmp_path: Path) -> None:
    path = vectors.unpack(name, tmp_path)
    for suffix in transactions(path, "integrity"):
        raw = (path / f"integrity{suffix}").read_bytes()
        data = integrity.decode(raw)
        assert data.notes == ()
        assert data.hints is not None
        assert data.index is not None
        assert integrity.encode(data.hints.digests, data.index.digests) == raw
        hints, index = path / f"hints{suffix}", path / f"index{suffix}"
        if name == "empty-index":
            with pytest.raises(FileIntegrityError):
                data.index.verify_index(index.name, Bytes(index.read_bytes()))
        elif index.exists():
            data.index.verify_index(index.name, Bytes(index.read_bytes()))
            assert integrity.index_digests(index.name, Bytes(index.read_bytes())) == data.index.digests
        if hints.exists():
            data.hints.verify_hints(hints.name, Bytes(hints.read_bytes()))
            assert hints_digests(hints.name, hints.read_bytes()) == data.hints.digests


def read(name: str, tmp_path: Path) -> tuple[IntegrityData, bytes, bytes]:
    path = vectors.unpack(name, tmp_path)
    data = integrity.decode((path / "integrity.17").read_bytes())
    return data, (path / "hints.17").read_bytes(), (path / "index.17").read_bytes()


def test_the_damaged_index_is_found(tmp_path: Path) -> None:
    data, hints, index = read("corrupt-index", tmp_path)
    assert data.hints is not None
    assert data.index is not None
    data.hints.verify_hints("hints.17", Bytes(hints))
    with pytest.raises(FileIntegrityError, match=r"index\.17: the digest 'final' does not match"):
        data.index.verify_index("index.17", Bytes(index))


def test_the_damaged_hints_are_found(tmp_path: Path) -> None:
    data, hints, index = read("corrupt-hints", tmp_path)
    assert data.hints is not None
    assert data.index is not None
    data.index.verify_index("index.17", Bytes(index))
    with pytest.raises(FileIntegrityError, match=r"hints\.17: the digest 'final' does not match"):
        data.hints.verify_hints("hints.17", Bytes(hints))


def test_an_index_without_the_digest_of_its_header_is_a_damaged_one(tmp_path: Path) -> None:
    data, hints, index = read("integrity-without-header-digest", tmp_path)
    assert data.notes == ()
    assert data.hints is not None
    assert data.index is not None
    data.hints.verify_hints("hints.17", Bytes(hints))
    with pytest.raises(FileIntegrityError, match=r"index\.17: no digest 'HashHeader' is recorded"):
        data.index.verify_index("index.17", Bytes(index))


def test_a_file_that_is_no_msgpack_is_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileIntegrityError, match="no msgpack object"):
        read("garbage-integrity", tmp_path)


# --- verifying


def test_any_change_of_the_file_or_its_name_is_found() -> None:
    hints, index = FileDigests("XXH64", HINTS_1_DIGESTS), FileDigests("XXH64", INDEX_1_DIGESTS)
    for bit in range(len(HINTS_1) * 8):
        data = bytearray(HINTS_1)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileIntegrityError):
            hints.verify_hints("hints.1", Bytes(data))
    for length in range(len(HINTS_1)):
        with pytest.raises(FileIntegrityError):
            hints.verify_hints("hints.1", Bytes(HINTS_1[:length]))
    for name in ("hints.2", "hints.1.tmp", "hints.01", "index.1"):
        with pytest.raises(FileIntegrityError):
            hints.verify_hints(name, Bytes(HINTS_1))
    good = index_1()
    for bit in [*range(18 * 8), *range(18 * 8, len(good) * 8, 9973)]:
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FileIntegrityError, match="HashHeader" if bit < 18 * 8 else "final"):
            index.verify_index("index.1", Bytes(data))
    for length in (0, 1, 17, 18, 19, 58, len(good) - 1):
        with pytest.raises(FileIntegrityError):
            index.verify_index("index.1", Bytes(good[:length]))


@pytest.mark.parametrize("part", ["HashHeader", "final"])
@pytest.mark.parametrize(
    "change", [str.upper, lambda digest: digest[:-1], lambda digest: digest + " ", lambda digest: ""]
)
def test_digests_are_compared_as_exact_text(part: str, change: object) -> None:
    assert callable(change)
    digests = FileDigests("XXH64", {**INDEX_1_DIGESTS, part: change(INDEX_1_DIGESTS[part])})
    with pytest.raises(FileIntegrityError, match=part):
        digests.verify_index("index.1", Bytes(index_1()))


def test_sha512_is_understood_too() -> None:
    index = index_1()
    begin = b"         7index.1" + index[:18] + b"        10HashHeader18"
    digests = {
        "HashHeader": hashlib.sha512(begin).hexdigest(),
        "final": hashlib.sha512(begin + index[18:] + b"         5final41258").hexdigest(),
    }
    data = integrity.decode(packed(version=2, hints=GOOD_HINTS, index=record("SHA512", **digests)))
    assert data.notes == ()
    assert data.index is not None
    data.index.verify_index("index.1", Bytes(index))
    with pytest.raises(FileIntegrityError):
        data.index.verify_index("index.1", Bytes(index[:-1] + b"\1"))


# --- reading


def test_new_style_msgpack_is_accepted() -> None:
    content = {"version": 2, "hints": GOOD_HINTS, "index": GOOD_INDEX.encode()}
    assert integrity.decode(msgpack.packb(content, use_bin_type=True)) == integrity.decode(INTEGRITY_1)


def test_unknown_keys_and_digests_are_passed_over() -> None:
    hints = json.dumps({"algorithm": "XXH64", "digests": {**HINTS_1_DIGESTS, "more": "1", "other": 2}, "more": []})
    data = integrity.decode(packed(version=2, more=[1], hints=hints, index=GOOD_INDEX))
    assert data.notes == ()
    assert data.hints is not None
    data.hints.verify_hints("hints.1", Bytes(HINTS_1))


@pytest.mark.parametrize("version", [1, 3, 0, -1, 2**63])
def test_an_unknown_version_is_told_and_nothing_is_checked(version: int) -> None:
    for data in (packed(version=version), packed(version=version, hints=GOOD_HINTS, index=GOOD_INDEX)):
        note = f"unknown integrity data version {version}"
        assert integrity.decode(data) == IntegrityData(hints=None, index=None, notes=(note,))


def test_an_unknown_algorithm_is_told_and_its_file_not_checked() -> None:
    data = integrity.decode(packed(version=2, hints=record("BLAKE3", final="00"), index=GOOD_INDEX))
    assert data.hints is None
    assert data.index == FileDigests("XXH64", INDEX_1_DIGESTS)
    assert data.notes == ("cannot verify the integrity of the hints file: unknown algorithm 'BLAKE3'",)


@pytest.mark.parametrize("digests", [{}, [], None, "00"])
def test_an_unknown_algorithm_may_have_digests_of_its_own_kind(digests: object) -> None:
    text = json.dumps({"algorithm": "BLAKE3", "digests": digests})
    data = integrity.decode(packed(version=2, hints=GOOD_HINTS, index=text))
    assert data.index is None
    assert data.notes == ("cannot verify the integrity of the index file: unknown algorithm 'BLAKE3'",)


def test_an_unknown_algorithm_is_told_on_one_short_line() -> None:
    data = integrity.decode(packed(version=2, hints=GOOD_HINTS, index=record("a\n" * 1000)))
    assert data.index is None
    [note] = data.notes
    assert "\n" not in note
    assert len(note) < 200


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"garbage",
        b"{",
        b"[]",
        b"null",
        b"17",
        b'"final"',
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"algorithm": "XXH64"}',
        b'{"digests": {"final": "47066451cc6d6e92"}}',
        b'{"algorithm": 1, "digests": {"final": "47066451cc6d6e92"}}',
        b'{"algorithm": ["XXH64"], "digests": {"final": "47066451cc6d6e92"}}',
        b'{"algorithm": "XXH64", "digests": {}}',
        b'{"algorithm": "XXH64", "digests": []}',
        b'{"algorithm": "XXH64", "digests": null}',
        b'{"algorithm": "XXH64", "digests": {"final": 47066451}}',
        b'{"algorithm": "XXH64", "digests": {"final": null}}',
        b'{"algorithm": "XXH64", "digests": {"Final": "47066451cc6d6e92"}}',
    ],
)
def test_a_record_that_cannot_be_read_is_told_and_its_file_a_damaged_one(text: bytes) -> None:
    data = integrity.decode(packed(version=2, hints=text, index=text))
    assert [note[:35] for note in data.notes] == ["could not parse the integrity data "] * 2
    assert "hints" in data.notes[0]
    assert "index" in data.notes[1]
    assert data.hints is not None
    assert data.index is not None
    with pytest.raises(FileIntegrityError):
        data.hints.verify_hints("hints.1", Bytes(HINTS_1))
    with pytest.raises(FileIntegrityError):
        data.index.verify_index("index.1", Bytes(index_1()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no msgpack object"),
        (b"\xc1", "no msgpack object"),
        (INTEGRITY_1 + b"\0", "no msgpack object"),
        (b"\x91" * 100_000, "no msgpack object"),
        (b"\x81\x90\x01", "no msgpack object"),
        (b"\xdd\xff\xff\xff\xff", "no msgpack object"),
        (b"\xc7\x01\xff\x00", "no msgpack object"),
        (b"\x02", "no map"),
        (b"\x92\x01\x02", "no map"),
        (b"\xc0", "no map"),
        (b"\x80", "no version"),
        (packed(hints=GOOD_HINTS, index=GOOD_INDEX), "no version"),
        (packed(version="2", hints=GOOD_HINTS, index=GOOD_INDEX), "no version"),
        (packed(version=None, hints=GOOD_HINTS, index=GOOD_INDEX), "no version"),
        (packed(version=2, index=GOOD_INDEX), "no text for 'hints'"),
        (packed(version=2, hints=GOOD_HINTS), "no text for 'index'"),
        (packed(version=2, hints=17, index=GOOD_INDEX), "no text for 'hints'"),
        (packed(version=2, hints=GOOD_HINTS, index=[GOOD_INDEX]), "no text for 'index'"),
        (packed(version=2, hints=GOOD_HINTS, index={"algorithm": "XXH64"}), "no text for 'index'"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole_is_a_damaged_one(data: bytes, reason: str) -> None:
    with pytest.raises(FileIntegrityError, match=reason):
        integrity.decode(data)


def judged(data: bytes) -> str:
    """How an integrity file judges the intact files of the worked example."""
    try:
        content = integrity.decode(data)
        if content.hints is not None:
            content.hints.verify_hints("hints.1", Bytes(HINTS_1))
        if content.index is not None:
            content.index.verify_index("index.1", Bytes(index_1()))
    except FileIntegrityError:
        return "damaged"
    return "intact" if content.hints and content.index and not content.notes else f"unchecked: {content.notes}"


def test_a_file_cut_anywhere_is_a_damaged_one() -> None:
    assert judged(INTEGRITY_1) == "intact"
    assert {judged(INTEGRITY_1[:length]) for length in range(len(INTEGRITY_1))} == {"damaged"}


def test_one_flipped_bit_never_ends_in_another_error() -> None:
    verdicts = set()
    for bit in range(len(INTEGRITY_1) * 8):
        data = bytearray(INTEGRITY_1)
        data[bit // 8] ^= 1 << bit % 8
        verdicts.add(judged(bytes(data)).partition(":")[0])
    # Nearly all are "damaged"; another version or algorithm cannot be told from a file of a later borg.
    assert verdicts == {"damaged", "unchecked"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
records = st.one_of(
    st.binary(max_size=40),
    json_values.map(json.dumps),
    st.builds(
        lambda algorithm, digests: json.dumps({"algorithm": algorithm, "digests": digests}), json_values, json_values
    ),
)
simple = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=8)
contents = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda v, h, i: packed(version=v, hints=h, index=i), st.just(2) | simple, records | simple, records | simple
    ),
)


@given(contents)
def test_whatever_the_file_holds_it_is_read_or_a_damaged_one(data: bytes) -> None:
    assert judged(data) != "intact"


@given(st.text("0123456789abcdef", max_size=20), st.text("0123456789abcdef", max_size=20), st.text(max_size=20))
def test_what_is_written_is_read(hints: str, header: str, final: str) -> None:
    written = integrity.encode({"final": hints}, {"HashHeader": header, "final": final})
    assert integrity.decode(written) == IntegrityData(
        hints=FileDigests("XXH64", {"final": hints}),
        index=FileDigests("XXH64", {"HashHeader": header, "final": final}),
        notes=(),
    )
