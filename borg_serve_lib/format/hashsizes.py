"""How large the table of `index.N` is for how many objects.

A table that borg 1.2 made of the same calls has the same size. Source: spec, repository-format.md section 5.3; floating
point as there, so that each limit is borg's own.
"""

from __future__ import annotations

from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# fmt: off
SIZES: Final = (
    1031, 2053, 4099, 8209, 16411, 32771, 65537, 131101, 262147, 445649, 757607, 1287917, 2189459, 3065243, 4291319,
    6007867, 8410991, 11775359, 16485527, 23079703, 27695653, 33234787, 39881729, 47858071, 57429683, 68915617,
    82698751, 99238507, 119086189, 144378011, 157223263, 173476439, 190253911, 209915011, 230493629, 253169431,
    278728861, 306647623, 337318939, 370742809, 408229973, 449387209, 493428073, 543105119, 596976533, 657794869,
    722676499, 795815791, 874066969, 962279771, 1057701643, 1164002657, 1280003147, 1407800297, 1548442699, 1703765389,
    1873768367, 2062383853,
)
# fmt: on
"""Numbers of buckets a new table may have (spec: repository-format.md section 5.3)."""

_LAST: Final = len(SIZES) - 1


def fit(buckets: int) -> int:
    """Return the smallest size of at least `buckets`."""
    return SIZES[min(bisect_left(SIZES, buckets), _LAST)]


def next_size(buckets: int, step: int) -> int:
    """Return the size that is `step` places (1 or -1) from the one that fits `buckets`."""
    place = bisect_left(SIZES, buckets) + step
    return SIZES[min(max(place, 0), _LAST)]


def upper_limit(buckets: int) -> int:
    """Return the number of entries above which an insert makes the table grow."""
    return buckets if buckets >= SIZES[-1] else int(buckets * 0.75)


def lower_limit(buckets: int) -> int:
    """Return the number of entries below which the table shrinks."""
    return 0 if buckets <= SIZES[0] else int(buckets * 0.25)


def least_empty(buckets: int) -> int:
    """Return how many EMPTY buckets an insert must leave, or the DELETED ones are cleared away."""
    return 1 + int(buckets * (1.0 - 0.93))


def capacity(buckets: int) -> int:
    """Return how many entries the table takes before it grows."""
    return upper_limit(buckets) + 1


def size_for(entries: int) -> int:
    """Return the smallest size that takes `entries` without growing."""
    return SIZES[min(bisect_left(SIZES, entries, key=capacity), _LAST)]
