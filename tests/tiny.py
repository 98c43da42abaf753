"""A world in which hardly anything may be in memory, so that what is for millions of objects happens to a few."""

from __future__ import annotations

import pytest

from borg_serve_lib.engine import checking, index, scratch
from borg_serve_lib.format import (
    hashindex,
    hashlayout,
    hints,
    hintsfile,
    segmentchains,
    segmentlists,
    segmentnumbers,
    shadows,
)


def treat_all_as_large(patch: pytest.MonkeyPatch) -> None:
    """Let all tables and lists lie in files."""
    for module in (hashindex, hashlayout):
        patch.setattr(module, "MOST_IN_MEMORY", 0)
    patch.setattr(hashindex, "MOST_MAPPED", 0)
    patch.setattr(hashindex, "MOST_TWICE", 0)
    patch.setattr(shadows, "MOST_LOOSE", 0)
    patch.setattr(segmentlists, "_MOST_SHARED", 3)
    patch.setattr(segmentchains, "_PAGE_LINKS", 3)
    patch.setattr(segmentchains, "_PAGES_IN_MEMORY", 1)


def treat_all_as_many(patch: pytest.MonkeyPatch) -> None:
    """Let everything be done as for a repository that is too large for memory, however full the disk is."""
    treat_all_as_large(patch)
    patch.setattr(index, "MOST_CHANGES", 2)
    patch.setattr(scratch, "_ROOM_TO_LEAVE", 0)
    patch.setattr(checking, "_MOST_KEPT", 100)
    patch.setattr(hints, "MOST_IN_DICT", 0)
    patch.setattr(hintsfile, "_BATCH", 2)
    patch.setattr(segmentnumbers, "_MOST_REMOVED", 1)
