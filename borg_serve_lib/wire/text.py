"""Text that clients can decode. Source: spec, rpc.md sections 6.1 and 7."""

from __future__ import annotations


def valid_text(text: str) -> str:
    """Return `text` without what UTF-8 cannot hold: bytes of a path that are no text become replacement characters."""
    try:
        encoded = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that stands for no byte.
        encoded = text.encode("utf-8", "replace")
    return encoded.decode("utf-8", "replace")
