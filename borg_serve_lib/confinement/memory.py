"""A limit for the memory of this process, kept by the kernel."""

from __future__ import annotations


def limit_memory(most: int) -> None:
    """Let the kernel give this process at most `most` bytes of data; beyond that Python raises MemoryError.

    What counts are private pages that can be written to, used or not, stacks of threads included (Linux, RLIMIT_DATA);
    other systems count less. A lower limit that is set already stays.
    """
    from resource import RLIM_INFINITY, RLIMIT_DATA, getrlimit, setrlimit

    soft, hard = getrlimit(RLIMIT_DATA)
    setrlimit(RLIMIT_DATA, (min(each for each in (most, soft, hard) if each != RLIM_INFINITY), hard))
