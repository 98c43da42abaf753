"""Ascending lists of segments, as chains: as many links as there is room for, in memory or in files.

A link is a segment, how often it is in the list, and the number of the link that follows. What happens most is done at
the ends: PUTs are superseded in the order in which they were written, and compaction removes them in the same.
"""

from __future__ import annotations

from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, TypeAlias

    from ..buffers import Room, RoomMaker

    Chain: TypeAlias = tuple[int, int]
    """Its first and its last link."""

_END: Final = 0xFFFFFFFF
"""In the place of a link: there is none."""

_LINK: Final = Struct("<III")
_PAGE_LINKS: Final = 1 << 20
_PAGES_IN_MEMORY: Final = 2
_MOST_FOUND: Final = 1 << 16
"""Chains of which it is kept where a segment was found, at 100 bytes each."""


class SegmentChains:
    """Chains as their first and last link tell them. Links that are no longer in a chain are not used again."""

    def __init__(self, make_room: RoomMaker | None) -> None:
        """`make_room`: for all but the first two million links."""
        self._make_room = make_room
        self._pages: list[bytearray | Room] = []
        self._length = 0
        self._found: dict[int, int] = {}  # the first link of a chain -> one further on, where the last search ended

    def close(self) -> None:
        """Let go of the files."""
        for page in self._pages:
            if not isinstance(page, bytearray):
                page.close()
        self._pages = []

    def new(self, segment: int) -> Chain:
        """Return a chain of one segment."""
        link = self._append(segment, 1, _END)
        return link, link

    def segments(self, chain: Chain) -> Segments:
        """Return the segments; good until the chain changes."""
        return Segments(self, chain)

    def add(self, chain: Chain, segment: int) -> Chain:
        """Return the chain with `segment` added; the one without it must not be used any more."""
        first, last = chain
        highest, times, _ = self._read(last)
        if segment > highest:
            link = self._append(segment, 1, _END)
            self._write(last, highest, times, link)
            return first, link
        before, link = (_END, last) if segment == highest else self._find(chain, segment)
        other, times, following = self._read(link)
        if other == segment:
            self._write(link, segment, times + 1, following)
            return chain
        return self._join(chain, before, self._append(segment, 1, link))

    def remove(self, chain: Chain, segment: int) -> Chain | None:
        """Return the chain without one `segment`, as it was if it has none, None if nothing is left of it."""
        before, link = self._find(chain, segment)
        if link == _END:
            return chain
        other, times, following = self._read(link)
        if other != segment:
            return chain
        if times > 1:
            self._write(link, segment, times - 1, following)
            return chain
        return self._without(chain, before, following)

    def remove_all(self, chain: Chain, is_unwanted: Callable[[int], bool]) -> Chain | None:
        """Return the chain without the segments that are unwanted, None if nothing is left of it."""
        self._found.pop(chain[0], None)
        left: Chain | None = chain
        before, link = _END, chain[0]
        while link != _END:
            segment, _, following = self._read(link)
            if not is_unwanted(segment):
                before = link
            elif left is not None:
                left = self._without(left, before, following)
            link = following
        return left

    def links(self, chain: Chain) -> Iterator[tuple[int, int]]:
        """Yield each segment, with how often it is in the chain."""
        link = chain[0]
        while link != _END:
            segment, times, link = self._read(link)
            yield segment, times

    def _find(self, chain: Chain, segment: int) -> tuple[int, int]:
        """Return the last link below `segment`, and the one that follows; _END where there is none.

        Where it was is kept: compaction asks for one segment of each chain after the other, in ascending order, and
        what it has left behind would be gone through each time.
        """
        first = chain[0]
        before, link = self._found.get(first, _END), first
        if before != _END:
            other, _, following = self._read(before)
            before, link = (before, following) if other < segment else (_END, first)
        while link != _END:
            other, _, following = self._read(link)
            if other >= segment:
                break
            before, link = link, following
        if before != _END:
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            self._found[first] = before
        return before, link

    def _without(self, chain: Chain, before: int, following: int) -> Chain | None:
        """Take what is between two links out of a chain; _END stands for that there is none."""
        if before == following == _END:
            self._found.pop(chain[0], None)
            return None
        first, last = self._join(chain, before, following)
        return first, before if following == _END else last

    def _join(self, chain: Chain, before: int, link: int) -> Chain:
        """Let `link` follow `before`, or be the first if that is _END."""
        first, last = chain
        if before == _END:
            self._found.pop(first, None)
            return link, last
        segment, times, _ = self._read(before)
        self._write(before, segment, times, link)
        return first, last

    # --- links

    def _append(self, segment: int, times: int, following: int) -> int:
        link = self._length
        if link == len(self._pages) * _PAGE_LINKS:
            self._pages.append(self._new_page())
        self._length += 1
        self._write(link, segment, times, following)
        return link

    def _new_page(self) -> bytearray | Room:
        size = _PAGE_LINKS * _LINK.size
        room = None
        if len(self._pages) >= _PAGES_IN_MEMORY and self._make_room is not None:
            room = self._make_room(size, (bytes(size),))
        return bytearray(size) if room is None else room

    def _read(self, link: int) -> tuple[int, int, int]:
        page, at = self._pages[link // _PAGE_LINKS], link % _PAGE_LINKS * _LINK.size
        if isinstance(page, bytearray):
            return _LINK.unpack_from(page, at)
        return _LINK.unpack(page.read_at(at, _LINK.size))

    def _write(self, link: int, segment: int, times: int, following: int) -> None:
        page, at = self._pages[link // _PAGE_LINKS], link % _PAGE_LINKS * _LINK.size
        if isinstance(page, bytearray):
            _LINK.pack_into(page, at, segment, times, following)
        else:
            page.write_at(at, _LINK.pack(segment, times, following))


class Segments:
    """The segments of a chain, ascending; read when they are asked for."""

    def __init__(self, chains: SegmentChains, chain: Chain) -> None:
        self._chains = chains
        self._chain = chain

    def __len__(self) -> int:
        return sum(times for _, times in self._chains.links(self._chain))

    def __iter__(self) -> Iterator[int]:
        for segment, times in self._chains.links(self._chain):
            for _ in range(times):
                yield segment

    def __contains__(self, segment: object) -> bool:
        return any(segment == other for other, _ in self._chains.links(self._chain))
