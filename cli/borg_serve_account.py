"""Whose rights `borg-serve repo` works with: those of the account that a repository belongs to."""

from __future__ import annotations

import os
import pwd

import borg_serve_lib
from borg_serve_lib import UsageError


def become_owner(path: str) -> None:
    """If this is root, go on as the account that the directory `path` belongs to; for good, with all its groups.

    A file that root made there (a new segment, an index, a lock) is one that the server of that account could not read.
    Nothing is done where there is no such directory: what opens it tells that. To be called before anything is opened.
    Raises UsageError.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = os.stat(path)
    except OSError:
        return
    if owner.st_uid == 0:
        return
    name, groups = _account(owner.st_uid, owner.st_gid)
    try:
        os.setgroups(groups)
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except OSError as error:
        raise UsageError(
            f"{path} belongs to the account {name}, which this process cannot become ({error.strerror}); "
            f"start it as that account: runuser -u {name} -- borg-serve repo ..."
        ) from None
    for module in (borg_serve_lib, os):
        if not os.access(str(module.__file__), os.R_OK):
            raise UsageError(
                f"{path} belongs to the account {name}, which cannot read {module.__file__}; "
                "install borg-serve and its Python where that account can, such as /opt/borg-serve"
            )


def account_name() -> str:
    """Return what the account of this process is called, "" if it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _account(uid: int, gid: int) -> tuple[str, list[int]]:
    """Return what an account is called, and its groups, `gid` among them."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}", [gid]
    return name, os.getgrouplist(name, gid)
