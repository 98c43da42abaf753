"""One TOML file for all keys: an AuthorizedKeysCommand for OpenSSH.

In sshd_config, with this file owned by root and writable by nobody else:

    AuthorizedKeysCommand /opt/borg-serve/bin/python /etc/ssh/authorized_keys.py /etc/borg-serve.toml %t %k
    AuthorizedKeysCommandUser nobody

The file says for each key what its client may do, in the words of `borg-serve --help`:

    server = "/opt/borg-serve/bin/borg-serve"

    [clients.alice]
    key = "ssh-ed25519 AAAA... alice@laptop"
    restrict-to-path = ["/srv/backups/alice"]
    storage-quota = "500G"
    append-only = true

For a key that is not in it nothing is printed, and sshd refuses it. A file that cannot be understood lets nobody in.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from borg_serve_lib import ServeOptions, UsageError, parse_serve_arguments

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def options_of(name: str, client: Mapping[str, Any]) -> list[str]:
    """Return the words for borg-serve's command line. Raises UsageError for what it would not understand."""
    words = ["--client-name", name]
    for option, value in client.items():
        if option == "key":
            continue
        for each in value if isinstance(value, list) else [value]:
            if each is True:
                words.append(f"--{option}")
            elif each is not False:
                words.append(f"--{option}={each}")
    if not isinstance(parse_serve_arguments(words), ServeOptions):
        raise UsageError("a client's options must not ask for help")
    return words


def line_for(content: Mapping[str, Any], key: str) -> str | None:
    """Return the line of authorized_keys for a key (type and base64), None if it belongs to nobody."""
    for name, client in content["clients"].items():
        if client["key"].split()[:2] == key.split():
            command = shlex.join([content["server"], *options_of(name, client)])
            if "\n" in command:
                raise UsageError(f"client {name}: no option can hold a line break")
            escaped = command.replace("\\", "\\\\").replace('"', '\\"')
            return f'command="{escaped}",restrict {key}'
    return None


def main() -> int:
    configuration, *key = sys.argv[1:]
    try:
        line = line_for(tomllib.loads(Path(configuration).read_text()), " ".join(key))
    except (OSError, ValueError, LookupError, AttributeError, TypeError, UsageError) as error:
        print(f"{configuration}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if line is not None:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
