"""What the interpreter has to read after the first call: modules, shared libraries, who has an account here."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME_SERVICE = ("/etc/passwd", "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/localtime")
_MAPPINGS = "/proc/self/maps"


def interpreter_files(*, not_above: Iterable[str]) -> tuple[str, ...]:
    """Return the files and directories that this process has to go on reading.

    `not_above`: absolute paths; a directory that one of these lies in is left out, since it would open what is beside
    them. So are the current directory and the script's: Python looks for modules there, but they may hold anything.
    The script's is known by standing first; of a module run with -m it may be where all modules are.
    """
    unwanted = {"", os.getcwd()}
    script = os.path.dirname(os.path.abspath(sys.argv[0]))
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    modules = (path for path in (sys.path[1:] if sys.path[:1] == [script] else sys.path) if path not in unwanted)
    found = dict.fromkeys([os.path.dirname(os.__file__), package, *modules, *_library_directories(), *_NAME_SERVICE])
    trees = [f"{tree.rstrip('/')}/" for tree in not_above]
    return tuple(path for path in found if not any(tree.startswith(f"{path.rstrip('/')}/") for tree in trees))


def _library_directories() -> Iterable[str]:
    """Return where the shared libraries are that are in use: those to come are there, too."""
    try:
        with open(_MAPPINGS, encoding="utf-8", errors="surrogateescape") as mappings:
            files = {line.split(maxsplit=5)[-1].rstrip("\n") for line in mappings if ".so" in line}
    except OSError:
        return ()
    return sorted({os.path.dirname(file) for file in files if file.startswith("/")})
