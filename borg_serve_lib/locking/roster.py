"""The content of `lock.roster`: who holds a lock as what, as JSON (spec: repository-format.md section 9.3).

Borg takes a roster with one malformed entry for empty and so overlooks its readers. We keep every entry that can be
read, whatever has happened to the rest, because an entry lost is a reader whose lock is gone. That something was lost
is told as well: leases may know whom it named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..values import Value
from .identity import Holder
from .jsontext import render_text

_TORN_ROSTER = (
    r'"exclusive"\s*:\s*\['
    r"|"
    r'\[\s*("(?:[^"\\]|\\.)*")\s*,\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*\]'
)  # fmt: skip


class Roster(Value):
    """The holders of one repository's lock: a writer waits for those in `shared`, nobody for those in `exclusive`."""

    shared: frozenset[Holder] = frozenset()
    exclusive: frozenset[Holder] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.shared or self.exclusive)

    def with_holder(self, holder: Holder, *, shared: bool, exclusive: bool) -> Roster:
        """Return the roster with `holder` in just the named lists."""
        return Roster(
            self.shared | {holder} if shared else self.shared - {holder},
            self.exclusive | {holder} if exclusive else self.exclusive - {holder},
        )

    def without(self, dead: frozenset[Holder]) -> Roster:
        """Return the roster without the holders in `dead`."""
        return Roster(self.shared - dead, self.exclusive - dead)


def render_roster(roster: Roster) -> bytes:
    """Return `roster` as borg writes it: one line of JSON without an end of line, empty lists left out."""
    kinds = (("shared", roster.shared), ("exclusive", roster.exclusive))
    lists = ", ".join(f'"{kind}": [{_render_holders(holders)}]' for kind, holders in kinds if holders)
    return f"{{{lists}}}".encode()


def _render_holders(holders: frozenset[Holder]) -> str:
    ordered = sorted(holders, key=lambda holder: (holder.host, holder.pid, holder.thread))
    return ", ".join(f"[{render_text(holder.host)}, {holder.pid}, {holder.thread}]" for holder in ordered)


def parse_roster(data: bytes) -> Roster:
    """Return what can be read of `data`, the bytes of a roster file. Never raises, whatever the bytes are.

    An entry whose kind cannot be told counts as shared: that is the kind which protects its holder.
    """
    return examine_roster(data)[0]


def examine_roster(data: bytes) -> tuple[Roster, bool]:
    """Return what `parse_roster` does, and whether that is all which was ever written: False for a damaged file.

    No borg leaves an empty one: who is killed between truncating and writing does.
    """
    text = data.decode("utf-8", "surrogateescape")
    if not text.strip():
        return Roster(), False
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _salvage(text), False
    if not isinstance(document, dict):
        return _salvage(text), False
    holders: dict[str, set[Holder]] = {"shared": set(), "exclusive": set()}
    is_whole = document.keys() <= holders.keys()
    for kind, entries in document.items():
        found = list(_read_entries(entries))
        is_whole = is_whole and isinstance(entries, list) and len(found) == len(entries)
        holders["exclusive" if kind == "exclusive" else "shared"].update(found)
    return Roster(frozenset(holders["shared"]), frozenset(holders["exclusive"])), is_whole


def _read_entries(entries: object) -> Iterator[Holder]:
    if not isinstance(entries, list):
        return
    for entry in entries:
        # `type`, not isinstance: true and 1.0 are no process ids.
        if isinstance(entry, list) and [type(item) for item in entry] == [str, int, int]:
            yield Holder(*entry)


def _salvage(text: str) -> Roster:
    """Return the entries that are whole in a text that is no JSON object."""
    import re

    shared: set[Holder] = set()
    exclusive: set[Holder] = set()
    is_exclusive, end = False, 0
    for match in re.finditer(_TORN_ROSTER, text):
        unbroken = not text[end : match.start()].strip(", \t\r\n")
        end = match.end()
        host, pid, thread = match.groups()
        if host is None:
            is_exclusive = True
            continue
        is_exclusive = is_exclusive and unbroken
        (exclusive if is_exclusive else shared).update(_salvaged_holder(host, pid, thread))
    return Roster(frozenset(shared), frozenset(exclusive))


def _salvaged_holder(host: str, pid: str, thread: str) -> Iterable[Holder]:
    import json

    try:
        return (Holder(json.loads(host), int(pid), int(thread)),)
    except ValueError:
        return ()
