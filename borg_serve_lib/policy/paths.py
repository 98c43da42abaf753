"""Which repositories a client may reach (spec: serve-command.md sections 4 and 5).

Nothing here looks at a disk: `realpath` and home directories are arguments.

A refusal is no oracle. It tells the client its own path and nothing else, whether anything is there or not, wherever
symlinks lead, and whether there is such an account (borg tells the resolved path). What is looked at before a path is
refused is a matter of its own: ways.py.
"""

from __future__ import annotations

from ..errors import InvalidArgument, PathNotAllowed, UsageError
from ..limits import MAX_PATH_SIZE
from ..values import Value
from .option_values import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import ServeOptions


def resolve_path(
    raw: bytes,
    *,
    base_dir: str,
    cwd: str,
    expand_user: Callable[[str], str | None],
    realpath: Callable[[str], str],
    may_look_at: Callable[[str, str], bool] | None = None,
    encoding: str = "utf-8",
) -> str:
    """Return the absolute path, free of symlinks, that a client's `raw` path means.

    `base_dir`: what `~/` stands for. `cwd`: absolute, what relative paths start from. `expand_user`: replaces a leading
    `~` or `~user`; None refuses the path (see Homes). `realpath`: as os.path.realpath, for absolute paths.
    `may_look_at`: is given a directory, `cwd` or `base_dir`, and a path as seen from it, and says whether that path may
    be looked at (see Ways); None for all. `encoding`: of file names; undecodable bytes survive as surrogates. Raises
    InvalidArgument for a path no file can have, PathNotAllowed. Source: spec, serve-command.md section 4.
    """
    if b"\0" in raw:
        raise InvalidArgument("a repository path cannot contain a NUL byte")
    if len(raw) > MAX_PATH_SIZE:
        raise InvalidArgument(f"a repository path cannot be longer than {MAX_PATH_SIZE} bytes")
    requested = path = raw.decode(encoding, "surrogateescape")
    base = cwd
    if path.startswith(("/~/", "~/")):
        base, path = joined(cwd, base_dir), path.partition("~/")[2]
    elif path.startswith(("/~", "~")):
        expanded = expand_user(path.removeprefix("/"))
        if expanded is None:
            raise PathNotAllowed(requested)
        path = expanded
    elif path.startswith("/./"):
        path = path[len("/./") :]
    if may_look_at is not None and not may_look_at(base, path):
        raise PathNotAllowed(requested)
    try:
        return realpath(joined(base, path))
    except OSError:  # a symlink on the way that this account may not read
        raise PathNotAllowed(requested) from None


def joined(directory: str, path: str) -> str:
    """Return `path` as seen from `directory`; an absolute one stays as it is."""
    return path if path.startswith("/") else f"{_with_slash(directory)}{path}"


def _with_slash(directory: str) -> str:
    return directory if directory.endswith("/") else f"{directory}/"


def _lies_in(path: str, trees: tuple[str, ...]) -> bool:
    return any(_with_slash(path).startswith(_with_slash(tree)) for tree in trees)


def _is_canonical(path: str) -> bool:
    """Return whether `path` is absolute and free of `.`, `..`, doubled and trailing slashes."""
    return path == "/" or (path.startswith("/") and not {"", ".", ".."}.intersection(path[1:].split("/")))


class PathPolicy(Value):
    """The restrictions of one server. All paths are absolute and resolved; without any, everything is allowed.

    `restrict_to_paths`: a path must equal one of these or lie below it. `restrict_to_repositories`: it must equal one
    of these. If both are given, both must hold. `written`: the same as the host wrote them, absolute, which may lead
    through symlinks: clients may name them like that. Raises UsageError for a restriction that is not resolved.
    Source: spec, serve-command.md section 5.
    """

    restrict_to_paths: tuple[str, ...]
    restrict_to_repositories: tuple[str, ...]
    written: tuple[str, ...]

    def __init__(
        self,
        restrict_to_paths: tuple[str, ...] = (),
        restrict_to_repositories: tuple[str, ...] = (),
        written: tuple[str, ...] = (),
    ) -> None:
        super().__init__(restrict_to_paths, restrict_to_repositories, written)
        for path in (*restrict_to_paths, *restrict_to_repositories):
            if not _is_canonical(path):
                raise UsageError(f"the restriction {shown(path)} is no resolved absolute path; it cannot be enforced")

    @classmethod
    def from_options(cls, options: ServeOptions, *, cwd: str, realpath: Callable[[str], str]) -> PathPolicy:
        """Return the policy that `options` ask for. Relative paths start at `cwd`; `~` is a name like any other.

        Raises UsageError for a path no file can have.
        """

        def absolute(path: str) -> str:
            if "\0" in path:
                raise UsageError(f"the path {shown(path)} contains a NUL byte")
            return joined(cwd, path)

        paths = tuple(map(absolute, options.restrict_to_paths))
        repositories = tuple(map(absolute, options.restrict_to_repositories))
        return cls(tuple(map(realpath, paths)), tuple(map(realpath, repositories)), paths + repositories)

    @property
    def restricts(self) -> bool:
        """Whether there is any restriction."""
        return bool(self.restrict_to_paths or self.restrict_to_repositories)

    @property
    def trees(self) -> tuple[str, ...]:
        """The directories outside of which nothing is allowed; "/" alone if nothing is restricted."""
        if not self.restricts:
            return ("/",)
        if self.restrict_to_repositories:
            return tuple(path for path in self.restrict_to_repositories if self.allows(path))
        return self.restrict_to_paths

    @property
    def names(self) -> tuple[str, ...]:
        """The restrictions by all their names: as resolved and as written."""
        return (*self.restrict_to_paths, *self.restrict_to_repositories, *self.written)

    def contains(self, resolved: str) -> bool:
        """Return whether `resolved`, a path free of symlinks, lies in one of the trees."""
        return _lies_in(resolved, self.trees)

    def allows(self, resolved: str) -> bool:
        """Return whether clients may use the repository at `resolved`, a path that resolve_path returned."""
        if not self.restricts:
            return True
        return _is_canonical(resolved) and self._is_below(resolved) and self._is_listed(resolved)

    def _is_below(self, resolved: str) -> bool:
        return not self.restrict_to_paths or _lies_in(resolved, self.restrict_to_paths)

    def _is_listed(self, resolved: str) -> bool:
        return not self.restrict_to_repositories or resolved in self.restrict_to_repositories

    def check(self, resolved: str, requested: str) -> None:
        """Raise PathNotAllowed unless clients may use the repository at `resolved`, for which they said `requested`."""
        if not self.allows(resolved):
            raise PathNotAllowed(requested)
