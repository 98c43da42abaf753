"""What `~` means in a client's path (spec: serve-command.md section 4)."""

from __future__ import annotations

from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Homes(Value):
    """Where home directories are, from the environment of the server.

    `borg_base_dir`, `home`, `user`: the variables BORG_BASE_DIR, HOME, USER; empty or None when unset. `is_root`:
    whether the process runs as root. `account_home`: returns the home directory of the account of that name ("" for
    the process's own), None when there is none.
    """

    borg_base_dir: str | None
    home: str | None
    user: str | None
    is_root: bool
    account_home: Callable[[str], str | None]

    @classmethod
    def of(cls, environment: Mapping[str, str], *, is_root: bool, account_home: Callable[[str], str | None]) -> Homes:
        """Return the homes that a process with this environment has."""
        base_dir, home, user = (environment.get(name) for name in ("BORG_BASE_DIR", "HOME", "USER"))
        return cls(base_dir, home, user, is_root, account_home)

    def base_dir(self) -> str:
        """Return the directory that `~/` and `/~/` stand for; `~name` when nothing is known about it."""
        return self.borg_base_dir or self._own_home() or self.expand(f"~{self.user or ''}")

    def expand(self, path: str) -> str:
        """Return `path` with a leading `~` or `~user` replaced; as it is when there is no such account."""
        expanded = self.expand_known(path)
        return path if expanded is None else expanded

    def expand_known(self, path: str) -> str | None:
        """Return the same, but None when there is no such account, or when the path leads up again from another's home.

        For clients that are restricted: that an unknown `~user` is a name like any other would tell them who is known,
        and so would a way that leads through somebody's home to where they may go.
        """
        if not path.startswith("~"):
            return path
        user, slash, rest = path[1:].partition("/")
        if user and ".." in rest.split("/"):
            return None
        home = self.account_home(user) if user else self._own_home() or self.account_home("")
        if home is None:
            return None
        return f"{home.rstrip('/')}{slash}{rest}" or "/"

    def _own_home(self) -> str | None:
        # After a change of user HOME may still be root's, where this account is not at home (borg 1.4).
        if not self.home or (not self.is_root and self.home == self.account_home("root")):
            return None
        return self.home
