"""`hints.N` as a file, written and read piece by piece. Source: spec, repository-format.md section 6."""

from __future__ import annotations

from itertools import chain, islice

from ..errors import FileIntegrityError
from ..limits import ID_SIZE, MAX_SEGMENT_NUMBER
from .hints import Hints, settled
from .shadows import ShadowIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping
    from typing import Any, Final, NoReturn, TypeVar

    from ..buffers import RoomMaker, Source

    _Item = TypeVar("_Item")

VERSION: Final = 2
"""The version written; version 1, of borg 1.0, is read too."""

_MAX_COUNT: Final = 2**56
"""More objects or bytes than any disk has; what a session counts more fits 64 bits in any case."""

_PIECE: Final = 1 << 16
"""Bytes read or written at once, about."""

_BATCH: Final = 1024
"""Segments or objects packed or unpacked at once."""

_SHADOW_INDEX: Final = b"shadow_index"


def encode(hints: Hints) -> Iterator[bytes]:
    """Yield the file of version 2, piece by piece: a small one at once."""
    import msgpack

    piece = bytearray()
    for part in _packed(hints, msgpack.Packer(use_bin_type=False)):
        if len(piece) > _PIECE:
            yield bytes(piece)
            piece.clear()
        piece += part
    yield bytes(piece)


def _packed(hints: Hints, packer: Any) -> Iterator[bytes]:
    """Yield the file in parts of which none is large."""
    numbers = {"segments": hints.segments, "compact": hints.compact}
    known = {"version": VERSION, **numbers, "storage_quota_use": hints.storage_quota_use}
    yield packer.pack_map_header(len(known) + 1)
    for name, value in known.items():
        yield packer.pack(name)
        if name in numbers:
            yield packer.pack_map_header(len(numbers[name]))
            for pairs in _batches(numbers[name].items()):
                yield _packed_pairs(pairs, packer)
        else:
            yield packer.pack(value)
    yield packer.pack("shadow_index")
    yield packer.pack_map_header(len(hints.shadow_index))
    for shadows in _batches(hints.shadow_index.items()):
        yield _packed_pairs([each for each in shadows if isinstance(each[1], tuple)], packer)
        for object_id, segments in shadows:
            if not isinstance(segments, tuple):
                yield packer.pack(object_id) + packer.pack_array_header(len(segments))
                for some in _batches(segments):
                    yield b"".join(map(packer.pack, some))


def _packed_pairs(pairs: list[Any], packer: Any) -> bytes:
    """Return a part of a map, without the header that it would have for itself."""
    packed: bytes = packer.pack_map_pairs(pairs)
    return packed[len(packer.pack_map_header(len(pairs))) :]


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    rest = iter(items)
    return iter(lambda: list(islice(rest, _BATCH)), [])


def decode(source: Source, make_room: RoomMaker | None = None) -> Hints:
    """Return the hints in a file of version 1 or 2, read piece by piece; `make_room`: for what is too large for memory.

    Raises FileIntegrityError, StorageError.
    """
    import msgpack

    content: dict[Any, Any] = {_SHADOW_INDEX: ShadowIndex()}
    try:
        try:
            _unpack(source, content, make_room)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
            raise FileIntegrityError(f"the hints are no msgpack ({type(error).__name__})") from None
        return _checked(content)
    except BaseException:
        content[_SHADOW_INDEX].close()
        raise


def _unpack(source: Source, content: dict[Any, Any], make_room: RoomMaker | None) -> None:
    """Let `content` have the content of the one map that `source` is.

    Raises FileIntegrityError, StorageError, and what msgpack raises.
    """
    position, unpacker = 0, _unpacker(source, 0)
    for _ in range(unpacker.read_map_header()):
        name = unpacker.unpack()
        if name == _SHADOW_INDEX:
            count = unpacker.read_map_header()
            if count * ID_SIZE > source.size:
                _fail("claim to have more in their shadow index than can be there")
            shadows = _Shadows(source, position + unpacker.tell(), count)
            content[name].close()
            content[name] = ShadowIndex.of_many(count, shadows, make_room)
            position, unpacker = shadows.position, _unpacker(source, shadows.position)
        elif name in (b"segments", b"compact") and content.get(b"version") == VERSION:
            content[name] = _read_counts(unpacker, name)
        else:
            content[name] = unpacker.unpack()
    if position + unpacker.tell() != source.size:
        _fail("do not end where they should")


