"""The files `config` and `README` of a repository, and the way sizes are written in config.

Source: spec, repository-format.md sections 2 and 3.
"""

from __future__ import annotations

from ..errors import InvalidArgument, InvalidRepositoryConfig
from ..limits import DEFAULT_SEGMENT_SIZE, DEFAULT_SEGMENTS_PER_DIR, ID_SIZE, MAX_SEGMENT_SIZE_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from configparser import ConfigParser
    from typing import Final, TypeVar

    _Value = TypeVar("_Value")

README_TEXT: Final = b"This is a Borg Backup repository.\nSee https://borgbackup.readthedocs.io/\n"
"""The content of a new README."""

_README_MARKS: Final = (b"Borg Backup repository", b"Borg repository")
_README_LOOKED_AT: Final = 100

_SECTION: Final = "repository"
_VERSION: Final = 1
_SIZE_SUFFIXES: Final = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_BOOLEANS: Final = {
    "1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False,
}  # fmt: skip
_LONGEST_NUMBER: Final = 100
_SHOWN_LENGTH: Final = 60


def is_repository_readme(first_bytes: bytes) -> bool:
    """Return whether a README that begins with these (at least 100 if it has as many) marks a repository."""
    return any(mark in first_bytes[:_README_LOOKED_AT] for mark in _README_MARKS)


def is_left_by_creation(name: str) -> bool:
    """Return whether a creation that was cut short may leave this name, before there is a `config`."""
    return name in ("README", "data") or (name.startswith(("README-", "config-")) and name.endswith(".tmp"))


# --- values


def parse_size(text: str) -> int:
    """Return the bytes of `5M`, `1.5G`, `5000000`: decimal units, upper case. Raises InvalidArgument."""
    factor = _SIZE_SUFFIXES.get(text[-1:])
    number = text if factor is None else text[:-1]
    try:
        size = float(number) * (factor or 1)
        if len(text) <= _LONGEST_NUMBER and size >= 0:
            return int(size)
    except (ValueError, OverflowError):
        pass
    raise InvalidArgument(f"{_shown(text)} is no size")


def _parse_int(text: str) -> int:
    try:
        if len(text) <= _LONGEST_NUMBER:
            return int(text)
    except ValueError:
        pass
    raise InvalidArgument(f"{_shown(text)} is no whole number")


def _parse_positive_int(text: str) -> int:
    number = _parse_int(text)
    if number < 1:
        raise InvalidArgument(f"{number} is less than 1")
    return number


def _parse_segment_size(text: str) -> int:
    size = parse_size(text)
    if size < 1:
        raise InvalidArgument(f"{_shown(text)} is less than 1 byte")
    if size >= MAX_SEGMENT_SIZE_LIMIT:
        raise InvalidArgument(f"{_shown(text)} is too large, it must be less than {MAX_SEGMENT_SIZE_LIMIT} bytes")
    return size


def _parse_bool(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise InvalidArgument(f"{_shown(text)} is neither yes nor no")
    return value


def _parse_id(text: str) -> bytes:
    digits = text.strip()
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    # Blanks between digits would be passed over.
    if len(digits) != 2 * ID_SIZE or len(value) != ID_SIZE:
        raise InvalidArgument(f"{_shown(text)} is not {2 * ID_SIZE} hex digits")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "...")


# --- the file


