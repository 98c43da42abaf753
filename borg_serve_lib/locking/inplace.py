"""Rewriting a small file where it lies, so that it is whole at every moment."""

from __future__ import annotations

import os


def overwrite(descriptor: int, data: bytes) -> None:
    """Write `data` as the whole content of a file, in such an order that it is readable JSON at every moment.

    One write of `data`, padded with blanks to the old size, then the cut: truncating first, as borg does, would lose
    everything to a kill or a full disk in between. Raises OSError.
    """
    size = os.fstat(descriptor).st_size
    padded = data.ljust(size)
    written = os.pwrite(descriptor, padded, 0)
    while written < len(padded):
        written += os.pwrite(descriptor, padded[written:], written)
    if size > len(data):
        os.ftruncate(descriptor, len(data))
