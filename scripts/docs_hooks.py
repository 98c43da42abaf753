"""Shows the examples, which lie outside of docs/, as pages of the site."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

EXAMPLES = Path(__file__).parent.parent / "examples"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each example, and the page that lists them."""
    for source in sorted(EXAMPLES.glob("*.py")):
        text = f"# {source.name}\n\n```python\n{source.read_text()}```\n"
        files.append(File.generated(config, f"examples/{source.stem}.md", content=text))
    listing = re.sub(r"\]\((\w+)\.py\)", r"](\1.md)", (EXAMPLES / "README.md").read_text())
    files.append(File.generated(config, "examples/README.md", content=listing))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links into the examples lead to their pages."""
    return re.sub(r"\]\(\.\./examples/(?:(\w+)\.py)?\)", lambda link: f"](examples/{link[1] or 'README'}.md)", markdown)
