"""Confinement by Landlock, which Linux has since 5.13 and which needs no privilege (man landlock(7)).

The kernel enforces it for files; from 6.2 on that includes truncating one that is not open, from 6.7 on TCP, from 6.10
on commands to devices, from 6.12 on abstract sockets and signals to other processes. A path can still be looked up, and
what is there told about and changed by its owner: mode, owner, times, attributes. UDP is not covered.
"""

from __future__ import annotations

import os
import stat
import struct
import sys

from ..errors import ConfinementImpossible
from .base import Allowance, Confinement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final

    SystemCall = Callable[..., int]

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
"""Numbers of the system calls, the same on every architecture that Python is built for on Linux."""

_VERSION_WANTED: Final = 1
_PATH_BENEATH: Final = 1
_SET_NO_NEW_PRIVILEGES: Final = 38

_READ: Final = 1 << 2 | 1 << 3
"""Read a file, a directory."""
_WRITE: Final = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
"""Write to a file; remove a directory, a file; make a directory, a file; truncate. Moves stay within a directory."""
_FOR_FILES: Final = 1 << 2 | 1 << 1 | 1 << 14
"""Those that a rule for a single file may have."""

_FILE_RIGHTS: Final = (0, 13, 14, 15, 15, 16)
"""How many rights to files there are, by version of the interface (the last goes on): all of them are given up."""
_FIRST_WITH_TCP: Final = 4
_FIRST_WITH_SCOPES: Final = 6
_TCP: Final = 1 << 0 | 1 << 1  # bind, connect
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 1 << 0 | 1 << 1
"""Whether a lock's owner lives can still be asked: who may not be signalled is told from who is not there."""


class Landlock(Confinement):
    """Confinement by the kernel."""

    def demand_possible(self) -> None:
        _version(_system_call()[0])

    def confine(self, allowances: Sequence[Allowance]) -> None:
        call, errno_of_call = _system_call()
        version = _version(call)

        def demand(result: int, what: str) -> int:
            if result < 0:
                raise ConfinementImpossible(f"{what} failed: {os.strerror(errno_of_call())}")
            return result

        files = (1 << _FILE_RIGHTS[min(version, len(_FILE_RIGHTS) - 1)]) - 1
        tcp = _TCP if version >= _FIRST_WITH_TCP else 0
        scopes = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _FIRST_WITH_SCOPES else 0
        attributes = struct.pack("=QQQ", files, tcp, scopes)[: _size_of_attributes(version)]
        rules = demand(call(_CREATE_RULESET, attributes, len(attributes), 0), "landlock_create_ruleset")
        try:
            for allowance in allowances:
                rule = _rule(allowance, files)
                if rule is not None:
                    descriptor, content = rule
                    try:
                        demand(call(_ADD_RULE, rules, _PATH_BENEATH, content, 0), "landlock_add_rule")
                    finally:
                        os.close(descriptor)
            demand(_give_up_new_privileges(), "prctl")
            demand(call(_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
        finally:
            os.close(rules)


def _version(call: SystemCall) -> int:
    """Return which version of the interface the kernel has. Raises ConfinementImpossible if none."""
    version = call(_CREATE_RULESET, None, 0, _VERSION_WANTED)
    if version < 1:
        raise ConfinementImpossible("this kernel has no Landlock, or it is switched off")
    return version


def _size_of_attributes(version: int) -> int:
    if version >= _FIRST_WITH_SCOPES:
        return 24
    return 16 if version >= _FIRST_WITH_TCP else 8


def _rule(allowance: Allowance, rights: int) -> tuple[int, bytes] | None:
    """Return a descriptor of what is allowed, to be closed, and the rule for it; None if it does not exist."""
    try:
        descriptor = os.open(allowance.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    allowed = _READ | (_WRITE if allowance.writable else 0)
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        allowed &= _FOR_FILES
    return descriptor, struct.pack("=Qi", allowed & rights, descriptor)


def _system_call() -> tuple[SystemCall, Callable[[], int]]:
    """Return how to make a system call, and how to get the error number of the last one."""
    if not sys.platform.startswith("linux"):
        raise ConfinementImpossible("only Linux has Landlock")
    import ctypes

    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long

    def call(number: int, *arguments: int | bytes | None) -> int:
        words = (ctypes.c_long(word) if isinstance(word, int) else word for word in arguments)
        result: int = syscall(ctypes.c_long(number), *words)
        return result

    return call, ctypes.get_errno


def _give_up_new_privileges() -> int:
    import ctypes

    result: int = ctypes.CDLL(None, use_errno=True).prctl(_SET_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    return result
