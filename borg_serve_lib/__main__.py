"""`python -m borg_serve_lib`: the same as the command `borg-serve`."""

from __future__ import annotations

import sys

from borg_serve_cli import main

if __name__ == "__main__":
    sys.exit(main())
