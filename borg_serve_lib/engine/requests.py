"""How a repository is asked for, and what holds for the session that gets it."""

from __future__ import annotations

from ..values import Value


class OpenRequest(Value):
    """How a client asks for a repository (spec: rpc.md section 3.1).

    `exclusive`: True takes the exclusive lock, False a shared one for reading only, None a shared one that becomes
    exclusive at the first write. `lock_wait`: seconds, None waits for ever. `locking` False takes no lock at all; such
    a session reads, and may write key and nonces.
    """

    create: bool = False
    locking: bool = True
    exclusive: bool | None = None
    lock_wait: float | None = None
    append_only: bool = False
    make_parent_dirs: bool = False


class RepositoryRules(Value):
    """What holds for one session: `append_only`; `compacts`, whether what is superseded may be removed at all, which
    append-only forbids; `storage_quota` in bytes (0: none); `append_only_later`: whether append_only holds from the
    first commit on.
    """

    append_only: bool = False
    compacts: bool = True
    storage_quota: int = 0
    append_only_later: bool = False

    def after_a_commit(self) -> RepositoryRules:
        """Return what holds once anything was committed."""
        if not self.append_only_later:
            return self
        return RepositoryRules(append_only=True, compacts=False, storage_quota=self.storage_quota)
