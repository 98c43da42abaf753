"""The command `borg-serve`: argv, environment and umask in, exit status out."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from borg_serve_lib import UsageError
from borg_serve_lib.errors import not_enough_memory

SPEAKS_AS = "borg 1.4.5"
LINGER = 0.1
"""Seconds before the end when something went wrong: a client that sees the end first does not show why."""


def main() -> int:
    """Do what the command line asks for; return the exit status of the process."""
    try:
        status = _run(sys.argv[1:])
    except UsageError as error:
        status = _complain(str(error))
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        status = _complain(str(not_enough_memory()))
    except Exception as error:  # noqa: BLE001 - whoever reads stderr is the client: it gets no traceback, the host does
        status = _complain(f"internal error of the server ({type(error).__name__})")
        with suppress(Exception):  # for want of memory or descriptors even this may fail
            _tell_host(error)
    if status:
        time.sleep(LINGER)
    return status


def _tell_host(error: Exception) -> None:
    from traceback import format_exception

    from borg_serve_lib.events.session import InternalFailure
    from borg_serve_lib.sinks.hostlog import HostLog

    HostLog().report(InternalFailure("the process", "".join(format_exception(error))))


def _complain(sentence: str) -> int:
    # A borg client reads stderr as UTF-8 and dies of anything else.
    with suppress(OSError):  # or nobody reads it
        os.write(2, f"borg-serve: {sentence}\n".encode("utf-8", "backslashreplace"))
    return 2


def _run(argv: list[str]) -> int:
    from borg_serve_lib import Homes, __version__, parse_serve_arguments, serve_process
    from borg_serve_lib.policy.options import HelpRequested, VersionRequested, render_help
    from borg_serve_lib.process import explain_command_line
    from borg_serve_lib.server import account_home
    from borg_serve_lib.sinks.hostlog import HostLog

    homes = Homes.of(os.environ, is_root=os.geteuid() == 0, account_home=account_home)
    if argv[:1] == ["explain"]:
        explanation = explain_command_line(argv[1:], homes=homes)
        return _say(explanation.text) or int(not explanation.allowed)
    if argv[:1] in (["repo"], ["manual"]):
        from importlib import import_module

        tool = import_module({"repo": "borg_serve_tools", "manual": "borg_serve_manual"}[argv[0]])
        return int(tool.main(argv[1:]))
    meaning = parse_serve_arguments(argv)
    if isinstance(meaning, HelpRequested):
        return _say(render_help())
    if isinstance(meaning, VersionRequested):
        return _say(f"borg-serve {__version__} (speaks as {SPEAKS_AS})\n")
    os.umask(meaning.umask)
    return serve_process(
        meaning,
        original_command=os.environ.get("SSH_ORIGINAL_COMMAND"),
        homes=homes,
        borg_host_id=os.environ.get("BORG_HOST_ID"),
        user=os.environ.get("LOGNAME", ""),
        client_address=os.environ.get("SSH_CONNECTION", "").partition(" ")[0],
        modern_exit_codes=os.environ.get("BORG_EXIT_CODES") == "modern",
        reporter=HostLog(),
    )


def _say(text: str) -> int:
    try:
        os.write(1, text.encode("utf-8", "backslashreplace"))
    except OSError:  # nobody reads it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
