"""`hints.N`: how much of each segment is in use. Source: spec, repository-format.md section 6."""

from __future__ import annotations

from itertools import chain, islice

from ..errors import FileIntegrityError
from ..limits import ID_SIZE, MAX_SEGMENT_NUMBER
from .shadows import ShadowIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final, NoReturn

    from ..buffers import Source

VERSION: Final = 2
"""The version written; version 1, of borg 1.0, is read too."""

_MAX_COUNT: Final = 2**63 - 1
_PIECE: Final = 1 << 16
"""Bytes read or written at once, about."""

_BATCH: Final = 1024
"""Objects of the shadow index read at once."""


class Hints:
    """What is known of the segments; steers compaction and the quota, is never exact.

    `segments`: segment -> number of current PUTs in it. `compact`: segment -> freeable bytes. `storage_quota_use`:
    bytes. `shadow_index`: see ShadowIndex. `unsized`: segments that hints of
    version 1 list as compactable without saying by how much; `compact` lacks them.
    """

    __slots__ = ("compact", "segments", "shadow_index", "storage_quota_use", "unsized")

    def __init__(
        self,
        segments: dict[int, int],
        compact: dict[int, int],
        storage_quota_use: int,
        shadow_index: ShadowIndex,
        unsized: tuple[int, ...] = (),
    ) -> None:
        self.segments = segments
        self.compact = compact
        self.storage_quota_use = storage_quota_use
        self.shadow_index = shadow_index
        self.unsized = unsized

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hints) and all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # hints change

    def __repr__(self) -> str:
        return f"Hints({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def without_later_segments(self, transaction: int) -> None:
        """Drop the segments after `transaction` from the shadow index."""
        self.shadow_index.forget_segments(transaction.__lt__)


def encode(hints: Hints) -> Iterator[bytes]:
    """Yield the file of version 2, piece by piece: a small one at once."""
    import msgpack

    packer = msgpack.Packer(use_bin_type=False)
    shadow_index = hints.shadow_index
    known = {
        "version": VERSION,
        "segments": hints.segments,
        "compact": hints.compact,
        "storage_quota_use": hints.storage_quota_use,
    }
    piece = bytearray(packer.pack_map_header(len(known) + 1))
    for name, value in known.items():
        piece += packer.pack(name)
        piece += packer.pack(value)
    piece += packer.pack("shadow_index")
    piece += packer.pack_map_header(len(shadow_index))
    for batch in shadow_index.batches():
        if len(piece) > _PIECE:
            yield bytes(piece)
            piece.clear()
        # A map without its own header: a part of the one map.
        piece += packer.pack_map_pairs(batch)[len(packer.pack_map_header(len(batch))) :]
    yield bytes(piece)


def decode(source: Source) -> Hints:
    """Return the hints in a file of version 1 or 2, read piece by piece. Raises FileIntegrityError, StorageError."""
    import msgpack

    try:
        content, shadow_index = _unpacked(source)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise FileIntegrityError(f"the hints are no msgpack ({type(error).__name__})") from None
    version = content.get(b"version")
    if not _is_count(version):
        _fail("have no version")
    if version not in (1, VERSION):
        raise FileIntegrityError(f"Unknown hints file version: {version}")
    segments = _counts(content, b"segments")
    if version == 1:
        listed = content.get(b"compact")
        if not isinstance(listed, tuple):
            _fail("have no list of segments to compact")
        return Hints(segments, {}, 0, ShadowIndex(), tuple(_segment(segment) for segment in listed))
    quota_use = content.get(b"storage_quota_use", 0)
    if not _is_count(quota_use):
        _fail("have a storage quota use that is no number")
    return Hints(segments, _counts(content, b"compact"), quota_use, shadow_index)


def _unpacked(source: Source) -> tuple[dict[Any, Any], ShadowIndex]:
    """Return the content of the one map that `source` is, and its shadow index apart.

    Raises FileIntegrityError, StorageError, and what msgpack raises.
    """
    import msgpack

    # Nothing in the file can have more parts than the file has bytes.
    unpacker = msgpack.Unpacker(
        _Stream(source),
        read_size=_PIECE,
        max_buffer_size=max(source.size, _PIECE),
        raw=True,
        strict_map_key=False,
        use_list=False,
    )
    content: dict[Any, Any] = {}
    shadow_index = ShadowIndex()
    for _ in range(unpacker.read_map_header()):
        name = unpacker.unpack()
        if name == b"shadow_index":
            shadow_index = _read_shadows(unpacker)
        else:
            content[name] = unpacker.unpack()
    if unpacker.tell() != source.size:
        _fail("do not end where they should")
    return content, shadow_index


class _Stream:
    """A source, read from its beginning to its end."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, fewer only at the end."""
        piece = bytes(self._source.read_at(self._position, length))
        self._position += len(piece)
        return piece


def _read_shadows(unpacker: Any) -> ShadowIndex:
    shadow_index = ShadowIndex()
    left = unpacker.read_map_header()
    while left:
        count = min(left, _BATCH)
        parts = list(islice(unpacker, 2 * count))
        if len(parts) < 2 * count:
            _fail("end within the shadow index")
        ids, lists = parts[0::2], parts[1::2]
        different = set(lists)
        if set(map(type, ids)) != {bytes} or set(map(len, ids)) != {ID_SIZE} or set(map(type, different)) != {tuple}:
            _fail("have a shadow index with an id or a list that is none")
        for segment in chain.from_iterable(different):
            _segment(segment)
        shadow_index.extend(ids, lists)
        left -= count
    return shadow_index


def _counts(content: dict[Any, Any], name: bytes) -> dict[int, int]:
    counts = content.get(name)
    if not isinstance(counts, dict):
        _fail(f"lack {name.decode()}")
    for segment, count in counts.items():
        _segment(segment)
        if not _is_count(count):
            _fail(f"have a count in {name.decode()} that is no number")
    return counts


def _segment(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SEGMENT_NUMBER:
        _fail(f"speak of a segment {value!r:.40}")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_COUNT


def _fail(what: str) -> NoReturn:
    raise FileIntegrityError(f"the hints {what}")
