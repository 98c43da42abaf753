"""The small files beside the segments: README, config, nonce and the log of transactions.

Source: spec, repository-format.md sections 2, 3 and 8.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from ..errors import (
    AlreadyExists,
    FileExists,
    FileMissing,
    InvalidArgument,
    InvalidNonce,
    InvalidRepository,
    InvalidRepositoryConfig,
    NonceMismatch,
    StorageError,
)
from ..format.config import README_TEXT, RepositoryConfig, is_left_by_creation
from ..limits import ID_SIZE, MAX_KEYDATA_SIZE, MAX_SMALL_FILE_SIZE
from ..reporting import Reporter
from ..storage.base import NO_HARD_LINKS, Storage

_OLD_CONFIG = "config.old"
_MAX_NONCE = 2**64 - 1


class Settings:
    """The small files of one repository. `config` is what was last read or written."""

    def __init__(self, storage: Storage, reporter: Reporter, *, random_bytes: Callable[[int], bytes]) -> None:
        self._storage = storage
        self._reporter = reporter
        self._random_bytes = random_bytes
        self._config: RepositoryConfig | None = None

    @property
    def config(self) -> RepositoryConfig:
        """The repository's config, read when first asked for. Raises InvalidRepository, InvalidRepositoryConfig."""
        if self._config is None:
            self._config = self._read_config()
        return self._config

    def _read_config(self) -> RepositoryConfig:
        try:
            text = self._storage.read("config", MAX_SMALL_FILE_SIZE)
        except FileMissing:
            raise InvalidRepository(self._storage.location) from None
        except StorageError as error:
            if error.errno != errno.EFBIG:
                raise
            raise InvalidRepositoryConfig(self._storage.location, f"the file is {error.reason}") from None
        return RepositoryConfig.parse(text, self._storage.location)

    def initialise(self, *, append_only: bool, storage_quota: int) -> None:
        """Make a directory that is empty, or was left by a creation cut short, a repository without objects.

        It is one from the moment there is a `config`. Raises AlreadyExists if another session was quicker,
        StorageError. Source: spec, repository-format.md section 1.
        """
        storage = self._storage
        storage.replace("README", README_TEXT)
        storage.make_directory("data")
        config = RepositoryConfig.new(
            repository_id=self._random_bytes(ID_SIZE), append_only=append_only, storage_quota=storage_quota
        )
        try:
            storage.replace("config", config.render(), must_be_new=True)
        except FileExists:
            raise AlreadyExists(storage.location) from None
        self._config = config
        for entry in storage.entries():
            if entry.name.endswith(".tmp") and is_left_by_creation(entry.name):
                storage.remove(entry.name)

    # --- config

    def change_config(self, change: Callable[[RepositoryConfig], None]) -> None:
        """Apply `change` to the config as it is on disk now, write it at once and durably, and erase the old one.

        Raises StorageError. Source: spec, repository-format.md section 3.3.
        """
        config = self._read_config()
        change(config)
        self._erase_leftover()
        keeps_old = self._keep_old()
        self._storage.replace("config", config.render())
        self._config = config
        if keeps_old:
            self._erase(_OLD_CONFIG)

    def _erase_leftover(self) -> None:
        if self._storage.size(_OLD_CONFIG) is not None:
            from ..events.transactions import OldConfigLeftOver

            self._reporter.report(OldConfigLeftOver())
            self._erase(_OLD_CONFIG)

    def _keep_old(self) -> bool:
        try:
            self._storage.link("config", _OLD_CONFIG)
        except StorageError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            from ..events.transactions import OldConfigNotErased

            self._reporter.report(OldConfigNotErased())
            return False
        return True

    def _erase(self, name: str) -> None:
        """Overwrite and remove a file; one that has another name too is only removed: that name still needs it."""
        size = self._storage.size(name)
        if size and self._storage.link_count(name) == 1:
            self._storage.overwrite(name, self._random_bytes(size))
        self._storage.remove(name)

    # --- key

    def save_key(self, keydata: bytes, *, replace: bool) -> bool:
        """Store the repokey: UTF-8 text of one or more lines; return whether it was: in place of an older one only if
        `replace`. Raises InvalidArgument, StorageError.
        """
        if len(keydata) > MAX_KEYDATA_SIZE:
            raise InvalidArgument(f"the key is longer than {MAX_KEYDATA_SIZE} bytes")
        try:
            text = keydata.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidArgument("the key is not UTF-8 text") from None

        if not replace and self._read_config().key:  # as it is now: this session may have begun without one
            return False

        def change(config: RepositoryConfig) -> None:
            config.key = text

        self.change_config(change)
        return True

    def load_key(self) -> bytes:
        """Return the repokey, b'' if there is none."""
        return self.config.key.encode("utf-8")

    # --- nonce

    def nonce(self) -> int | None:
        """Return the first unreserved nonce, or None if none was ever reserved. Raises InvalidNonce."""
        try:
            text = self._storage.read("nonce", MAX_SMALL_FILE_SIZE)
        except FileMissing:
            return None
        except StorageError as error:
            if error.errno != errno.EFBIG:
                raise
            raise InvalidNonce("Repository has an invalid nonce file") from None
        text = text.strip()
        if len(text) != 16 or any(digit not in b"0123456789abcdefABCDEF" for digit in text):
            raise InvalidNonce("Repository has an invalid nonce file")
        return int(text, 16)

    def reserve_nonces(self, next_unreserved: int, start_nonce: int | None) -> None:
        """Reserve the nonces from `start_nonce` (None: the first ever) up to but without `next_unreserved`.

        Raises NonceMismatch, InvalidNonce, InvalidArgument, StorageError.
        """
        if self.nonce() != start_nonce:
            raise NonceMismatch("nonce space reservation with mismatched previous state")
        if not 0 <= next_unreserved <= _MAX_NONCE:
            raise InvalidArgument(f"a nonce is a number from 0 to {_MAX_NONCE}")
        self._storage.replace("nonce", b"%016x" % next_unreserved)

    # --- transactions

    def log_transaction(self, transaction: int, utc: str) -> None:
        """Note a transaction of an append-only repository. `utc`: `YYYY-MM-DDTHH:MM:SS.ffffff`."""
        self._storage.append("transactions", f"transaction {transaction}, UTC time {utc}\n".encode("ascii"))
