"""The directory `lock.exclusive`: whoever has a file in it holds the lock (spec: repository-format.md section 9.2)."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from ..errors import LockError, LockFailed, LockTimeout, NotLocked, NotMyLock
from ..events.locks import MalformedLock, StaleLockRemoved
from ..reporting import Reporter
from .base import LockMode
from .claims import Claims
from .identity import Holder, parse_lock_name
from .judge import Judge
from .leasefiles import LeaseFiles
from .owner import Verdict
from .realdirs import opened_directory
from .waiting import Deadline

_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
_LONGEST_NAME = 200  # bytes, of a holder in the name of a directory; file systems allow 255 in all


def prepared_name(lock_name: str) -> str:
    """Return a new name for the directory that a holder prepares: `<path of the lock directory>.<this>.tmp`.

    It tells whose it is, since nothing else does when its maker dies before its file is in it.
    """
    letters = "".join(_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(8))
    return f"{lock_name}.{letters}" if len(os.fsencode(lock_name)) <= _LONGEST_NAME else letters


def maker_of(name: str) -> Holder | None:
    """Return who made a directory of that `prepared_name`, None if it does not tell: native borg's do not."""
    return parse_lock_name(name.rpartition(".")[0])


class LockDirectory:
    """The lock directory beside the lock `lock_path` (`<repository>/lock`), as one lock of this process sees it."""

    def __init__(self, lock_path: str, judge: Judge, reporter: Reporter, claims: Claims, leases: LeaseFiles) -> None:
        self.path = lock_path + ".exclusive"
        self._leases = leases
        self._judge = judge
        self._reporter = reporter
        self._claims = claims
        self._name = ""
        self._temp = ""  # the directory being prepared
        self._moving = False  # our file is in the directory, or about to be
        self._settled = False  # our file was in the directory

    def take(self, holder: Holder, deadline: Deadline) -> None:
        """Move a directory with `holder`'s file in it to where the lock directory is; remove a dead owner's first.

        A directory that has such a file already counts as taken: a predecessor with our process id left it.
        Raises LockTimeout, LockFailed; nothing of ours is left then, nor after any other exception.
        """
        self._name = holder.lock_name
        if "/" in self._name or "\0" in self._name:
            raise LockFailed(self.path, f"a host id with a slash or NUL cannot be part of a file name: {self._name}")
        first = True
        try:
            while not self._try_to_take(first):
                first = False
                if self._remove_dead_owner():
                    continue
                if deadline.passed():
                    raise LockTimeout(self.path)
                deadline.pause()
        except BaseException:
            self.abandon()
            raise

    def is_claimed(self) -> bool:
        """Return whether this lock, of all in this process, has the directory or was about to take it."""
        return self._claims.owner(self.path) is self

    def is_mine(self) -> bool:
        """Return whether the directory is still ours: looks at the disk."""
        return self._settled and os.path.lexists(self._own_file) and self.is_claimed()

    def give_back(self) -> None:
        """Remove our file and the directory.

        Raises NotLocked or NotMyLock if it is ours no longer, LockFailed if it cannot be removed; given back even so.
        """
        try:
            self.check()
            self._settled = False
            try:
                os.unlink(self._own_file)
            except OSError as error:
                raise LockFailed(self.path, str(error)) from error
            with suppress(OSError):  # the next holder may be in it already
                os.rmdir(self.path)
        except BaseException as error:
            if not isinstance(error, LockError):
                self.abandon()
            raise
        finally:
            self._forget()

    def check(self) -> None:
        """Raise NotLocked if the directory is gone, NotMyLock if it is there but not ours; it is forgotten then."""
        if not self.is_mine():
            self._forget()
            raise (NotMyLock if os.path.lexists(self.path) else NotLocked)(self.path)

    def abandon(self) -> None:
        """Give back what there is to be given back, as far as possible; for use after a failure. Raises nothing."""
        self._discard_temp()
        self._settled = False
        if self._moving and self.is_claimed():
            with suppress(OSError):
                os.unlink(self._own_file)
            with suppress(OSError):
                os.rmdir(self.path)
        self._forget()

    def names(self) -> list[str]:
        """Return the names in the directory, whoever's they are."""
        return self._listed() or []

    def owners(self) -> list[Holder]:
        """Return whose the directory is: those named in it, or who has lost his name. Raises LockFailed."""
        names = self._listed()
        if names is None or names:
            return [holder for name in names or () if (holder := parse_lock_name(name)) is not None]
        try:
            return sorted(self._leases.keepers(LockMode.EXCLUSIVE), key=lambda holder: holder.lock_name)
        except OSError as error:
            raise LockFailed(self.path, str(error)) from error

    def break_open(self) -> None:
        """Remove the directory with all that is in it, whoever's (spec: section 9.5). Raises OSError."""
        with suppress(FileNotFoundError), opened_directory(self.path) as directory:
            for name in os.listdir(directory):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _OCCUPIED:  # somebody took it between the two steps: that one is not broken
                raise

    @property
    def _own_file(self) -> str:
        return f"{self.path}/{self._name}"

    def _forget(self) -> None:
        self._moving = self._settled = False
        self._claims.drop(self.path, self)

    def _try_to_take(self, first: bool) -> bool:
        if not self._claim():
            return False
        taken = self._may_be_free(first) and self._move_in()
        if taken:
            self._settled = True
        else:
            self._forget()
        return taken

    def _claim(self) -> bool:
        owner = self._claims.owner(self.path)
        if isinstance(owner, LockDirectory) and owner._is_broken():
            owner._forget()
        return self._claims.claim(self.path, self)

    def _is_broken(self) -> bool:
        # Who breaks a lock removes the directory as well.
        return self._settled and not os.path.lexists(self._own_file) and self._listed() != []

    def _may_be_free(self, first: bool) -> bool:
        names = self._listed()
        if names == []:
            return not self._is_anothers_though_emptied()
        # Only the first try finds out whether we could write at all; the others write nothing while it is in use.
        return first or names is None or self._name in names

    def _is_anothers_though_emptied(self) -> bool:
        """Return whether somebody who lives holds the lock, though the file that said so is gone.

        A native 1.1 that has made the directory and not yet its file has no lease: it is not known from here.
        """
        try:
            return any(holder.lock_name != self._name for holder in self._leases.keepers(LockMode.EXCLUSIVE))
        except OSError:
            return True

    def _listed(self) -> list[str] | None:
        """Return the names in the directory, None if there is none that could be looked into."""
        try:
            with opened_directory(self.path) as directory:
                return os.listdir(directory)
        except OSError:
            return None

    def _move_in(self) -> bool:
        self._temp = f"{self.path}.{prepared_name(self._name)}.tmp"
        try:
            self._prepare()
            self._moving = True
            os.replace(self._temp, self.path)
            self._temp = ""
        except OSError as refusal:
            self._moving = os.path.lexists(self._own_file)
            # Some file systems word "not empty" differently; but where no directory is, nobody holds the lock.
            if not self._moving and refusal.errno not in _OCCUPIED and not _is_directory(self.path):
                raise LockFailed(self.path, str(refusal)) from refusal
            return self._moving
        finally:
            self._discard_temp()
        return True

    def _prepare(self) -> None:
        try:
            os.mkdir(self._temp, 0o700)
            os.close(os.open(f"{self._temp}/{self._name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        except OSError as error:
            raise LockFailed(self.path, str(error)) from error

    def _discard_temp(self) -> None:
        if self._temp:
            with suppress(OSError):
                os.unlink(f"{self._temp}/{self._name}")
            with suppress(OSError):
                os.rmdir(self._temp)
            self._temp = ""

    def _remove_dead_owner(self) -> bool:
        """Remove the files of dead owners up to the first that is not; return whether the way may be free now."""
        removed = False
        for name in self.names():
            holder = parse_lock_name(name)
            if holder is None:
                self._reporter.report(MalformedLock(name, self.path))
                return False
            with self._judge.certify(holder) as verdict:
                if verdict is not Verdict.DEAD:
                    return False
                try:
                    with opened_directory(self.path) as directory:
                        os.unlink(name, dir_fd=directory)
                except FileNotFoundError:
                    continue  # another one was quicker
                except OSError:
                    return False
            self._reporter.report(StaleLockRemoved(name))
            removed = True
        if removed:
            with suppress(OSError):
                os.rmdir(self.path)
        return removed


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
