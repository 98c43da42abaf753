"""The repositories made with real borg, and what real borg made of them."""

from __future__ import annotations

import hashlib
import json
import struct
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parent / "vectors"


@cache
def expectations() -> dict[str, Any]:
    return json.loads((VECTORS / "expected.json").read_text())


def names() -> list[str]:
    return sorted(expectations())


def expected(name: str) -> Any:
    """What borg 1.4.5 did with the vector."""
    return expectations()[name]["expected"]["1.4.5"]


def unpack(name: str, target: Path) -> Path:
    """Unpack a fresh copy of a vector below `target`; return the repository's directory."""
    with tarfile.open(VECTORS / f"{name}.tar.gz") as archive:
        # Not extractall's `filter`: Debian 12's Python is older than that.
        archive.extraction_filter = lambda member, path: member
        archive.extractall(target)
    return target / name


def ids_digest(object_ids: list[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(object_ids))).hexdigest()


def content_digest(objects: dict[bytes, bytes]) -> str:
    digest = hashlib.sha256()
    for object_id in sorted(objects):
        digest.update(object_id + struct.pack("<I", len(objects[object_id])) + objects[object_id])
    return digest.hexdigest()
