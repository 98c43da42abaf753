"""The command `borg-serve`: argv, environment and umask in, exit status out."""

from __future__ import annotations

import os
import sys

import borg_serve_lib
from borg_serve_lib import (
    HelpRequested,
    Homes,
    UsageError,
    VersionRequested,
    account_home,
    parse_serve_arguments,
    resolve_options,
    serve_process,
)

SPEAKS_AS = "borg 1.4.5"


def main() -> int:
    """Run the server that the command line asks for; return the exit status of the process."""
    try:
        meaning = parse_serve_arguments(sys.argv[1:])
        if isinstance(meaning, HelpRequested):
            return _show_help()
        if isinstance(meaning, VersionRequested):
            return _show_version()
        options = resolve_options(meaning, os.environ.get("SSH_ORIGINAL_COMMAND"))
        os.umask(options.umask)
        return serve_process(
            options,
            homes=_homes(),
            borg_host_id=os.environ.get("BORG_HOST_ID"),
            modern_exit_codes=os.environ.get("BORG_EXIT_CODES") == "modern",
        )
    except UsageError as error:
        # A borg client reads stderr as UTF-8 and dies of anything else.
        os.write(2, f"borg-serve: {error}\n".encode("utf-8", "backslashreplace"))
        return error.exit_code


def _homes() -> Homes:
    return Homes(
        borg_base_dir=os.environ.get("BORG_BASE_DIR"),
        home=os.environ.get("HOME"),
        user=os.environ.get("USER"),
        is_root=os.geteuid() == 0,
        account_home=account_home,
    )


def _show_help() -> int:
    sys.stdout.write(borg_serve_lib.render_help())
    return 0


def _show_version() -> int:
    sys.stdout.write(f"borg-serve {borg_serve_lib.__version__} (speaks as {SPEAKS_AS})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
