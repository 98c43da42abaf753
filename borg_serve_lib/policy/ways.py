"""The ways that a client's path may take: what may be looked at before it is known where the path leads.

Looking at a path has effects where it lies outside: an automounter mounts, a dead server is waited for. So a name is
looked up in those directories alone that the host's own words lead through (its trees, as written and as resolved, the
current directory, the home) and in the trees themselves. A path that leads anywhere else is refused where it leaves
them. Borg looks at all of it, and finds symlinks into a tree anywhere; here a tree has to be given by that name, too.

Nothing here looks at a disk: `readlink` is an argument. Whether a path is allowed is decided by PathPolicy, of what
realpath makes of it; this only refuses more, and earlier.
"""

from __future__ import annotations

from ..limits import MAX_SYMLINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Ways:
    """The directories that clients' paths may lead through.

    `starts`: absolute paths of the host, with symlinks or without. `contains`: whether a resolved directory lies in one
    of the trees. `readlink`: returns what a symlink says, None for what is no symlink that can be read.
    """

    def __init__(
        self, starts: Iterable[str], *, contains: Callable[[str], bool], readlink: Callable[[str], str | None]
    ) -> None:
        self._contains = contains
        self._readlink = readlink
        self._known: set[str] = set()
        for start in starts:
            walk = _Walk(readlink, self._learn)
            if walk.goes(start):
                self._known.add(walk.at)

    def _learn(self, directory: str) -> bool:
        self._known.add(directory)
        return True

    def allow(self, base: str, path: str) -> bool:
        """Return whether `path`, as seen from `base`, may be looked at as a whole. `base`: one of the starts.

        No `..` leads back from a directory outside that the client has named, as it would tell where a symlink leads.
        Each name is looked at once, and nothing behind the first that leads astray.
        """
        walk = _Walk(self._readlink, lambda directory: directory in self._known or self._contains(directory))
        if not path.startswith("/") and not walk.goes(base):
            return False
        named = 0
        for part in path.split("/"):
            if part == ".." and named and not self._contains(walk.at):
                return False
            named += {"": 0, ".": 0, "..": -bool(named)}.get(part, 1)
            if not walk.goes(part):
                return False
        return True


class _Walk:
    """One walk, name by name and link by link. `at`: the directory reached, resolved."""

    def __init__(self, readlink: Callable[[str], str | None], may_look_into: Callable[[str], bool]) -> None:
        self._readlink = readlink
        self._may_look_into = may_look_into
        self._links = 0
        self.at = "/"

    def goes(self, path: str) -> bool:
        """Walk along `path`; return False, wherever it is then, if it leads through what must not be looked into, or
        through more symlinks than any file can be opened by.
        """
        ahead = path.split("/")[::-1]
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                self.at = self.at.rpartition("/")[0] or "/"
                continue
            if not self._may_look_into(self.at):
                return False
            there = f"{self.at.rstrip('/')}/{part}"
            target = self._readlink(there)
            if target is None:
                self.at = there
                continue
            self._links += 1
            if self._links > MAX_SYMLINKS:
                return False
            ahead += target.split("/")[::-1]
            if target.startswith("/"):
                self.at = "/"
        return True
