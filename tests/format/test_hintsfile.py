"""hints.N, as bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.buffers import InMemory
from borg_serve_lib.errors import FileIntegrityError
from borg_serve_lib.format import hintsfile
from borg_serve_lib.format.hints import Hints
from borg_serve_lib.format.shadows import ShadowIndex
from tests import vectors_support as vectors

WORKED_EXAMPLE = bytes.fromhex(
    "85a776657273696f6e02a87365676d656e74738200010100a7636f6d70616374810109"
    "b173746f726167655f71756f74615f757365cd01d4ac736861646f775f696e64657880"
)
SEGMENTS = st.integers(0, 2**32 - 1025)
COUNTS = st.dictionaries(SEGMENTS, st.integers(-(2**40), 2**40), max_size=8)
SHADOWS = st.dictionaries(st.binary(min_size=32, max_size=32), st.lists(SEGMENTS, max_size=4).map(tuple), max_size=6)


def encoded(content: Hints) -> bytes:
    return b"".join(hintsfile.encode(content))


def decoded(data: bytes) -> Hints:
    return hintsfile.decode(InMemory(data))


def test_the_worked_example_is_written_and_read() -> None:
    worked = Hints({0: 1, 1: 0}, {1: 9}, 468, ShadowIndex())
    assert encoded(worked) == WORKED_EXAMPLE
    assert decoded(WORKED_EXAMPLE) == worked


@given(COUNTS, COUNTS, st.integers(-(2**56), 2**56), SHADOWS)
def test_hints_read_back_as_written(
    segments: dict[int, int], compact: dict[int, int], use: int, shadows: dict[bytes, Sequence[int]]
) -> None:
    written = Hints(segments, compact, use, ShadowIndex(shadows.items()))
    assert decoded(encoded(written)) == written


@pytest.mark.parametrize("name", [n for n in vectors.names() if vectors.expectations()[n]["state"].get("hints")])
def test_the_hints_of_the_vectors_read_as_listed(name: str) -> None:
    state = vectors.expectations()[name]["state"]
    wanted = state["hints"]
    with tarfile.open(vectors.VECTORS / f"{name}.tar.gz") as archive:
        member = archive.extractfile(f"{name}/hints.{state.get('hints_of', state['index_tid'])}")
        assert member is not None
        content = member.read()
    if wanted == "undecodable":
        with pytest.raises(FileIntegrityError):
            decoded(content)
        return
    read = decoded(content)
    assert {str(segment): count for segment, count in read.segments.items()} == wanted["segments"]
    if wanted["version"] == 1:
        assert read.unsized == tuple(wanted["compact"])
    else:
        assert {str(segment): size for segment, size in read.compact.items()} == wanted["compact"]
        assert read.storage_quota_use == wanted.get("storage_quota_use", 0)
        assert {key.hex(): list(value) for key, value in read.shadow_index.items()} == wanted.get("shadow_index", {})


def test_version_one_lists_segments_without_their_freeable_bytes() -> None:
    old = msgpack.packb({"version": 1, "segments": {0: 3, 4: 1}, "compact": [4, 0]}, use_bin_type=False)
    assert decoded(old) == Hints({0: 3, 4: 1}, {}, 0, ShadowIndex(), (4, 0))


def test_hints_of_borg_1_1_lack_a_shadow_index() -> None:
    old = msgpack.packb({"version": 2, "segments": {}, "compact": {}}, use_bin_type=False)
    assert decoded(old) == Hints({}, {}, 0, ShadowIndex())


def test_unknown_names_are_ignored() -> None:
    content = {"version": 2, "segments": {}, "compact": {}, "future": [1]}
    assert decoded(msgpack.packb(content, use_bin_type=False)) == Hints({}, {}, 0, ShadowIndex())


@pytest.mark.parametrize(
    "content",
    [
        {"version": 3, "segments": {}, "compact": {}},
        {"version": True, "segments": {}, "compact": []},
        {"version": 2.0, "segments": {}, "compact": {}},
        {"version": None, "segments": {}, "compact": {}},
        {"segments": {}, "compact": {}},
        {"version": 2, "compact": {}},
        {"version": 2, "segments": {}},
        {"version": 2, "segments": [], "compact": {}},
        {"version": 2, "segments": {-1: 0}, "compact": {}},
        {"version": 2, "segments": {"a": 0}, "compact": {}},
        {"version": 2, "segments": {0: "a"}, "compact": {}},
        {"version": 2, "segments": {0: True}, "compact": {}},
        {"version": 2, "segments": {}, "compact": {2**33: 1}},
        {"version": 2, "segments": {}, "compact": {}, "storage_quota_use": "many"},
        {"version": 2, "segments": {}, "compact": {}, "storage_quota_use": -(2**63) + 1},
        {"version": 2, "segments": {0: 2**63 - 1}, "compact": {}},
        {"version": 2, "segments": {}, "compact": {}, "shadow_index": []},
        {"version": 2, "segments": {}, "compact": {}, "shadow_index": {"short": [1]}},
        {"version": 2, "segments": {}, "compact": {}, "shadow_index": {b"i" * 32: 1}},
        {"version": 2, "segments": {}, "compact": {}, "shadow_index": {b"i" * 32: [-1]}},
        {"version": 2, "segments": {}, "compact": {}, "shadow_index": {b"i" * 32: [1], b"j" * 32: [1.0]}},
        {"version": 2, "segments": {}, "compact": {}, "shadow_index": {b"i" * 32: [*range(2000), 7]}},
        {"version": 1, "segments": {}, "compact": {}},
        {"version": 1, "segments": {}, "compact": ["a"]},
        [1, 2],
        2,
    ],
)
def test_content_that_cannot_be_right_is_refused(content: object) -> None:
    with pytest.raises(FileIntegrityError):
        decoded(msgpack.packb(content, use_bin_type=False))


@pytest.mark.parametrize("length", [9, 1000])
def test_a_list_that_is_not_too_long_may_be_in_any_order(length: int) -> None:
    content = {"version": 2, "segments": {}, "compact": {}, "shadow_index": {b"i" * 32: [*range(length)][::-1]}}
    read = decoded(msgpack.packb(content, use_bin_type=False))
    assert read.shadow_index == ShadowIndex({b"i" * 32: tuple(range(length))}.items())


def test_an_unknown_version_is_named_whatever_else_is_there() -> None:
    with pytest.raises(FileIntegrityError, match="Unknown hints file version: 3"):
        decoded(msgpack.packb({"version": 3}, use_bin_type=False))


@pytest.mark.parametrize("name", ["version", "segments", "compact", "storage_quota_use", "shadow_index"])
def test_what_is_wrong_is_told_in_a_short_sentence(name: str) -> None:
    content = {"version": 2, "segments": {}, "compact": {}, name: "x" * 100_000}
    for value in (content, content | {name: {"x" * 100_000: 1}}):
        with pytest.raises(FileIntegrityError) as caught:
            decoded(msgpack.packb(value, use_bin_type=False))
        assert len(str(caught.value)) < 200


def test_every_cut_and_every_trailing_byte_is_refused() -> None:
    for length in range(len(WORKED_EXAMPLE)):
        with pytest.raises(FileIntegrityError):
            decoded(WORKED_EXAMPLE[:length])
    with pytest.raises(FileIntegrityError):
        decoded(WORKED_EXAMPLE + b"\0")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with suppress(FileIntegrityError):
        decoded(data)


@given(st.integers(0, len(WORKED_EXAMPLE) * 8 - 1))
def test_no_flipped_bit_raises_anything_else(bit: int) -> None:
    damaged = bytearray(WORKED_EXAMPLE)
    damaged[bit // 8] ^= 1 << bit % 8
    with suppress(FileIntegrityError):
        decoded(bytes(damaged))


def test_later_segments_leave_the_shadow_index() -> None:
    read = Hints({}, {}, 0, ShadowIndex({b"a" * 32: (1, 5, 9), b"b" * 32: (9,), b"c" * 32: ()}.items()))
    read.without_later_segments(5)
    assert read.shadow_index == ShadowIndex({b"a" * 32: (1, 5), b"b" * 32: (), b"c" * 32: ()}.items())
