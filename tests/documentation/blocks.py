"""The fenced blocks of the documentation."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "examples/README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]

_FENCED = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@attrs.frozen
class Block:
    """A block: `kind` is the word behind its fence; `file` the first file that the paragraph
    before it names, "" for none."""

    page: str
    line: int
    kind: str
    text: str
    file: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = (ROOT / page).read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found[2],
            textwrap.dedent(found[3]),
            _file_named_before(text[: found.start()]),
        )
        for found in _FENCED.finditer(text)
    ]


def without_fences(page: str) -> str:
    """Return the text of a page without its fenced blocks."""
    return _FENCED.sub("", (ROOT / page).read_text())


def _file_named_before(text: str) -> str:
    paragraph = text.rstrip().rpartition("\n\n")[2]
    named = re.findall(r"`([\w./@-]*[\w@-]\.\w+|/[\w./-]+)`", paragraph)
    return named[0] if named and paragraph.endswith(":") else ""
