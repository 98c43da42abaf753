"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import borg_serve_lib


def pytest_report_header() -> str:
    """Say which package is tested, and refuse to test the source tree where the installed one is meant."""
    place = Path(borg_serve_lib.__file__).parent
    if os.environ.get("BORG_SERVE_LIB_INSTALLED") and "site-packages" not in place.parts:
        raise RuntimeError(f"the installed package is to be tested, but {place} is imported")
    return f"borg_serve_lib: {place}"