class RepositoryConfig:
    """The content of a repository's config.

    `segments_per_dir`: segments in a directory below data/. `max_segment_size`: bytes. `id`: 32 bytes. These never
    change; the properties can be set, and `render` gives the file they make. Unknown names and sections are kept.
    """

    version: int
    segments_per_dir: int
    max_segment_size: int
    id: bytes

    def __init__(self, parser: ConfigParser, path: str) -> None:
        """Check and take what `parser` read. See `parse`, `new`."""
        self._parser = parser
        self._path = path
        if not parser.has_section(_SECTION):
            raise InvalidRepositoryConfig(path, "no repository section found")
        self.version = self._required("version", _parse_int)
        if self.version != _VERSION:
            reason = f"repository version {self.version} is not supported by this borg version"
            raise InvalidRepositoryConfig(path, reason)
        self.segments_per_dir = self._required("segments_per_dir", _parse_positive_int)
        self.max_segment_size = self._required("max_segment_size", _parse_segment_size)
        self.id = self._required("id", _parse_id)
        # Read once to be sure of them; last_segment_checked matters to a check only, and to no other use.
        _ = self.append_only, self.storage_quota, self.additional_free_space

    @classmethod
    def parse(cls, text: str | bytes, path: str) -> RepositoryConfig:
        """Return the config in `text`. `path`: of the repository, for the error. Raises InvalidRepositoryConfig."""
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidRepositoryConfig(path, f"it is no UTF-8 text, byte {error.start} cannot be read") from None
        if "\0" in text:
            raise InvalidRepositoryConfig(path, "it contains a NUL character")
        return cls(_read(text, path), path)

    @classmethod
    def new(
        cls,
        *,
        repository_id: bytes,
        append_only: bool,
        storage_quota: int,
        segments_per_dir: int = DEFAULT_SEGMENTS_PER_DIR,
        max_segment_size: int = DEFAULT_SEGMENT_SIZE,
        additional_free_space: int = 0,
    ) -> RepositoryConfig:
        """Return the config of a new repository. `storage_quota`, `additional_free_space`: bytes; 0 is none."""
        parser = _new_parser()
        parser[_SECTION] = {
            "version": str(_VERSION),
            "segments_per_dir": str(segments_per_dir),
            "max_segment_size": str(max_segment_size),
            "append_only": str(int(append_only)),
            "storage_quota": str(storage_quota),
            "additional_free_space": str(additional_free_space),
            "id": repository_id.hex(),
        }
        return cls(parser, "")

    def render(self) -> bytes:
        """Return the content of the file."""
        return _write(self._parser).encode("utf-8")

    # --- what may change

    @property
    def append_only(self) -> bool:
        """Whether nothing may be removed from the segments."""
        return self._optional("append_only", _parse_bool, False)

    @append_only.setter
    def append_only(self, value: bool) -> None:
        self._parser.set(_SECTION, "append_only", str(int(value)))

    @property
    def storage_quota(self) -> int:
        """Bytes the repository may use; 0 is no limit."""
        return self._optional("storage_quota", parse_size, 0)

    @storage_quota.setter
    def storage_quota(self, size: int) -> None:
        self._parser.set(_SECTION, "storage_quota", str(size))

    @property
    def additional_free_space(self) -> int:
        """Bytes a commit leaves free on the file system, beside what it needs."""
        return self._optional("additional_free_space", parse_size, 0)

    @additional_free_space.setter
    def additional_free_space(self, size: int) -> None:
        self._parser.set(_SECTION, "additional_free_space", str(size))

    @property
    def last_segment_checked(self) -> int | None:
        """The segment where a partial check stopped. Raises InvalidRepositoryConfig when read, not before."""
        return self._optional("last_segment_checked", _parse_int, None)

    @last_segment_checked.setter
    def last_segment_checked(self, segment: int | None) -> None:
        if segment is None:
            self._parser.remove_option(_SECTION, "last_segment_checked")
        else:
            self._parser.set(_SECTION, "last_segment_checked", str(segment))

    @property
    def key(self) -> str:
        """The repokey without blanks around it, '' if there is none."""
        return self._parser.get(_SECTION, "key", fallback="").strip()

    @key.setter
    def key(self, text: str) -> None:
        """Take a key of one or more lines. Raises InvalidArgument for a text no config can hold."""
        if "\0" in text:
            raise InvalidArgument("the key contains a NUL character")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidArgument("the key cannot be written as UTF-8") from None
        # A reader ends a line at CR too, but the writer would put no TAB there: what follows could be another option.
        self._parser.set(_SECTION, "key", text.replace("\r\n", "\n").replace("\r", "\n"))
        # From now on the key is what a reader of the file will find.
        self._parser = _read(_write(self._parser), self._path)

    # --- reading

    def _required(self, name: str, parse: Callable[[str], _Value]) -> _Value:
        text = self._parser.get(_SECTION, name, fallback=None)
        if text is None:
            raise InvalidRepositoryConfig(self._path, f"option '{name}' is missing")
        return self._parsed(name, text, parse)

    def _optional(self, name: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
        text = self._parser.get(_SECTION, name, fallback=None)
        return default if text is None else self._parsed(name, text, parse)

    def _parsed(self, name: str, text: str, parse: Callable[[str], _Value]) -> _Value:
        try:
            return parse(text)
        except InvalidArgument as error:
            raise InvalidRepositoryConfig(self._path, f"option '{name}': {error}") from None


def _new_parser() -> ConfigParser:
    from configparser import ConfigParser

    return ConfigParser(interpolation=None)


def _read(text: str, path: str) -> ConfigParser:
    """Return a parser that has read `text`. Raises InvalidRepositoryConfig, which quotes no line: it may be the key."""
    import configparser
    import io

    parser = _new_parser()
    try:
        parser.read_file(io.StringIO(text, newline=None))
    except configparser.DuplicateOptionError as error:
        reason = f"option {_shown(error.option)} is there twice, again in line {error.lineno}"
    except configparser.DuplicateSectionError as error:
        reason = f"section {_shown(error.section)} is there twice, again in line {error.lineno}"
    except configparser.MissingSectionHeaderError as error:
        reason = f"line {error.lineno} is before any section"
    except configparser.ParsingError as error:
        reason = f"it cannot be understood, see line {', '.join(str(line) for line, _ in error.errors[:3])}"
    else:
        return parser
    raise InvalidRepositoryConfig(path, reason)


def _write(parser: ConfigParser) -> str:
    import io

    stream = io.StringIO()
    parser.write(stream)
    return stream.getvalue()
