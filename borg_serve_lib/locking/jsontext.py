"""Strings as JSON has them, without the price of the module json where it is not needed."""

from __future__ import annotations


def render_text(text: str) -> str:
    """Return `text` as a string of JSON."""
    # Nearly every host id; importing json for it would cost every session a millisecond.
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    import json

    return json.dumps(text)
