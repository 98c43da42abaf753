"""Facts about the machine that locks are judged by: which kernel runs, since when a process does, whose a disk is."""

from __future__ import annotations

import os
import sys

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_START_FIELD = 19
"""Index of the start time among the fields of /proc/PID/stat that follow the name of the program."""

_LOCAL_FILE_SYSTEMS = frozenset({
    0xEF53,  # ext2, ext3, ext4
    0x58465342,  # xfs
    0x9123683E,  # btrfs
    0x2FC12FC1,  # zfs
    0xCA451A4E,  # bcachefs
    0xF2F52010,  # f2fs
    0x3153464A,  # jfs
    0x52654973,  # reiserfs
    0x01021994,  # tmpfs
    0x794C7630,  # overlayfs
    0x2011BAB0,  # exfat
    0x4D44,  # vfat
    0x7366746E,  # ntfs3
})  # fmt: skip
"""What statfs tells of file systems that one kernel at a time has mounted (Linux, magic.h and the file systems')."""

_LARGEST_STATFS = 256
_MOST = 4096


def kernel_boot_id() -> str:
    """Return what no other start of this or another machine's kernel has, "" where the system does not tell."""
    return _read(_BOOT_ID).strip()


def process_start() -> float:
    """Return when this process began, in seconds since the epoch; 0.0 where the system does not tell."""
    import time

    try:
        ticks = int(_read("/proc/self/stat").rpartition(")")[2].split()[_START_FIELD])
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (AttributeError, IndexError, ValueError, OSError):
        return 0.0
    return time.time() - since_boot


def is_local_disk(path: str) -> bool:
    """Return whether the file system at `path` is on a disk of this machine; False when that is not known.

    Others may reach it through this machine, but none can have it mounted as well.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes
    except ImportError:  # there are pythons without
        return False
    answer = ctypes.create_string_buffer(_LARGEST_STATFS)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), answer):
        return False
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF in _LOCAL_FILE_SYSTEMS


def _read(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _MOST).decode("ascii", "replace")
    finally:
        os.close(descriptor)
