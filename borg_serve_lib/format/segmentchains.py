"""Chains of segments with superseded PUTs: as many links as there is room for, in memory or in files."""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, TypeAlias

    from ..buffers import Room, RoomMaker

    Link: TypeAlias = tuple[int, int, int]
    """A segment, the number of PUTs in it, and the link that follows."""

END: Final = 0xFFFFFFFF
"""In the place of a link: there is none."""

_LINK: Final = Struct("<III")
_PAGE_LINKS: Final = 1 << 20
_PAGES_IN_MEMORY: Final = 2


class SegmentChains:
    """Links by number. Segments ascend along a chain; links that are no longer in one are not used again."""

    def __init__(self, make_room: RoomMaker | None = None) -> None:
        """`make_room`: for all but the first two million links."""
        self._make_room = make_room
        self._pages: list[bytearray | Room] = []
        self._length = 0

    def __getitem__(self, link: int) -> Link:
        page, at = self._pages[link // _PAGE_LINKS], link % _PAGE_LINKS * _LINK.size
        if isinstance(page, bytearray):
            return _LINK.unpack_from(page, at)
        return _LINK.unpack(page.read_at(at, _LINK.size))

    def __setitem__(self, link: int, content: Link) -> None:
        page, at = self._pages[link // _PAGE_LINKS], link % _PAGE_LINKS * _LINK.size
        if isinstance(page, bytearray):
            _LINK.pack_into(page, at, *content)
        else:
            page.write_at(at, _LINK.pack(*content))

    def append(self, segment: int, puts: int, following: int) -> int:
        """Make a new link; return its number."""
        link = self._length
        if link == len(self._pages) * _PAGE_LINKS:
            self._pages.append(self._new_page())
        self._length += 1
        self[link] = segment, puts, following
        return link

    def _new_page(self) -> bytearray | Room:
        size = _PAGE_LINKS * _LINK.size
        room = None
        if len(self._pages) >= _PAGES_IN_MEMORY and self._make_room is not None:
            room = self._make_room(size, (bytes(size),))
        return bytearray(size) if room is None else room

    def find(self, first: int, segment: int) -> tuple[int, int]:
        """Return the last link below `segment` in the chain from `first` on and the one that follows, END if there is
        none.
        """
        before, link = END, first
        while link != END:
            other, _, following = self[link]
            if other >= segment:
                break
            before, link = link, following
        return before, link

    def follow(self, before: int, link: int, *, otherwise: int) -> int:
        """Let `link` follow `before`, END if it is to be the first; return the first link, which is `otherwise` if it
        does not change.
        """
        if before == END:
            return link
        segment, puts, _ = self[before]
        self[before] = segment, puts, link
        return otherwise

    def links(self, first: int) -> Iterator[tuple[int, int]]:
        """Yield each segment of the chain from `first` on, with the number of PUTs in it."""
        while first != END:
            segment, puts, first = self[first]
            yield segment, puts

    def close(self) -> None:
        """Let go of the files."""
        for page in self._pages:
            if not isinstance(page, bytearray):
                page.close()
        self._pages = []
