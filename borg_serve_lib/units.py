"""Sizes as people read them."""

from __future__ import annotations

_PREFIXES = ("k", "M", "G", "T", "P", "E", "Z", "Y")


def format_size(size: int) -> str:
    """Return `size` (bytes) in decimal units with two digits, as borg prints it: `999 B`, `1.00 kB`, `10.00 MB`.

    Source: spec, repository-format.md sections 18.2 and 18.3.
    """
    if abs(size) < 1000:
        return f"{size} B"
    power = 1
    # 999.995 kB would be shown as 1000.00 kB: the next unit shows it as 1.00 MB.
    while power < len(_PREFIXES) and abs(round(size / 1000**power, 2)) >= 1000:
        power += 1
    return f"{size / 1000**power:.2f} {_PREFIXES[power - 1]}B"
