"""Work on many things in as many threads as there are cores, with the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MOST_THREADS = 8
"""More would not read a disk any faster, and each holds what it has read."""


_STACK_SIZE = 1 << 20
"""Bytes for a thread: all of it counts as the process's data, and the usual 8 MiB of each would be too much."""


def usable_cores() -> int:
    """Return how many threads are worth having: the cores this process may use, within reason."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def in_order(
    work: Callable[[_Item], _Result], items: Sequence[_Item], threads: int
) -> Generator[tuple[_Item, _Result], None, None]:
    """Yield each item with what `work` makes of it, in the order of `items`; what `work` raises is raised at its turn.

    At most `threads` + 2 results are there at once, with the one just yielded. Closing the iterator waits for what has
    begun and begins no more. Raises MemoryError where there is none for a thread.
    """
    if threads < 2 or len(items) < 2:
        for item in items:
            yield item, work(item)
        return
    import threading
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)

    def begin(item: _Item) -> tuple[_Item, Future[_Result]]:
        try:
            return item, pool.submit(work, item)
        except RuntimeError:  # that is all Python tells of a thread that cannot be started
            raise MemoryError from None

    stack_size = threading.stack_size(_STACK_SIZE)
    try:
        waiting = iter(items)
        try:
            begun = deque(map(begin, islice(waiting, threads + 1)))
        finally:
            threading.stack_size(stack_size)
        while begun:
            item, future = begun.popleft()
            result = future.result()
            begun.extend(map(begin, islice(waiting, 1)))
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)
