"""`hints.N`: how much of each segment is in use. Source: spec, repository-format.md section 6."""

from __future__ import annotations

from ..errors import FileIntegrityError
from ..limits import ID_SIZE, MAX_SEGMENT_NUMBER
from .shadows import ShadowIndex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

VERSION: Final = 2
"""The version written; version 1, of borg 1.0, is read too."""

_MAX_COUNT: Final = 2**63 - 1


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


def encode(hints: Hints) -> bytes:
    """Return the file of version 2."""
    import msgpack

    content = {
        "version": VERSION,
        "segments": hints.segments,
        "compact": hints.compact,
        "storage_quota_use": hints.storage_quota_use,
        "shadow_index": hints.shadow_index.entries,
    }
    packed: bytes = msgpack.packb(content, use_bin_type=False)
    return packed


def decode(data: bytes) -> Hints:
    """Return the hints in a file of version 1 or 2. Raises FileIntegrityError."""
    import msgpack

    known: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # lists with the same items become one tuple

    def shared(items: list[Any]) -> tuple[Any, ...]:
        return known.setdefault(values := tuple(items), values)

    try:
        content = msgpack.unpackb(data, raw=True, strict_map_key=False, list_hook=shared)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise FileIntegrityError(f"the hints are no msgpack ({type(error).__name__})") from None
    if not isinstance(content, dict):
        _fail("are no map")
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
    return Hints(segments, _counts(content, b"compact"), quota_use, _shadows(content.get(b"shadow_index", {})))


def _counts(content: dict[Any, Any], name: bytes) -> dict[int, int]:
    counts = content.get(name)
    if not isinstance(counts, dict):
        _fail(f"lack {name.decode()}")
    for segment, count in counts.items():
        _segment(segment)
        if not _is_count(count):
            _fail(f"have a count in {name.decode()} that is no number")
    return counts


def _shadows(shadow_index: object) -> ShadowIndex:
    if not isinstance(shadow_index, dict):
        _fail("have a shadow index that is no map")
    for object_id, segments in shadow_index.items():
        if not isinstance(object_id, bytes) or len(object_id) != ID_SIZE or not isinstance(segments, tuple):
            _fail("have a shadow index with an id or a list that is none")
    for segments in set(shadow_index.values()):
        for segment in segments:
            _segment(segment)
    return ShadowIndex(shadow_index)


def _segment(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SEGMENT_NUMBER:
        _fail(f"speak of a segment {value!r:.40}")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_COUNT


def _fail(what: str) -> NoReturn:
    raise FileIntegrityError(f"the hints {what}")
