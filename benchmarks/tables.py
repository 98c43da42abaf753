"""Tables in Markdown, printed and kept in a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def save_table(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put a table in the place that a page has for it: between `<!-- table: NAME -->` and `<!-- end -->`."""
    begin, end = f"<!-- table: {name} -->", "<!-- end -->"
    before, found, rest = page.read_text().partition(begin)
    if not found:
        raise SystemExit(f"{page} has no place for a table: {begin}")
    after = rest.partition(end)[2]
    page.write_text("\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"]))
