"""The file `integrity.N`: digests of `hints.N` and `index.N`.

Source: spec, repository-format.md section 7.
"""

from __future__ import annotations

from ..errors import FileIntegrityError
from ..values import Value
from .hashlayout import BUCKET_SIZE, HEADER_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Final, Protocol

    from ..buffers import Buffer, Source

    class _Hash(Protocol):
        def update(self, data: Buffer, /) -> None: ...

        def hexdigest(self) -> str: ...


XXH64: Final = "XXH64"
SHA512: Final = "SHA512"

_VERSION: Final = 2
_HEADER_PART: Final = "HashHeader"
_LAST_PART: Final = "final"
_SHOWN_LENGTH: Final = 40
_PIECE: Final = (1 << 16) // BUCKET_SIZE * BUCKET_SIZE
"""Bytes hashed at once: a file is never in memory as a whole. Of an index they are whole buckets. With 1 MiB, which the
memory allocator takes from the system anew each time, a commit with an index of 2.6 MB took 3.5 ms instead of 2.4."""


class FileDigests(Value):
    """What integrity.N says of one file. `digests`: part -> hex digits; empty if it cannot be read: nothing matches."""

    algorithm: str
    digests: Mapping[str, str]

    def verify_hints(self, name: str, source: Source) -> None:
        """Compare with the content of the hints file `name` (`hints.17`), piece by piece. Raises FileIntegrityError."""
        self._compare(name, _digests(self.algorithm, name, source, {_LAST_PART: source.size}))

    def verify_index(self, name: str, source: Source, look: Callable[[Buffer], None] | None = None) -> None:
        """Compare with the content of the index file `name` (`index.17`), piece by piece. Raises FileIntegrityError.

        `look`: is shown all buckets on the way, many at a time.
        """
        parts = {_HEADER_PART: HEADER_SIZE, _LAST_PART: source.size}
        self._compare(name, _digests(self.algorithm, name, source, parts, look))

    def _compare(self, name: str, actual: Mapping[str, str]) -> None:
        for part, digest in actual.items():
            recorded = self.digests.get(part)
            if recorded is None:
                raise FileIntegrityError(f"{name}: no digest {part!r} is recorded")
            if recorded != digest:
                raise FileIntegrityError(f"{name}: the digest {part!r} does not match")


class IntegrityData(Value):
    """The content of integrity.N.

    `hints`, `index`: None when the file is to be taken without a check. `notes`: what to warn of, one line each.
    """

    hints: FileDigests | None
    index: FileDigests | None
    notes: tuple[str, ...]


# --- digests


class HintsDigests:
    """The digests of the hints file `name` (`hints.17`) while it is written."""

    def __init__(self, name: str) -> None:
        self._state = _new_hash(XXH64)
        self._state.update(_labelled(name))
        self._size = 0

    def following(self, pieces: Iterable[Buffer]) -> Iterator[Buffer]:
        """Yield the pieces of the file, having taken them into account."""
        for piece in pieces:
            self._state.update(piece)
            self._size += len(piece)
            yield piece

    def at_the_end(self) -> dict[str, str]:
        """Return part -> digest, once the file is whole."""
        self._state.update(_labelled(_LAST_PART) + b"%d" % self._size)
        return {_LAST_PART: self._state.hexdigest()}


def index_digests(name: str, source: Source) -> dict[str, str]:
    """Return part -> digest of the index file `name` (`index.17`)."""
    return _digests(XXH64, name, source, {_HEADER_PART: HEADER_SIZE, _LAST_PART: source.size})


def _digests(
    algorithm: str,
    name: str,
    source: Source,
    parts: Mapping[str, int],
    look: Callable[[Buffer], None] | None = None,
) -> dict[str, str]:
    """Return the state of one running hash at each part. `parts`: name -> position, ascending (spec: section 7.1)."""
    state = _new_hash(algorithm)
    state.update(_labelled(name))
    digests = {}
    offset = 0
    for part, end in parts.items():
        while offset < end:
            piece = source.read_at(offset, min(_PIECE, end - offset))
            if not piece:
                break  # shorter than the header, or cut while it is read: no digest will match
            state.update(piece)
            if look is not None and offset >= HEADER_SIZE:
                look(piece)
            offset += len(piece)
        state.update(_labelled(part) + b"%d" % end)
        digests[part] = state.hexdigest()
    return digests


def _labelled(name: str) -> bytes:
    return f"{len(name):10}{name}".encode()


def _new_hash(algorithm: str) -> _Hash:
    if algorithm == XXH64:
        import xxhash

        return xxhash.xxh64()
    import hashlib

    return hashlib.sha512()


# --- the file


def encode(hints: Mapping[str, str], index: Mapping[str, str]) -> bytes:
    """Return the content of integrity.N for these digests (part -> hex digits)."""
    import msgpack

    content = {"version": _VERSION, "hints": _record_text(hints), "index": _record_text(index)}
    return bytes(msgpack.packb(content, use_bin_type=False))


def _record_text(digests: Mapping[str, str]) -> str:
    import json

    return json.dumps({"algorithm": XXH64, "digests": dict(digests)})


def decode(data: bytes) -> IntegrityData:
    """Return what the content of integrity.N says.

    Raises FileIntegrityError where it cannot be read as a whole. A record of one file that cannot be read makes that
    file a damaged one; an unknown version or algorithm is a note and no check (spec: section 7.3).
    """
    content = _unpack(data)
    version = content.get(b"version")
    if not isinstance(version, int):
        raise FileIntegrityError("the integrity data have no version")
    if version != _VERSION:
        return IntegrityData(hints=None, index=None, notes=(f"unknown integrity data version {version}",))
    notes: list[str] = []
    return IntegrityData(
        hints=_record(content, "hints", notes), index=_record(content, "index", notes), notes=tuple(notes)
    )


def _unpack(data: bytes) -> dict[object, object]:
    import msgpack

    try:
        content = msgpack.unpackb(data, raw=True, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        raise FileIntegrityError("the integrity data are no msgpack object") from None
    if not isinstance(content, dict):
        raise FileIntegrityError("the integrity data are no map")
    return content


def _record(content: Mapping[object, object], kind: str, notes: list[str]) -> FileDigests | None:
    text = content.get(kind.encode())
    if not isinstance(text, bytes):
        raise FileIntegrityError(f"the integrity data have no text for {kind!r}")
    record = _parse(text)
    if record is None:
        notes.append(f"could not parse the integrity data of the {kind} file")
        return FileDigests(XXH64, {})
    if record.algorithm not in (XXH64, SHA512):
        shown = repr(record.algorithm[:_SHOWN_LENGTH])
        notes.append(f"cannot verify the integrity of the {kind} file: unknown algorithm {shown}")
        return None
    if _LAST_PART not in record.digests:
        notes.append(f"could not parse the integrity data of the {kind} file: no digest {_LAST_PART!r}")
        return FileDigests(XXH64, {})
    return record


def _parse(text: bytes) -> FileDigests | None:
    """Return the record in JSON text; None if it is none."""
    import json

    try:
        record = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    algorithm, digests = record.get("algorithm"), record.get("digests")
    if not isinstance(algorithm, str):
        return None
    if not isinstance(digests, dict):
        digests = {}
    return FileDigests(algorithm, {part: digest for part, digest in digests.items() if isinstance(digest, str)})
