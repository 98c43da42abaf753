from __future__ import annotations

import pytest

from borg_serve_lib.units import format_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1234567, "1.23 MB"),
        (999_994, "999.99 kB"),
        (999_996, "1.00 MB"),
        (10_000_000, "10.00 MB"),
        (10**24, "1.00 YB"),
        (5 * 10**27, "5000.00 YB"),
        (-1500, "-1.50 kB"),
    ],
)
def test_sizes_are_decimal_with_two_digits(size: int, text: str) -> None:
    assert format_size(size) == text