def _unpacker(source: Source, position: int, most_in_list: int = -1) -> Any:
    """Return an unpacker of what is in `source` from `position` on."""
    import msgpack

    # Nothing in the file can have more parts than the file has bytes.
    return msgpack.Unpacker(
        _Stream(source, position),
        read_size=_PIECE,
        max_buffer_size=max(source.size, _PIECE),
        max_array_len=most_in_list,
        raw=True,
        strict_map_key=False,
        use_list=False,
    )


class _Stream:
    """A source, read from `position` to its end."""

    def __init__(self, source: Source, position: int) -> None:
        self._source = source
        self._position = position

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes, fewer only at the end."""
        piece = bytes(self._source.read_at(self._position, length))
        self._position += len(piece)
        return piece


class _Shadows:
    """The `count` objects of the shadow index that begins at `position`, each with its segments, which have to be gone
    through at once. `position`: where what was not gone through yet begins.
    """

    def __init__(self, source: Source, position: int, count: int) -> None:
        self.position = position
        self._source = source
        self._count = count

    def __iter__(self) -> Iterator[tuple[bytes, Iterable[int]]]:
        begin, unpacker = self.position, _unpacker(self._source, self.position, _BATCH)
        for left in range(self._count, 0, -_BATCH):
            count = min(left, _BATCH)
            try:
                parts = list(islice(unpacker, 2 * count))
            except ValueError:  # a list that is too long to be in memory, or worse
                yield from self._one_by_one(count)
                begin, unpacker = self.position, _unpacker(self._source, self.position, _BATCH)
                continue
            if len(parts) < 2 * count:
                _fail("end within the shadow index")
            ids, lists = parts[0::2], parts[1::2]
            if (
                set(map(type, ids)) != {bytes}
                or set(map(len, ids)) != {ID_SIZE}
                or set(map(type, lists)) != {tuple}
                or not set(map(type, chain.from_iterable(lists))) <= {int}  # of equal lists one may have other numbers
            ):
                _fail("have a shadow index with an id or a list that is none")
            for segment in chain.from_iterable(set(lists)):
                _segment(segment)
            yield from zip(ids, lists, strict=True)
            self.position = begin + unpacker.tell()

    def _one_by_one(self, count: int) -> Iterator[tuple[bytes, Iterable[int]]]:
        unpacker = _unpacker(self._source, self.position)
        for _ in range(count):
            object_id = unpacker.unpack()
            if type(object_id) is not bytes or len(object_id) != ID_SIZE:
                _fail("have a shadow index with an id that is none")
            length = unpacker.read_array_header()
            if length <= _BATCH:
                yield object_id, tuple(_segment(unpacker.unpack()) for _ in range(length))
            else:
                yield object_id, self._ascending(unpacker, length)
        self.position += unpacker.tell()

    def _ascending(self, unpacker: Any, count: int) -> Iterator[int]:
        """Yield the segments of a list that is too long to be sorted; it is in order, unless somebody else wrote it."""
        before = 0
        for _ in range(count):
            segment = _segment(unpacker.unpack())
            if segment < before:
                _fail("have a long list of segments that does not ascend")
            before = segment
            yield segment


def _read_counts(unpacker: Any, name: bytes) -> MutableMapping[int, int]:
    counts: MutableMapping[int, int] = {}
    left = unpacker.read_map_header()
    while left:
        count = min(left, _BATCH)
        parts = list(islice(unpacker, 2 * count))
        if len(parts) < 2 * count:
            _fail(f"end within {name.decode()}")
        counts.update(_counts(dict(zip(parts[0::2], parts[1::2], strict=True)), name))
        counts = settled(counts)
        left -= count
    return counts


def _checked(content: dict[Any, Any]) -> Hints:
    """Raises FileIntegrityError."""
    version = content.get(b"version")
    if not _is_count(version):
        _fail("have no version")
    if version not in (1, VERSION):
        raise FileIntegrityError(f"Unknown hints file version: {version}")
    segments = _counts(content.get(b"segments"), b"segments")
    if version == 1:
        listed = content.get(b"compact")
        if not isinstance(listed, tuple):
            _fail("have no list of segments to compact")
        content[_SHADOW_INDEX].close()
        return Hints(segments, {}, 0, ShadowIndex(), tuple(_segment(segment) for segment in listed))
    quota_use = content.get(b"storage_quota_use", 0)
    if not _is_count(quota_use):
        _fail("have a storage quota use that is no number")
    return Hints(segments, _counts(content.get(b"compact"), b"compact"), quota_use, content[_SHADOW_INDEX])


def _counts(counts: object, name: bytes) -> MutableMapping[int, int]:
    if not isinstance(counts, dict):
        from .segmentnumbers import SegmentNumbers

        if isinstance(counts, SegmentNumbers):
            return counts  # checked when it was read
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
