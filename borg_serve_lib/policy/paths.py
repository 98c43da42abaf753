"""Which repositories a client may reach (spec: serve-command.md sections 4 and 5).

Nothing here looks at a disk: `realpath` and home directories are arguments.

A refusal is no oracle. It tells the client its own path and nothing else, whether anything is there or not, wherever
symlinks lead, and whether there is such an account (borg tells the resolved path). Of what lies outside nothing is
looked at but symlinks on the way of the client's path, as they may lead inside; and no `..` leads back from there, as
it would tell where a symlink has led.
"""

from __future__ import annotations

from ..errors import InvalidArgument, PathNotAllowed, UsageError
from ..limits import MAX_PATH_SIZE
from ..values import Value
from .option_values import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .options import ServeOptions


def resolve_path(
    raw: bytes,
    *,
    base_dir: str,
    cwd: str,
    expand_user: Callable[[str], str | None],
    realpath: Callable[[str], str],
    is_inside: Callable[[str], bool] | None = None,
    encoding: str = "utf-8",
) -> str:
    """Return the absolute path, free of symlinks, that a client's `raw` path means.

    `base_dir`: what `~/` stands for. `cwd`: absolute, what relative paths start from. `expand_user`: replaces a leading
    `~` or `~user`; None refuses the path (see Homes). `realpath`: as os.path.realpath, for absolute paths. `is_inside`:
    whether clients may know a resolved directory, behind which they say `..`; None for all. `encoding`: of file names;
    undecodable bytes survive as surrogates. Raises InvalidArgument for a path no file can have, PathNotAllowed.
    Source: spec, serve-command.md section 4.
    """
    if b"\0" in raw:
        raise InvalidArgument("a repository path cannot contain a NUL byte")
    if len(raw) > MAX_PATH_SIZE:
        raise InvalidArgument(f"a repository path cannot be longer than {MAX_PATH_SIZE} bytes")
    requested = path = raw.decode(encoding, "surrogateescape")
    base = cwd
    if path.startswith(("/~/", "~/")):
        base, path = _join(cwd, base_dir), path.partition("~/")[2]
    elif path.startswith(("/~", "~")):
        expanded = expand_user(path.removeprefix("/"))
        if expanded is None:
            raise PathNotAllowed(requested)
        path = expanded
    elif path.startswith("/./"):
        path = path[len("/./") :]
    try:
        if is_inside is not None and not all(is_inside(realpath(left)) for left in _left_by_steps_back(base, path)):
            raise PathNotAllowed(requested)
        return realpath(_join(base, path))
    except OSError:  # a symlink on the way that this account may not read
        raise PathNotAllowed(requested) from None


def _left_by_steps_back(base: str, path: str) -> Iterator[str]:
    """Yield each directory that `path`, seen from `base`, names and leaves by `..`."""
    at = "/" if path.startswith("/") else base
    named = 0
    for part in path.split("/"):
        if part == ".." and named:
            yield at
        named += {"": 0, ".": 0, "..": -bool(named)}.get(part, 1)
        at = f"{_with_slash(at)}{part}"


def _join(directory: str, path: str) -> str:
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
    of these. If both are given, both must hold. Raises UsageError for a path that is not resolved.
    Source: spec, serve-command.md section 5.
    """

    restrict_to_paths: tuple[str, ...]
    restrict_to_repositories: tuple[str, ...]

    def __init__(self, restrict_to_paths: tuple[str, ...] = (), restrict_to_repositories: tuple[str, ...] = ()) -> None:
        super().__init__(restrict_to_paths=restrict_to_paths, restrict_to_repositories=restrict_to_repositories)
        for path in (*restrict_to_paths, *restrict_to_repositories):
            if not _is_canonical(path):
                raise UsageError(f"the restriction {shown(path)} is no resolved absolute path; it cannot be enforced")

    @classmethod
    def from_options(cls, options: ServeOptions, *, cwd: str, realpath: Callable[[str], str]) -> PathPolicy:
        """Return the policy that `options` ask for. Relative paths start at `cwd`; `~` is a name like any other.

        Raises UsageError for a path no file can have.
        """

        def resolve(path: str) -> str:
            if "\0" in path:
                raise UsageError(f"the path {shown(path)} contains a NUL byte")
            return realpath(_join(cwd, path))

        return cls(
            restrict_to_paths=tuple(map(resolve, options.restrict_to_paths)),
            restrict_to_repositories=tuple(map(resolve, options.restrict_to_repositories)),
        )

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
